"""Color a film: `python sample.py --input FILM --output OUT`."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from palette_vc_jax import DEMO, cli
from palette_vc_jax.commands import flags

if TYPE_CHECKING:  # imported by the functions that need them, so that --help answers at once
    from palette_vc_jax import Film, Model, Palette, Plan
    from palette_vc_jax.palette.proposals import Tag
    from palette_vc_jax.sampling.reference import Reference

# Flags that replace a setting of the model's own: (type, what it means).
SETTINGS = {
    "short_side": (int, "pixels of the short side of the pictures that the model sees"),
    "steps": (int, "denoising steps"),
    "sigma_min": (float, "noise level of the last step"),
    "sigma_max": (float, "noise level of the first step"),
    "solver": (str, "euler or dpmpp_2m"),
    "shared_noise_fraction": (float, "share of the noise that all frames have in common, 0 to 1"),
    "guidance_scale": (float, "strength of the palette; 1 is off and costs half"),
    "window": (int, "frames denoised together"),
    "overlap": (int, "frames shared by neighboring windows"),
    "window_mode": (str, "sliding or anchored"),
    "window_weights": (str, "triangular or uniform"),
    "blending": (str, "step: windows are averaged at each step; final: once"),
    "windows_per_batch": (int, "windows evaluated together"),
    "fps": (int, "micro-conditioning: frames per second - 1"),
    "motion_bucket": (int, "micro-conditioning: amount of motion, 0 to 255"),
    "noise_augmentation": (float, "deviation of noise added to the gray frames, 0 to 1"),
}


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--input", required=True, help="film, folder of frames, or picture")
    add(
        "--output",
        required=True,
        help=".mp4 (H.264), .mkv (FFV1, keeps every bit of luma), .mov (ProRes), a picture's name "
        "for a picture, or a folder for PNG frames",
    )
    add(
        "--checkpoint",
        default=str(DEMO),
        help="folder of a converted or trained model, or the --workdir of a run",
    )
    add(
        "--weights",
        choices=("ema", "raw"),
        default="ema",
        help="of a run's newest checkpoint: the moving average over steps, or the last step's",
    )
    add(
        "--palette",
        default="gmm",
        help='image:PATH, gmm[:SEED], "#rrggbb,tomato,..." (1 to 5 colors), file:PALETTE.json, '
        'words:"autumn, a red tram, ..." (things and the colors they have), words (what the film '
        "shows) or none",
    )
    add("--seed", type=int, default=0, help="of the noise, and of gmm where it names none")
    add("--luma", choices=("source", "model"), default="source", help="whose luma is written")
    add("--report", action="store_true", help="judge the film, in OUTPUT's .report.html")
    add("--dry_run", action="store_true", help="print what would be done, as JSON, and stop")
    flags.add_words_flags(parser)
    group = parser.add_argument_group("settings, in place of the model's own")
    for name, (kind, meaning) in SETTINGS.items():
        group.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=meaning)
    group.add_argument(
        "--reference",
        default=argparse.SUPPRESS,
        help="what the image tower sees: gray (each shot's middle frame), image:PATH (a picture in "
        "color, the paper's condition) or none",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Color the film that the command line names."""
    args = parse(argv)
    from palette_vc_jax import color_film, default_settings, load_model, open_film, plan_film
    from palette_vc_jax.palette.spec import mixture_for
    from palette_vc_jax.parallel.processes import check_one_host
    from palette_vc_jax.sampling.job import describe
    from palette_vc_jax.video.write import check_output

    if not 0 <= args.seed < 2**32:
        raise ValueError(f"seed {args.seed}; a whole number from 0 to 2^32 - 1 is needed.")
    check_one_host()
    output, folder = (cli.local_path(getattr(args, n), f"--{n}") for n in ("output", "checkpoint"))
    film = open_film(cli.local_path(args.input, "--input"))
    check_output(output, film)
    run = _open_run(folder, args.weights)
    model = run or load_model(folder, ())  # the weights are read last, when all else is right
    mixture = mixture_for(args.palette, model.folder)
    side_files = _check_side_files(args, film, output, mixture)
    given = {name: getattr(args, name) for name in SETTINGS if hasattr(args, name)}
    settings = default_settings(model.config, **given)
    reference = _reference(args, model)

    @functools.cache
    def plan() -> Plan:
        with cli.reporting("shots", "frame", film.frames) as report:
            return plan_film(film, model, settings, reference, report)

    palette = _palette(args, model, mixture, plan)
    if args.dry_run:
        print(json.dumps(describe(plan(), palette, args.seed), indent=2))
        return
    model = run or load_model(folder)
    with cli.reporting("coloring", "frame", plan().frames) as report:
        color_film(plan(), output, model, palette, None, report, seed=args.seed, luma=args.luma)
    if args.report:
        from palette_vc_jax.evaluation.quality import write_report

        write_report(side_files["report"], film, output, plan().shots, palette)
    for kind, path in {"film": output, **side_files}.items():
        print(f"{kind}: {path}")


def _open_run(folder: Path, weights: str) -> Model | None:
    """Return the model of a run's newest checkpoint, or None if `folder` is no run."""
    from palette_vc_jax.training.export import has_checkpoints, open_run

    return open_run(folder, weights) if has_checkpoints(folder) else None


def _check_side_files(
    args: argparse.Namespace, film: Film, output: Path, mixture: Path
) -> dict[str, Path]:
    """Check that the run replaces nothing of the user's; return its side files, by kind."""
    from palette_vc_jax.palette.spec import named_file
    from palette_vc_jax.sampling.job import check_side_files, side_files

    beside = side_files(output, args.palette.strip().lower() != "none", args.report)
    read = [film.path, *film.files, named_file(args.palette), mixture, *flags.named_files(args)]
    check_side_files(output, beside.values(), [path for path in read if path])
    return beside


def _reference(args: argparse.Namespace, model: Model) -> Reference:
    """Return what the image tower sees."""
    from palette_vc_jax.sampling.reference import default_reference, parse_reference

    if hasattr(args, "reference"):
        return parse_reference(args.reference)
    return default_reference(model.config.sampling)


def _palette(
    args: argparse.Namespace, model: Model, mixture: Path, plan: Callable[[], Plan]
) -> Palette | None:
    """Read `--palette`; what words find in the film needs its plan."""
    from palette_vc_jax.palette.spec import parse_spec
    from palette_vc_jax.palette.words import from_words, remarks
    from palette_vc_jax.sampling.tags import load_tagger, tag_film

    def name_tags() -> tuple[list[Tag], str]:
        tagger, name = load_tagger(args.tagger, model.folder)
        return tag_film(plan().film, plan().shots, tagger), name

    def read_words(text: str) -> Palette:
        return from_words(text, flags.proposer_of(args), name_tags)

    palette = parse_spec(args.palette, mixture, args.seed, read_words)
    for line in remarks(palette):
        print(line, file=sys.stderr)
    return palette
