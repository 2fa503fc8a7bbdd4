"""Make a palette without coloring a film: `palette-vc palette SPEC --output FILE`."""

import argparse
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from palette_vc_jax import DEMO, atomic
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
        '"#rrggbb,tomato,..." or file:PALETTE.json',
    )
    add(
        "--frame",
        metavar="FILM@TIME",
        help="what words alone looks at: a film, frame folder or picture, and seconds or "
        "h:mm:ss in it",
    )
    add(
        "--output",
        required=True,
        type=flags.path,
        help="palette file (.json); a picture of the colors (.swatch.png) is written beside it",
    )
    add(
        "--proposals",
        type=int,
        default=1,
        help="palettes to make from words or gmm, with seeds from --seed on: files "
        "NAME.1.json, NAME.2.json, ..., and one picture of them all",
    )
    add("--seed", type=int, default=0, help="of gmm, image, and of proposals from words")
    add(
        "--temperature",
        type=float,
        help="how far proposals from words differ, 0 to 2 (0 for one, 0.7 for more)",
    )
    add(
        "--checkpoint",
        type=flags.path,
        default=DEMO,
        help="model whose mixture and image tower serve",
    )
    flags.add_words_flags(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Make the palettes that the command line asks for; write, draw and print them."""
    args = parse(argv)
    _check(args)
    # Imported here so that --help and a mistyped flag answer at once.
    from palette_vc_jax.palette.file import save_palette, save_sheet
    from palette_vc_jax.palette.words import remarks

    files, picture = _targets(args)
    palettes = make_palettes(args)
    for palette, file in zip(palettes, files, strict=True):
        for line in remarks(palette) if palette is palettes[0] else []:
            print(line, file=sys.stderr)
        save_palette(palette, file)
        print(f"{','.join(palette.hex())}  {file}")
    save_sheet(palettes, picture)
    print(f"picture: {picture}")


def make_palettes(args: argparse.Namespace) -> list:
    """Make as many palettes as are asked for, each with a seed of its own."""
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
            raise ValueError("palette none has no colors; give another.")
        palettes.append(palette)
    return palettes


def parse_time(text: str) -> float:
    """Read seconds, m:ss or h:mm:ss. Raises ValueError for anything else."""
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
    """Split FILM@TIME."""
    path, at, time = text.rpartition("@")
    return (text, "0") if not at or Path(text).exists() else (path, time)


def _mixture(args: argparse.Namespace) -> Path:
    own = args.checkpoint / "mixture.json"
    return own if own.exists() else DEMO / "mixture.json"


def _targets(args: argparse.Namespace) -> tuple[list[Path], Path]:
    """Return the palette files and the picture to write."""
    files = [args.output]
    if args.proposals > 1:
        files = [args.output.with_suffix(f".{n}.json") for n in range(1, args.proposals + 1)]
    return files, args.output.with_suffix(".swatch.png")


def _check_targets(args: argparse.Namespace) -> None:
    """Raise ValueError if a file would be replaced that this command did not write."""
    from palette_vc_jax.palette.file import is_sheet, load_palette
    from palette_vc_jax.palette.spec import named_file

    files, picture = _targets(args)
    read = [named_file(args.spec), _mixture(args), *flags.named_files(args)]
    if args.frame:
        read.append(Path(_frame(args.frame)[0]))
    atomic.check_targets([*files, picture], filter(None, read))
    for file in filter(Path.exists, files):
        load_palette(file)
    if picture.exists() and not is_sheet(picture):
        raise ValueError(
            f"{picture}: exists and is not a palette's picture; give another --output."
        )


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError in one line for flags that do not fit together."""
    kind, _, rest = args.spec.partition(":")
    kind = kind.strip().lower()
    if args.output.suffix.lower() != ".json":
        raise ValueError(f"{args.output}: a palette is written as JSON; give a name in .json.")
    if not args.output.absolute().parent.is_dir():
        raise ValueError(f"{args.output.parent}: no such folder; make it first.")
    if not 1 <= args.proposals <= MAX_PROPOSALS:
        raise ValueError(f"{args.proposals} proposals; give 1 to {MAX_PROPOSALS}.")
    if not 0 <= args.seed < 2**32 - MAX_PROPOSALS:
        raise ValueError(f"seed {args.seed}; give a whole number from 0 to 2^32 - 51.")
    if args.temperature is not None and not 0.0 <= args.temperature <= 2.0:
        raise ValueError(f"temperature {args.temperature}; give 0 to 2.")
    if args.proposals > 1 and kind != "words" and args.spec.strip().lower() != "gmm":
        raise ValueError(f"{args.spec} has one palette only; words and gmm have more proposals.")
    if args.frame and (kind != "words" or rest.strip()):
        raise ValueError("--frame is looked at for words alone; leave it out, or give words.")
    if kind == "words" and not rest.strip() and not args.frame:
        raise ValueError("words alone names what a frame shows; give it by --frame FILM@TIME.")
    _check_targets(args)
