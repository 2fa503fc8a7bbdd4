"""Fit the palette mixture to clips in color.

    python -m palette_vc_jax.training.mixture --clips CLIPS --output MODEL/mixture.json

writes the one that `sample.py --palette gmm --checkpoint MODEL` draws from; training writes it into
the model that it exports.
"""

import argparse

import numpy as np

from palette_vc_jax import atomic, cli
from palette_vc_jax.data.sources import ClipSource, open_clips
from palette_vc_jax.palette import gmm

FRAMES = 10  # a clip, as in the paper
PIXELS = 2000  # a frame; a mixture of 16 does not change with more


def training_pixels(source: ClipSource, seed: int) -> tuple[np.ndarray, int]:
    """Draw pixels `[N, 3]` uint8 from random frames of every clip; also count the frames."""
    rng = np.random.default_rng(seed)
    drawn, frames = [], 0
    for clip in cli.progress(range(len(source)), "reading clips", "clip"):
        length = source.length(clip)
        chosen = rng.choice(length, min(FRAMES, length), replace=False)
        for picture in source.read(clip, [int(frame) for frame in chosen]):
            pixels = picture.reshape(-1, 3)
            drawn.append(rng.choice(pixels, min(PIXELS, len(pixels)), replace=False))
            frames += 1
    return np.concatenate(drawn), frames


def fit(source: ClipSource, seed: int = 0, components: int = gmm.COMPONENTS) -> gmm.Mixture:
    """Fit a mixture to frames of every clip of `source`.

    Raises ValueError as reading clips does, and for clips with hardly any color.
    """
    pixels, frames = training_pixels(source, seed)
    return gmm.fit(pixels, components, seed, clips=len(source), frames=frames)


def main(argv: list[str] | None = None) -> None:
    """Fit a mixture to clips and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--clips", required=True, help="folder of the clips")
    add(
        "--source",
        default="folders",
        choices=["folders", "videos", "tfds"],
        help="what they are: folders of frames, video files, or a prepared TFDS davis",
    )
    add("--output", required=True, type=cli.path, help="JSON file, such as MODEL/mixture.json")
    add("--components", type=int, default=gmm.COMPONENTS, help="Gaussians")
    add("--seed", type=int, default=0, help="of frames, pixels and the fit")
    args = parser.parse_args(argv)
    atomic.check_targets([args.output])
    if not args.output.absolute().parent.is_dir():
        raise ValueError(f"{args.output}: cannot be written; give --output a file in a folder.")
    if args.components < 1 or args.seed < 0:
        raise ValueError("--components must be 1 or more, and --seed 0 or more.")
    mixture = fit(open_clips(args.source, args.clips), args.seed, args.components)
    gmm.save(mixture, args.output)
    print(f"mixture: {args.output}")


if __name__ == "__main__":
    cli.run(main)
