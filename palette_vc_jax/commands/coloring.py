"""Color one film as the flags of `sample` say."""

import argparse
import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from palette_vc_jax import cli
from palette_vc_jax.commands import flags
from palette_vc_jax.models.store import Model
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.proposals import Tag
from palette_vc_jax.palette.spec import mixture_for, named_file, parse_spec
from palette_vc_jax.palette.words import from_words, remarks
from palette_vc_jax.sampling import plan_file, tags
from palette_vc_jax.sampling.auto import auto_palettes
from palette_vc_jax.sampling.colorize import (
    check_hardware,
    default_settings,
    most_windows,
    networks_for,
)
from palette_vc_jax.sampling.job import color_film
from palette_vc_jax.sampling.keyframes import Keyframe, check_keyframes, parse_keyframe
from palette_vc_jax.sampling.plan import (
    Plan,
    device_limit_gib,
    device_memory_gib,
    host_memory_gib,
    plan_film,
)
from palette_vc_jax.sampling.plan_file import PlannedShot
from palette_vc_jax.sampling.record import describe
from palette_vc_jax.sampling.reference import Reference, default_reference, parse_reference
from palette_vc_jax.sampling.regions import FORMS, Region, check_regions, parse_region
from palette_vc_jax.sampling.shot_settings import ShotSettings, common_palette
from palette_vc_jax.sampling.side_files import check_side_files, side_files
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.cuts import read_cuts
from palette_vc_jax.video.encoding import OutputOptions
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.write import check_output

Networks = Callable[[], object]
PaletteOf = Callable[[str, Shot | None, int], Palette | None]  # spec, shot, seed -> palette


@dataclass(frozen=True)
class Steering:
    """What the flags and the plan file name, before any palette is made.

    Args:
        shots: of the plan file, or None.
        regions: without palettes, each with the text of its palette.
        keyframes: of the film.
        references: of each shot of the plan file, or one for all shots.
    """

    shots: list[PlannedShot] | None
    regions: list[tuple[Region, str]]
    keyframes: list[Keyframe]
    references: list[Reference]


def color_one(
    args: argparse.Namespace,
    source: Path,
    output: Path | None,
    model: Model,
    load: Callable[[], Model],
) -> None:
    """Color one film, or print or write its plan.

    Args:
        args: flags of `sample`.
        source: the film.
        output: where the colored film is written; None if only a plan is written.
        model: the model's config and folder; its weights may not be loaded.
        load: returns the model with its weights.
    """
    film = open_film(source, args.damaged, args.start, args.end, args.frames)
    options = OutputOptions(args.audio, args.codec, args.quality, args.playable)
    if output is not None:
        check_output(output, film, options)
    steering = _read_steering(args, film, model)
    mixture = mixture_for(args.palette, model.folder)
    _check_files(args, film, output, steering, mixture)
    of_plan = plan_file.read_film_settings(args.plan) if args.plan else {}
    chosen = of_plan | flags.settings_of(args)
    settings = default_settings(model.config, **chosen)
    there = _target(args.topology) if args.topology is not None else None
    devices = check_hardware(settings, there)
    cuts = _cuts(args, film, steering.shots)

    @functools.cache
    def plan() -> Plan:
        with cli.reporting("shots", "frame", film.frames) as report:
            given = settings, steering.references[0], report, cuts, devices[0]
            found = plan_film(film, model, *given)
        if steering.shots:
            plan_file.check_end(steering.shots, found.frames)
        check_regions([region for region, _ in steering.regions], found.frames)
        check_keyframes(steering.keyframes, found.frames)
        return found

    if there is not None:
        _compile_only(plan(), devices)
    networks = functools.cache(lambda: networks_for(load(), plan().settings, plan().runs))
    palette_of = palette_maker(args, model, mixture, plan, load, networks, steering.shots)
    if args.palette_scope == "film" and not steering.shots:
        palette_of(args.palette, None, args.seed)  # report a wrong palette before reading the film
    given = _shot_settings(args, plan(), steering, palette_of)
    regions = [
        replace(region, palette=palette_of(spec, None, args.seed))
        for region, spec in steering.regions
    ]
    if args.write_plan:
        of_film = {key: chosen[key] for key in plan_file.FILM_KEYS if key in chosen}
        steered = regions, steering.keyframes, of_film
        plan_file.write_plan(args.write_plan, plan(), given, *steered)
        cli.print_line(f"plan: {args.write_plan}")
    elif args.dry_run:
        _print_plan(args, plan(), given, regions, steering.keyframes)
    else:
        with cli.reporting("coloring", "frame", plan().frames) as report:
            result = color_film(
                plan(),
                output,
                load(),
                progress=report,
                networks=networks(),
                luma=args.luma,
                shots=given,
                regions=regions,
                keyframes=steering.keyframes,
                overwrite=args.overwrite,
                options=options,
            )
        written = {"film": output, **result.side_files}
        if args.report:
            from palette_vc_jax.evaluation.quality import write_report

            written["report"] = side_files(output, with_report=True)["report"]
            own = common_palette(given)
            write_report(written["report"], film, output, plan().shots, own, plan().damage)
        for kind, path in written.items():
            cli.print_line(f"{kind}: {path}")


