"""Fit the palette mixture; `python -m palette_vc_jax.training.mixture --help` says how."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from palette_vc_jax import cli
from palette_vc_jax.data.sources import list_clips
from palette_vc_jax.palette import gmm
from palette_vc_jax.video.film import find_pictures
from palette_vc_jax.video.read import read_picture

FRAMES = 10  # a clip, as in the paper
PIXELS = 2000  # a frame; a mixture of 16 does not change with more


def training_pixels(clips: list[Path], seed: int) -> tuple[np.ndarray, int]:
    """Draw pixels `[N, 3]` uint8 from random frames of every clip; also count the frames."""
    rng = np.random.default_rng(seed)
    drawn, frames = [], 0
    for clip in tqdm(clips, desc="reading clips", unit="clip", disable=None):
        paths = find_pictures(clip)
        for index in rng.choice(len(paths), min(FRAMES, len(paths)), replace=False):
            pixels = read_picture(paths[index]).reshape(-1, 3)
            drawn.append(rng.choice(pixels, min(PIXELS, len(pixels)), replace=False))
            frames += 1
    return np.concatenate(drawn), frames


def main(argv: list[str] | None = None) -> None:
    """Fit a mixture on a folder of clips and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--clips", required=True, help="folder of clips, each a folder of frames")
    parser.add_argument("--output", required=True, help="JSON file")
    parser.add_argument("--components", type=int, default=gmm.COMPONENTS, help="Gaussians")
    parser.add_argument("--seed", type=int, default=0, help="of frames, pixels and the fit")
    args = parser.parse_args(argv)
    clips = list_clips(args.clips)
    pixels, frames = training_pixels(clips, args.seed)
    mixture = gmm.fit(pixels, args.components, args.seed, clips=len(clips), frames=frames)
    gmm.save(mixture, args.output)
    print(f"mixture: {args.output}")


if __name__ == "__main__":
    cli.run(main)
