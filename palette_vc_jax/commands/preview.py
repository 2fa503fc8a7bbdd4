"""Show shots of a film under several palettes: `palette-vc preview FILM --output sheet.png`.

The contact sheet has a row for each shot, and a column for each palette and seed. Only a window of
each shot is colored.
"""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING

from palette_vc_jax import DEMO, cli
from palette_vc_jax.commands import flags

if TYPE_CHECKING:
    from palette_vc_jax import Plan

SHOTS = 6  # shots that are shown by default, evenly spaced


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("film", type=flags.path, help="film, folder of frames, or image")
    add("--output", type=flags.path, required=True, help="PNG file for the contact sheet")
    add("--checkpoint", type=flags.path, default=DEMO, help="folder of a model")
    add(
        "--palettes",
        nargs="+",
        default=["auto", "none"],
        metavar="SPEC",
        help="palettes, each as sample.py --palette takes it",
    )
    add("--seeds", type=_numbers, default=[0], help="seeds, with commas between them")
    add(
        "--shots",
        type=_numbers,
        help=f"numbers of shots, counted from 1, with commas between them; by default {SHOTS}",
    )
    add("--plan", type=flags.path, help="plan file that names the shots")
    add("--overwrite", action="store_true", help="replace an existing output")
    flags.add_damaged(parser)
    flags.add_words_flags(parser)
    flags.add_settings(parser)
    # What palettes are made with, as for sample.py.
    parser.set_defaults(palette="auto", palette_scope="film", dry_run=False, seed=0, reference=None)
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; give numbers, such as 1,5") from None


def main(argv: list[str]) -> None:
    """Write a contact sheet."""
    args = parse(argv)
    from palette_vc_jax import atomic, default_settings, load_model, open_film, plan_film
    from palette_vc_jax.commands.coloring import palette_maker
    from palette_vc_jax.palette.spec import mixture_for, named_file
    from palette_vc_jax.parallel.compile_cache import use_compile_cache
    from palette_vc_jax.parallel.device_memory import use_most_memory
    from palette_vc_jax.parallel.processes import check_one_host
    from palette_vc_jax.sampling.colorize import check_hardware, networks_for
    from palette_vc_jax.sampling.plan_file import (
        check_end,
        cuts_of,
        read_film_settings,
        read_plan,
    )
    from palette_vc_jax.sampling.preview import Column, contact_sheet, preview
    from palette_vc_jax.sampling.side_files import check_side_files

    if args.output.suffix.lower() != ".png":
        raise ValueError(f"{args.output}: a contact sheet is a PNG file; give a name with .png.")
    for seed in args.seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed {seed}; give whole numbers from 0 to 2^32 - 1.")
    check_one_host()
    use_compile_cache(args.compile_cache)
    use_most_memory()
    film = open_film(args.film, args.damaged)
    read = [film.path, *film.files, *filter(None, map(named_file, args.palettes))]
    check_side_files(args.output, [], read, args.overwrite)
    model = load_model(args.checkpoint)
    of_plan = read_film_settings(args.plan) if args.plan else {}
    settings = default_settings(model.config, **(of_plan | flags.settings_of(args)))
    check_hardware(settings)
    shots = read_plan(args.plan, film.rate) if args.plan else None
    cuts = cuts_of(shots) if shots else None

    @functools.cache
    def plan() -> Plan:
        with cli.reporting("shots", "frame", film.frames) as report:
            found = plan_film(film, model, settings, None, report, cuts)
        if shots:
            check_end(shots, found.frames)
        return found

    networks = functools.cache(lambda: networks_for(model, plan().settings, plan().runs))
    mixture = mixture_for(args.palettes[0], model.folder)
    palette_of = palette_maker(args, model, mixture, plan, lambda: model, networks, None)
    several = len(args.seeds) > 1
    columns = [
        Column(f"{spec}, seed {seed}" if several else spec, palette_of(spec, None, seed), seed)
        for spec in args.palettes
        for seed in args.seeds
    ]
    numbers = _chosen(plan(), args.shots)
    with cli.reporting("coloring", "window", len(numbers) * len(columns)) as report:
        rows = list(preview(plan(), networks(), numbers, columns, report))
    with atomic.file(args.output) as partial:
        contact_sheet(columns, rows).save(partial, "PNG")
    cli.print_line(f"contact sheet: {args.output}")


def _chosen(plan: Plan, shots: list[int] | None) -> list[int]:
    """Return the numbers of shots, counted from 0."""
    count = len(plan.shots)
    if shots is None:
        shown = min(SHOTS, count)
        return [place * count // shown for place in range(shown)]
    for number in shots:
        if not 1 <= number <= count:
            raise ValueError(f"shot {number}; the film has {count}, so give 1 to {count}.")
    return sorted({number - 1 for number in shots})