def _read_steering(args: argparse.Namespace, film: Film, model: Model) -> Steering:
    """Read the plan file, the regions, the keyframes and the references."""
    shots = None
    if args.plan:
        shots = plan_file.located(plan_file.read_plan(args.plan, film.rate), args.plan.parent)
    usual = functools.cache(
        lambda: (
            parse_reference(args.reference)
            if hasattr(args, "reference")
            else default_reference(model.config.sampling)
        )
    )
    parse = functools.cache(parse_reference)
    regions = [(parse_region(mask, film), spec) for mask, spec in map(_split, args.region)]
    keyframes = [parse_keyframe(text, film) for text in args.keyframe]
    references = []
    beside = args.plan.parent if args.plan else None
    for shot in shots or ():
        with shot.naming():
            own = [parse_region(mask, film, beside) for mask, _ in shot.regions]
            keys = [parse_keyframe(text, film, beside) for text in shot.keyframes]
            # A folder of masks may begin before the shot.
            frames = [(one.frame, one.source) for one in own if not isinstance(one.masks, tuple)]
            for frame, name in [*frames, *((key.frame, key.source) for key in keys)]:
                shot.check_frame(frame, name)
            regions += zip(own, (spec for _, spec in shot.regions), strict=True)
            keyframes += keys
            references.append(usual() if shot.reference is None else parse(shot.reference))
    return Steering(shots, regions, keyframes, references or [usual()])


def _check_files(
    args: argparse.Namespace,
    film: Film,
    output: Path | None,
    steering: Steering,
    mixture: Path,
) -> None:
    """Check that the run replaces none of the user's files."""
    specs = [args.palette, *(spec for _, spec in steering.regions)]
    specs += [shot.palette for shot in steering.shots or () if shot.palette]
    parts = [*(region for region, _ in steering.regions), *steering.keyframes]
    read = [film.path, *film.files, mixture, *(path for part in parts for path in part.files)]
    read += [*filter(None, map(named_file, specs)), *flags.named_files(args)]
    read += [path for path in (args.plan, args.cuts) if path]
    read += [path for one in steering.references if (path := named_file(one.source))]
    if args.write_plan:
        check_side_files(args.write_plan, [], read, args.overwrite)
    elif output is not None:
        some = steering.shots or args.palette.strip().lower() != "none"
        sides = side_files(output, bool(some), args.report)
        check_side_files(output, sides.values(), read, args.overwrite)


def _cuts(
    args: argparse.Namespace, film: Film, shots: Sequence[PlannedShot] | None
) -> list[int] | None:
    """Return the cuts that the plan file or `--cuts` name; None to find them."""
    if shots and args.cuts:
        raise ValueError("--plan and --cuts given; give one of them, because both name the shots.")
    if shots:
        return plan_file.cuts_of(shots)
    return read_cuts(args.cuts, film.rate) if args.cuts else None


