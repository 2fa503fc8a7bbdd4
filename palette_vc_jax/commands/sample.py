"""Color a film: `python sample.py --input FILM --output OUT`."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from palette_vc_jax import DEMO, cli
from palette_vc_jax.commands import flags

if TYPE_CHECKING:  # functions import these themselves, so that --help is fast
    from palette_vc_jax import Film, Model, Palette, Plan
    from palette_vc_jax.palette.proposals import Tag
    from palette_vc_jax.sampling.reference import Reference


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--input", required=True, help="film, folder of frames, image, or - for standard input")
    add(
        "--output",
        required=True,
        help=".mp4 (H.264), .mkv (FFV1, with exactly the source's luma), .mov (ProRes), .png or "
        ".jpg for an image, a folder for PNG frames, or .y4m or - for Y4M on standard output",
    )
    add(
        "--checkpoint",
        default=str(DEMO),
        help="folder of a converted or trained model, or the --workdir of a run",
    )
    flags.add_run_weights(parser)
    add(
        "--palette",
        default=argparse.SUPPRESS,
        help="auto (the default: the model's own colors of a few frames, made as colorful as its "
        'training film), image:PATH, gmm[:SEED], "#rrggbb,tomato,..." (1 to 5 colors), '
        'file:PALETTE.json, words:"autumn, a red tram, ..." (the usual colors of things), words '
        "(of the things in the film) or none",
    )
    add(
        "--region",
        action="append",
        default=[],
        metavar="MASK=SPEC",
        help="a part of the picture with a palette of its own, several times: MASK is "
        "x,y,w,h@POSITION (pixels), IMAGE@POSITION (white is inside) or a folder with an image "
        "for each frame, SPEC as in --palette; a mask of one frame follows the picture through "
        "its shot; POSITION is a frame's number or a time (120, 4.8s, 1:04.8)",
    )
    add(
        "--keyframe",
        action="append",
        default=[],
        metavar="POSITION=IMAGE",
        help="a frame whose colors are known, several times: the frames around it follow",
    )
    add("--seed", type=int, default=0, help="seed of the noise, and of gmm without SEED")
    add("--luma", choices=("source", "model"), default="source", help="luma of the output")
    add(
        "--damaged",
        choices=("stop", "repeat", "drop"),
        default="stop",
        help="damaged frames: refuse the film, show the frame before again, or leave them out; a "
        "film that is cut off ends where it is cut",
    )
    add(
        "--audio",
        choices=("copy", "aac", "flac", "none"),
        default="copy",
        help="audio of the output: copied, encoded again, or none",
    )
    add(
        "--codec",
        help="h264, hevc, av1, ffv1 or prores; png, tiff, png16 or tiff16 (16 bits) in a folder; "
        "default: that of the extension",
    )
    add(
        "--quality",
        type=float,
        help="constant rate factor of h264 and hevc (0 to 51) and av1 (0 to 63), 0 is best; "
        "default: a PSNR of 45 dB on the luma, also in grain",
    )
    add(
        "--playable",
        action="store_true",
        help="8 bits, 4:2:0, limited range and even sides, as QuickTime and browsers need",
    )
    position = "POSITION, a frame's number or a time"
    add("--start", metavar="POSITION", help=f"where an excerpt begins: {position}; default: 0")
    add("--end", metavar="POSITION", help="where an excerpt ends; this frame is left out")
    add("--frames", type=int, metavar="N", help="length of an excerpt in frames, instead of --end")
    add("--report", action="store_true", help="write a quality report to OUTPUT's .report.html")
    add("--dry_run", action="store_true", help="print the plan as JSON, and stop")
    add(
        "--topology",
        help="compile the networks for hardware that is not there, print the memory that they "
        "need, and stop: a TPU slice or GPUs, such as v5e:2x4, h100:1 or rtx4090:1",
    )
    flags.add_words_flags(parser)
    flags.add_settings(parser).add_argument(
        "--reference",
        default=argparse.SUPPRESS,
        help="input of the image tower: gray (each shot's middle frame), image:PATH (a color "
        "image, as in the paper) or none",
    )
    args = parser.parse_args(argv)
    if not hasattr(args, "palette"):
        args.palette = "gmm" if "preset" in args else "auto"
    return args


def main(argv: list[str]) -> None:
    """Color a film."""
    args = parse(argv)
    from palette_vc_jax.video.pipes import from_stdin, to_stdout

    with (
        from_stdin(args.input) as args.input,
        to_stdout(args.output, args.dry_run) as args.output,
    ):
        color(args)


def color(args: argparse.Namespace) -> None:
    """Color the film of a command line."""
    from palette_vc_jax import (
        OutputOptions,
        auto_palette,
        color_film,
        default_settings,
        load_model,
        open_film,
        plan_film,
    )
    from palette_vc_jax.palette.spec import mixture_for, named_file
    from palette_vc_jax.parallel.compile_cache import use_compile_cache
    from palette_vc_jax.parallel.device_memory import use_most_memory
    from palette_vc_jax.parallel.processes import check_one_host
    from palette_vc_jax.sampling.colorize import check_hardware, networks_for
    from palette_vc_jax.sampling.job import describe, device_memory_gib
    from palette_vc_jax.sampling.keyframes import parse_keyframe
    from palette_vc_jax.sampling.regions import parse_region
    from palette_vc_jax.video.write import check_output

    if not 0 <= args.seed < 2**32:
        raise ValueError(f"seed {args.seed}; give a whole number from 0 to 2^32 - 1.")
    check_one_host()
    use_compile_cache(args.compile_cache)
    use_most_memory()
    output, folder = (cli.local_path(getattr(args, n), f"--{n}") for n in ("output", "checkpoint"))
    source = cli.local_path(args.input, "--input")
    film = open_film(source, args.damaged, args.start, args.end, args.frames)
    options = OutputOptions(args.audio, args.codec, args.quality, args.playable)
    check_output(output, film, options)
    parts = [(parse_region(mask, film), spec) for mask, spec in map(_split_region, args.region)]
    keyframes = [parse_keyframe(text, film) for text in args.keyframe]
    run = _open_run(folder, args.weights)
    model = run or load_model(folder, ())  # read the weights last, after all checks
    mixture = mixture_for(args.palette, model.folder)
    steering = [*(region for region, _ in parts), *keyframes]
    inputs = [mixture, *(path for part in steering for path in part.files)]
    inputs += filter(None, map(named_file, [args.palette, *(spec for _, spec in parts)]))
    side_files = _check_side_files(args, film, output, inputs)
    settings = default_settings(model.config, **flags.settings_of(args))
    if not args.topology:
        check_hardware(settings)
    reference = _reference(args, model)

    @functools.cache
    def plan() -> Plan:
        with cli.reporting("shots", "frame", film.frames) as report:
            return plan_film(film, model, settings, reference, report)

    if args.topology:
        _compile_only(plan(), args.topology)
    load = functools.cache(lambda: run or load_model(folder))
    networks = functools.cache(lambda: networks_for(load(), plan().settings, plan().runs))

    def auto() -> Palette | None:
        if args.dry_run:
            return None
        return auto_palette(plan(), load(), mixture, args.seed, networks())

    # Cached, so that a spec has one palette wherever it is given.
    palette_of = functools.cache(lambda spec: _palette(spec, args, model, mixture, plan, auto))
    palette = palette_of(args.palette)
    regions = [replace(region, palette=palette_of(spec)) for region, spec in parts]
    if args.dry_run:
        found = describe(plan(), palette, args.seed, regions, keyframes)
        if palette is None:
            found["palette_source"] = args.palette  # none, or auto, which takes the model
        found["device_memory_gib"] = device_memory_gib(plan())
        print(json.dumps(found, indent=2))
        return
    model = load()
    with cli.reporting("coloring", "frame", plan().frames) as report:
        color_film(
            plan(),
            output,
            model,
            palette,
            None,
            report,
            networks=networks(),
            seed=args.seed,
            luma=args.luma,
            regions=regions,
            keyframes=keyframes,
            options=options,
        )
    if args.report:
        from palette_vc_jax.evaluation.quality import write_report

        write_report(side_files["report"], film, output, plan().shots, palette, plan().damage)
    for kind, path in {"film": output, **side_files}.items():
        print(f"{kind}: {path}")


def _compile_only(plan: Plan, topology: str) -> None:
    """Compile the networks of a plan for hardware that is not there, and end the process."""
    from palette_vc_jax.sampling.colorize import most_windows
    from palette_vc_jax.training.aot import report, sampling, targets

    devices = targets.topology_devices(topology)
    needs = plan.config, plan.settings, plan.size, devices, most_windows(plan.settings, plan.runs)
    found: dict[str, report.Report | str] = {}
    for stage in sampling.STAGES:
        try:
            found[stage] = sampling.compile_stage(stage, *needs)
        except MemoryError as error:
            found[stage] = str(error)
    print(sampling.table(devices[0].device_kind, found), flush=True)
    fits = all(not isinstance(one, str) and report.fits(one) for one in found.values())
    # The compiler goes on in a thread that cannot be stopped.
    os._exit(0 if fits else cli.FAILURE)


def _open_run(folder: Path, weights: str) -> Model | None:
    """Return the model of a run's newest checkpoint, or None if `folder` is not a run."""
    from palette_vc_jax.training.export import has_checkpoints, open_run

    return open_run(folder, weights) if has_checkpoints(folder) else None


