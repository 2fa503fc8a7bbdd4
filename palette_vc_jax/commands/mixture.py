"""Fit the palette mixture to color clips: `palette-vc mixture --clips CLIPS --output FILE`.

`sample.py --palette gmm --checkpoint MODEL` draws from MODEL/mixture.json. Training writes that
file with the model that it exports.
"""

import argparse

from palette_vc_jax import atomic, cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--clips", required=True, help="folder of the clips")
    add(
        "--source",
        default="folders",
        choices=["folders", "videos", "photos", "tfds"],
        help="kind of the clips: folders of frames, video files, or a prepared TFDS davis",
    )
    add(
        "--output",
        required=True,
        type=flags.path,
        help="JSON file, such as MODEL/mixture.json",
    )
    add("--overwrite", action="store_true", help="replace a file that exists")
    add("--components", type=int, default=16, help="number of Gaussians")
    add("--seed", type=int, default=0, help="seed of the frames, the pixels and the fit")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Fit a mixture to clips and write it."""
    args = parse(argv)
    from palette_vc_jax.data.sources import open_clips
    from palette_vc_jax.palette import gmm
    from palette_vc_jax.training.mixture import fit

    atomic.check_targets([args.output], overwrite=args.overwrite)
    if not args.output.absolute().parent.is_dir():
        raise ValueError(f"{args.output}: its folder does not exist; create it first.")
    if args.components < 1 or args.seed < 0:
        raise ValueError("--components must be 1 or more, and --seed 0 or more.")
    mixture = fit(open_clips(args.source, args.clips), args.seed, args.components)
    gmm.save(mixture, args.output)
    cli.print_line(f"mixture: {args.output}")