def palette_maker(
    args: argparse.Namespace,
    model: Model,
    mixture: Path,
    plan: Callable[[], Plan],
    load: Callable[[], Model],
    networks: Networks,
    shots: Sequence[PlannedShot] | None,
) -> PaletteOf:
    """Return a function that makes a palette once, wherever its text is given."""

    def name_tags() -> tuple[list[Tag], str]:
        tagger, name = tags.load_tagger(args.tagger, model.folder)
        return tags.tag_film(plan().film, plan().shots, tagger), name

    def read_words(text: str) -> Palette:
        return from_words(text, flags.proposer_of(args), name_tags)

    @functools.cache
    def automatic(of_shots: bool) -> dict[Shot | None, Palette]:
        """Return the palette of each shot whose palette is automatic, or of the film."""
        parts = {None: (0, plan().frames)}
        if of_shots:
            given = shots or [None] * len(plan().shots)
            pairs = zip(plan().shots, given, strict=True)
            parts = {shot: shot for shot, own in pairs if _is_auto(args, own)}
        found = auto_palettes(plan(), load(), [*parts.values()], mixture, args.seed, networks())
        return dict(zip(parts, found, strict=True))

    @functools.cache
    def palette_of(spec: str, shot: Shot | None, seed: int) -> Palette | None:
        def auto() -> Palette | None:
            return None if args.dry_run else automatic(shot is not None)[shot]

        found = parse_spec(spec, mixture, seed, read_words, auto)
        for line in remarks(found):
            cli.print_line(line, sys.stderr)
        return found

    return palette_of


def _is_auto(args: argparse.Namespace, shot: PlannedShot | None) -> bool:
    """Return whether a shot has an automatic palette of its own."""
    if shot is not None and (shot.strength == 0.0 or shot.palette is not None):
        return shot.strength > 0.0 and shot.palette.strip().lower() == "auto"
    return args.palette_scope == "shot" and args.palette.strip().lower() == "auto"


def _shot_settings(
    args: argparse.Namespace, plan: Plan, steering: Steering, palette_of: PaletteOf
) -> list[ShotSettings]:
    """Return the settings of each shot."""
    count = len(plan.shots)
    references = steering.references * (1 if len(steering.references) == count else count)
    settings = []
    given = steering.shots or [PlannedShot(*shot, "") for shot in plan.shots]
    for shot, own, reference in zip(plan.shots, given, references, strict=True):
        seed = args.seed if own.seed is None else own.seed
        with own.naming() if own.place else contextlib.nullcontext():
            palette = None
            if own.strength > 0.0:
                part = shot if _is_auto(args, own) else None
                palette = palette_of(
                    args.palette if own.palette is None else own.palette, part, seed
                )
            settings.append(ShotSettings(palette, reference, seed, own.strength))
    return settings


def _print_plan(
    args: argparse.Namespace,
    plan: Plan,
    given: Sequence[ShotSettings],
    regions: Sequence[Region],
    keyframes: Sequence[Keyframe],
) -> None:
    found = describe(plan, given, regions, keyframes)
    if found.get("palette") is None and "palette_source" in found:
        found["palette_source"] = args.palette  # none, or auto, which takes the model
    found["device_memory_gib"] = device_memory_gib(plan)
    found["device_limit_gib"] = device_limit_gib(plan)
    found["host_memory_gib"] = host_memory_gib(plan)
    print(json.dumps(found, indent=2))


def _target(topology: str) -> list[jax.Device]:
    """Return the devices of hardware that is not there."""
    from palette_vc_jax.training.aot import targets

    return targets.topology_devices(topology)


def _compile_only(plan: Plan, devices: Sequence[jax.Device]) -> None:
    """Compile the networks of a plan for devices that are not there, and end the process."""
    from palette_vc_jax.training.aot import report, sampling

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


def _split(text: str) -> tuple[str, str]:
    """Return MASK and SPEC of `--region`."""
    mask, equals, spec = text.rpartition("=")
    if not equals or not mask or not spec.strip():
        raise ValueError(f"region {text!r}; give {FORMS}.")
    return mask, spec