def _check_side_files(
    args: argparse.Namespace, film: Film, output: Path, inputs: list[Path]
) -> dict[str, Path]:
    """Check that the run replaces none of the user's files; return its side files by kind."""
    from palette_vc_jax.sampling.job import check_side_files, side_files

    sides = side_files(output, args.palette.strip().lower() != "none", args.report)
    read = [film.path, *film.files, *inputs, *flags.named_files(args)]
    check_side_files(output, sides.values(), read)
    return sides


def _reference(args: argparse.Namespace, model: Model) -> Reference:
    """Return the reference of `--reference`, or the model's default."""
    from palette_vc_jax.sampling.reference import default_reference, parse_reference

    if hasattr(args, "reference"):
        return parse_reference(args.reference)
    return default_reference(model.config.sampling)


def _split_region(text: str) -> tuple[str, str]:
    """Return MASK and SPEC of `--region`."""
    mask, equals, spec = text.rpartition("=")
    if not equals or not mask or not spec.strip():
        from palette_vc_jax.sampling.regions import FORMS

        raise ValueError(f"region {text!r}; give {FORMS}.")
    return mask, spec


def _palette(
    spec: str,
    args: argparse.Namespace,
    model: Model,
    mixture: Path,
    plan: Callable[[], Plan],
    auto: Callable[[], Palette | None],
) -> Palette | None:
    """Return the palette of `spec`; `words` without text needs the film's plan."""
    from palette_vc_jax.palette.spec import parse_spec
    from palette_vc_jax.palette.words import from_words, remarks
    from palette_vc_jax.sampling.tags import load_tagger, tag_film

    def name_tags() -> tuple[list[Tag], str]:
        tagger, name = load_tagger(args.tagger, model.folder)
        return tag_film(plan().film, plan().shots, tagger), name

    def read_words(text: str) -> Palette:
        return from_words(text, flags.proposer_of(args), name_tags)

    palette = parse_spec(spec, mixture, args.seed, read_words, auto)
    for line in remarks(palette):
        print(line, file=sys.stderr)
    return palette
