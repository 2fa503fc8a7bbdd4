"""Make a palette without coloring a film: `palette-vc palette SPEC --output FILE`."""

import argparse
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from palette_vc_jax import DEMO, atomic, cli
from palette_vc_jax.commands import flags

MAX_PROPOSALS = 50
TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "spec",
        metavar="SPEC",
        help='words:"autumn, a red tram, ...", words (what --frame shows), image:PATH, gmm[:SEED], '
        '"#rrggbb,tomato,...", rrggbb-rrggbb-..., a link of coolors.co, or file:PALETTE (.json, '
        ".ase, .aco, .gpl or .hex)",
    )
    add(
        "--frame",
        metavar="FILM@TIME",
        help="frame for the spec 'words': a film, frame folder or image, and the time in it in "
        "seconds or h:mm:ss",
    )
    add(
        "--output",
        required=True,
        type=flags.path,
        help="palette file (.json); an image of the colors (.swatch.png) is written with it",
    )
    add("--overwrite", action="store_true", help="replace files that exist")
    add(
        "--proposals",
        type=int,
        default=1,
        help="number of palettes to make from words or gmm, with seeds from --seed on: files "
        "NAME.1.json, NAME.2.json, ..., and one image of all",
    )
    add("--seed", type=int, default=0, help="seed of gmm, image, and of proposals from words")
    add(
        "--temperature",
        type=float,
        help="variation of proposals from words, 0 to 2 (0 for one proposal, 0.7 for more)",
    )
    add(
        "--checkpoint",
        type=flags.path,
        default=DEMO,
        help="model whose mixture and image tower are used",
    )
    flags.add_words_flags(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Make the requested palettes, and write, draw and print them."""
    args = parse(argv)
    _check(args)
    # Import here so that --help and errors in flags are fast.
    from palette_vc_jax.palette.file import save_palette, save_sheet
    from palette_vc_jax.palette.words import remarks

    files, image = _targets(args)
    palettes = make_palettes(args)
    for palette, file in zip(palettes, files, strict=True):
        for line in remarks(palette) if palette is palettes[0] else []:
            cli.print_line(line, sys.stderr)
        save_palette(palette, file)
        cli.print_line(f"{','.join(palette.hex())}  {file}")
    save_sheet(palettes, image)
    cli.print_line(f"image: {image}")


def make_palettes(args: argparse.Namespace) -> list:
    """Return the requested number of palettes, each with its own seed."""
    from palette_vc_jax.palette.spec import mixture_for, parse_spec
    from palette_vc_jax.palette.words import from_words

    temperature = args.temperature
    if temperature is None:
        temperature = 0.0 if args.proposals == 1 else 0.7
    mixture = mixture_for(args.spec, args.checkpoint)
    name_tags = functools.cache(lambda: _name_tags(args)) if args.frame else None
    palettes = []
    for seed in range(args.seed, args.seed + args.proposals):
        given = (seed, temperature) if temperature else (None, None)
        palette = parse_spec(
            args.spec,
            mixture,
            seed,
            lambda text, seed=seed, given=given: from_words(
                text, flags.proposer_of(args, *given), name_tags, seed, temperature
            ),
        )
        if palette is None:
            raise ValueError("the palette none has no colors; give another palette.")
        palettes.append(palette)
    return palettes


def parse_time(text: str) -> float:
    """Return the seconds of a time such as 12.5, m:ss or h:mm:ss.

    Raises:
        ValueError: if `text` has another form.
    """
    match = TIME.fullmatch(text.strip())
    if not match:
        raise ValueError(f"time {text!r}; give seconds (12.5) or h:mm:ss.")
    hours, minutes, seconds = match.groups()
    return 3600.0 * int(hours or 0) + 60.0 * int(minutes or 0) + float(seconds)


def _name_tags(args: argparse.Namespace) -> tuple[Sequence, str]:
    from palette_vc_jax.sampling.tags import frame_at, gray_frame, load_tagger
    from palette_vc_jax.video.film import open_film

    path, time = _frame(args.frame)
    seconds = parse_time(time)
    tagger, name = load_tagger(args.tagger, args.checkpoint)
    film = open_film(path)
    return tagger(gray_frame(frame_at(film, seconds), film)[None]), name


def _frame(text: str) -> tuple[str, str]:
    """Split FILM@TIME into the film and the time, by default 0."""
    path, at, time = text.rpartition("@")
    return (text, "0") if not at or Path(text).exists() else (path, time)


def _mixture(args: argparse.Namespace) -> Path:
    own = args.checkpoint / "mixture.json"
    return own if own.exists() else DEMO / "mixture.json"


def _targets(args: argparse.Namespace) -> tuple[list[Path], Path]:
    """Return the palette files and the image to write."""
    files = [args.output]
    if args.proposals > 1:
        files = [args.output.with_suffix(f".{n}.json") for n in range(1, args.proposals + 1)]
    return files, args.output.with_suffix(".swatch.png")


def _check_targets(args: argparse.Namespace) -> None:
    """Raise ValueError if the command would replace a file that it must not replace."""
    from palette_vc_jax.palette.spec import named_file

    files, image = _targets(args)
    read = [named_file(args.spec), _mixture(args), *flags.named_files(args)]
    if args.frame:
        read.append(Path(_frame(args.frame)[0]))
    atomic.check_targets([*files, image], filter(None, read), args.overwrite)


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError for flags that are not valid or exclude each other."""
    kind, _, rest = args.spec.partition(":")
    kind = kind.strip().lower()
    if args.output.suffix.lower() != ".json":
        raise ValueError(f"{args.output}: palettes are JSON; give a name that ends in .json.")
    if not args.output.absolute().parent.is_dir():
        raise ValueError(f"{args.output.parent}: no such folder; create it first.")
    if not 1 <= args.proposals <= MAX_PROPOSALS:
        raise ValueError(f"{args.proposals} proposals; give 1 to {MAX_PROPOSALS}.")
    if not 0 <= args.seed < 2**32 - MAX_PROPOSALS:
        raise ValueError(f"seed {args.seed}; give a whole number from 0 to 2^32 - 51.")
    if args.temperature is not None and not 0.0 <= args.temperature <= 2.0:
        raise ValueError(f"temperature {args.temperature}; give 0 to 2.")
    if args.proposals > 1 and kind != "words" and args.spec.strip().lower() != "gmm":
        raise ValueError(f"{args.spec} has one palette only; use words or gmm with --proposals.")
    if args.frame and (kind != "words" or rest.strip()):
        raise ValueError("--frame is for words alone, without text; leave out one of them.")
    if kind == "words" and not rest.strip() and not args.frame:
        raise ValueError("words without text needs a frame; add --frame FILM@TIME.")
    _check_targets(args)
