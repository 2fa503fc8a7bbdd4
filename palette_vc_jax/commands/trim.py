"""Change the colors of a finished film: `palette-vc trim --input COLORED --output OUT`.

No model runs, so this takes seconds. The film's luma, sound, times and size stay.
"""

import argparse
from pathlib import Path

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--input", required=True, help="film, folder of frames, or image, in color")
    add("--output", required=True, help="as for sample: .mp4, .mkv, .mov, -, an image or a folder")
    add("--overwrite", action="store_true", help="replace an output that exists")
    add("--saturation", type=float, default=1.0, help="factor of all colors, 0 to 10")
    add(
        "--strength",
        type=float,
        default=1.0,
        help="opacity of the colors over the gray film, 0 (gray) to 1",
    )
    add(
        "--smooth",
        type=int,
        default=1,
        metavar="FRAMES",
        help="average colors over this odd number of frames, 1 to 25, never across a cut",
    )
    add("--neutral_dark", type=float, default=0.0, help="luma, 0 to 1, below which color fades out")
    add(
        "--neutral_bright",
        type=float,
        default=1.0,
        help="luma, 0 to 1, above which color fades out",
    )
    flags.add_damaged(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Trim a film."""
    args = parse(argv)
    from palette_vc_jax.sampling.trim import TrimSettings, trim_film
    from palette_vc_jax.video.film import open_film
    from palette_vc_jax.video.pipes import from_stdin, to_stdout

    settings = TrimSettings(
        args.saturation, args.strength, args.smooth, args.neutral_dark, args.neutral_bright
    )
    for text, flag in ((args.input, "--input"), (args.output, "--output")):
        cli.local_path(text, flag)
    with from_stdin(args.input) as source, to_stdout(args.output) as output:
        film = open_film(Path(source), args.damaged)
        with cli.reporting("trimming", "frame", film.frames) as report:
            record = trim_film(film, Path(output), settings, report, args.overwrite)
        cli.print_line(f"film: {output}")
        cli.print_line(f"settings: {record}")
