"""Measure colored films beside the truth: `python evaluate.py --reference DIR --output DIR`.

With `--checkpoint` and `--tables`, colors the clips of `--data` first, under the palettes of the
paper's ablations, and prints its tables I and II.
"""

import argparse
import functools
from pathlib import Path

from palette_vc_jax import cli
from palette_vc_jax.commands import flags


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--reference",
        type=flags.path,
        help="the truth: a folder of films or of frame folders; one film",
    )
    add(
        "--output",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="films to measure, by the names of the reference; may be given several times",
    )
    add("--metrics", help="names, commas between; all that there are, if not given")
    add(
        "--weights",
        type=flags.path,
        help="folder of the networks' weights (convert/metric_weights.py)",
    )
    add(
        "--json",
        type=flags.path,
        default=Path("evaluation.json"),
        help="file to write (%(default)s)",
    )
    add(
        "--flow",
        type=flags.path,
        help="folder of CLIP/forward/*.flo and CLIP/backward/*.flo between the truth's frames, for "
        "the warp error; computed if not given",
    )
    add("--resize", action="store_true", help="bring outputs of other sizes to the reference's")
    group = parser.add_argument_group("the paper's tables")
    add = group.add_argument
    add("--tables", action="store_true", help="print tables I and II, as --checkpoint does")
    add("--checkpoint", type=flags.path, help="model folder to color with")
    add(
        "--data",
        type=flags.path,
        help="DAVIS 2017, or a folder of films; in place of --reference",
    )
    add("--split", default="val", help="list of DAVIS' clips (%(default)s)")
    add(
        "--checkpoint_a",
        type=flags.path,
        help="model retrained without the palette, for row A",
    )
    add(
        "--palettes",
        type=flags.path,
        help="JSON from clips to colors, for row C in place of words",
    )
    add(
        "--workdir",
        type=flags.path,
        default=Path("runs/evaluation"),
        help="for films (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of noise and mixture; the n-th clip's is seed + n")
    flags.add_words_flags(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line names."""
    args = parse(argv)
    # Imported here so that --help and a mistyped flag answer at once.
    from palette_vc_jax.metrics import comparison

    args.words_files = flags.named_files(args)
    args.proposer = functools.partial(flags.proposer_of, args)
    outputs = dict(_named(text) for text in args.output)
    if len(outputs) < len(args.output):
        raise ValueError("two outputs of one name; write --output NAME=DIR with names that differ.")
    if args.checkpoint or args.data or args.tables:
        for flag in ("checkpoint", "data"):
            if not getattr(args, flag):
                raise ValueError(
                    f"--{flag} is missing; the paper's tables need --checkpoint MODEL and --data "
                    "DAVIS, or a folder of films in color."
                )
        comparison.print_tables(args, outputs)
        return
    if not args.reference or not outputs:
        raise ValueError("give --reference DIR and --output DIR, or --checkpoint DIR --data DIR.")
    comparison.print_comparison(args, outputs)


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(path)
    return Path(text).resolve().name, Path(text)


if __name__ == "__main__":
    cli.run(main)
