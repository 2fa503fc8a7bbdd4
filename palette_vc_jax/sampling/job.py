"""Color a film: find its shots, color them in runs, merge with the source's luma, and write.

Only the film's luma is read. The first pass finds the cuts; then two streams read in parallel, one
for the encoder and one that a thread merges with the colors and writes. Shots are colored in runs
of a bounded number of frames, so that memory does not grow with the film.
"""

import functools
import itertools
import json
import os
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from palette_vc_jax import __version__, atomic, files
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model, file_hashes, has_palette
from palette_vc_jax.palette.file import save_palette, save_swatch
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.bridging import bridge, lit_keyframes
from palette_vc_jax.sampling.colorize import (
    ColorizeSettings,
    colorize,
    default_settings,
    networks_for,
)
from palette_vc_jax.sampling.dispatch import in_background
from palette_vc_jax.sampling.keyframes import Keyframe, track_keyframes
from palette_vc_jax.sampling.memory_plan import GIB, fit, needs, temporaries, weights
from palette_vc_jax.sampling.reference import Reference, default_reference
from palette_vc_jax.sampling.regions import Region, carry_regions
from palette_vc_jax.sampling.sampler import film_bytes
from palette_vc_jax.sampling.sheet import SideBySide
from palette_vc_jax.sampling.windows import Shot, from_zero, group_shots
from palette_vc_jax.video import color
from palette_vc_jax.video.damage import Damage, as_json, summary
from palette_vc_jax.video.dissolves import Dissolve
from palette_vc_jax.video.fades import FULL, Fade, Light, lights
from palette_vc_jax.video.film import Film, open_film, orient, upright_size
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import merge_chroma, model_size, resize, small_gray
from palette_vc_jax.video.shots import divide, only_cuts
from palette_vc_jax.video.write import FilmWriter, check_output, check_times

RUN_BYTES = 2**30  # maximum bytes of the latents of one run of shots
FRAMES_AHEAD = 16  # decoded frames that may wait to be merged and written

Progress = Callable[[int, int | None], Any]  # (frames done, total frames or None if unknown)


@dataclass(frozen=True)
class Plan:
    """How a film will be colored."""

    film: Film
    config: ModelConfig
    settings: ColorizeSettings
    reference: Reference
    shots: list[Shot]
    size: tuple[int, int]  # height and width of the model's frames, which are upright
    latent_shape: tuple[int, int, int]  # h, w, C
    runs: list[list[Shot]]  # shots colored together
    damage: tuple[Damage, ...] = ()  # the damaged frames of the film
    longest_gap: Fraction = Fraction(0)  # seconds from a frame to the next, the maximum
    fades: tuple[Fade, ...] = ()
    dissolves: tuple[Dissolve, ...] = ()

    @property
    def frames(self) -> int:
        """Return the number of the film's frames."""
        return self.shots[-1][1]

    @functools.cached_property
    def lights(self) -> dict[int, Light]:
        """Return the light of each frame in a fade."""
        return lights(self.fades)

    def gray(self, frame: Frame) -> np.ndarray:
        """Return Y' `[h, w]` in [0, 1] of a frame as the model sees it: upright, small and lit."""
        return self.lights.get(frame.index, FULL).lit(small_gray(frame, self.film, self.size))


class Result(NamedTuple):
    """The files and the record that `color_film` wrote."""

    film: Path
    side_files: dict[str, Path]  # by kind, see `side_files`
    record: dict[str, Any]  # settings, seed, hashes of the weights, versions


def plan_film(
    film: Film | str | Path,
    model: Model,
    settings: ColorizeSettings | None = None,
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Find a film's shots and divide them into runs; read the film's luma once.

    Args:
        film: from `open_film`, or its path.
        model: from `load_model`; only its config is used (`load_model(folder, ())`).
        settings: from `default_settings`; None for the model's own.
        reference: the image that the image tower sees; None for the kind of reference that the
            model was mostly trained with.
        progress: called with the frames read, and the number of frames that the film declares.

    Raises:
        ValueError: if the film cannot be read, or does not fit the device, see `memory_plan.fit`.
    """
    film = film if isinstance(film, Film) else open_film(film)
    config = model.config
    settings = settings or default_settings(config)
    reference = reference or default_reference(config.sampling)
    size = model_size(*upright_size(film), settings.short_side, config.pixel_multiple)
    settings = fit(config, settings, size)

    damage: list[Damage] = []
    times: list[int] = [0, 0]  # of the last frame, and the longest gap, in the film's time base

    def small() -> Iterator[np.ndarray]:
        for frame in read_frames(film, damage):
            times[:] = frame.pts, max(times[1], frame.pts - times[0])
            yield small_gray(frame, film, size)
            if progress is not None:
                progress(frame.index + 1, film.frames)

    find = divide if settings.transitions == "bridge" else only_cuts
    shots, fades, dissolves = find(small())
    down = config.vae.downscale
    shape = (size[0] // down, size[1] // down, config.vae.latent_channels)
    runs = group_shots(shots, max(1, RUN_BYTES // film_bytes((1, *shape))))
    gap = times[1] * film.time_base
    found = tuple(damage), gap, fades, dissolves
    return Plan(film, config, settings, reference, shots, size, shape, runs, *found)


def describe(
    plan: Plan,
    palette: Palette | None,
    seed: int,
    regions: Sequence[Region] = (),
    keyframes: Sequence[Keyframe] = (),
) -> dict[str, Any]:
    """Return a plan as plain JSON values, for `--dry_run` and the record."""
    windows = [plan.settings.sampler.plan(from_zero(run)).windows for run in plan.runs]
    longest = max(run[-1][1] - run[0][0] for run in plan.runs)
    sampler = plan.settings.sampler
    steered = any(own is not None for own in (palette, *(region.palette for region in regions)))
    guided = sampler.guidance_scale != 1.0 and (steered or sampler.guidance != "palette")
    return {
        "input": str(plan.film.path),
        "frames": plan.frames,
        "size": [plan.film.width, plan.film.height],
        "model": plan.config.name,
        "model_size": [plan.size[1], plan.size[0]],
        "shots": [list(shot) for shot in plan.shots],
        "fades": [[fade.first, fade.last + 1] for fade in plan.fades],
        "dissolves": [[one.first, one.last + 1] for one in plan.dissolves],
        "windows": sum(windows),
        "network_evaluations": sum(windows) * sampler.steps * (2 if guided else 1),
        "latents_bytes": film_bytes((longest, *plan.latent_shape)),
        "palette": None if palette is None else palette.hex(),
        "palette_source": "none" if palette is None else palette.source,
        "palette_details": {} if palette is None else dict(palette.details),
        "regions": [
            {
                "mask": region.source,
                "frame": region.frame,
                "palette": None if region.palette is None else region.palette.hex(),
                "palette_source": "none" if region.palette is None else region.palette.source,
            }
            for region in regions
        ],
        "keyframes": [{"frame": key.frame, "image": key.source} for key in keyframes],
        "seed": seed,
        "reference": plan.reference.source,
        "settings": asdict(plan.settings),
        "damaged": plan.film.damaged,
        "damage": as_json(plan.damage),
    }


def device_memory_gib(plan: Plan) -> dict[str, float]:
    """Estimate what each stage of coloring a film needs of a device."""
    settings, device = plan.settings, jax.local_devices()[0]
    held = weights(plan.config, settings, device)
    temporary = temporaries(plan.config, settings, plan.size, device)
    found = needs(held, temporary, settings.leaving)
    return {stage: round(size / GIB, 2) for stage, size in found.items()}


def color_film(
    film: Plan | Film | str | Path,
    output: str | Path,
    model: Model,
    palette: Palette | None = None,
    settings: ColorizeSettings | None = None,
    progress: Progress | None = None,
    *,
    networks: Networks | None = None,
    seed: int = 0,
    reference: Reference | None = None,
    luma: str = "source",
    regions: Sequence[Region] = (),
    keyframes: Sequence[Keyframe] = (),
) -> Result:
    """Color a film, and write it to `output` with its `side_files`.

    If the run fails, no partial film is left at `output`. The side files are written after the
    film, the record first, because it marks the others as written by this run. Warn about damage
    of the film, and if a palette is given and the model's palette layer is all zeros.

    Args:
        film: a film or its path; or a plan, which has its own settings and reference.
        output: `.mp4` (H.264), `.mkv` (FFV1), `.mov` (ProRes), `.png` or `.jpg` if the source is
            an image, or a folder for PNG frames.
        model: from `load_model`.
        palette: colors that guide the result, or None for the null palette.
        settings: see `plan_film`; None if `film` is a plan.
        progress: called with (frames done, total frames).
        networks: the model on the devices, from `networks_for`; None to load it.
        seed: seed of the noise, 0 to 2^32 - 1.
        reference: see `plan_film`; None if `film` is a plan.
        luma: `source` (the film's own, unchanged) or `model` (the decoder's, resized).
        regions: parts of the picture with palettes of their own; the last is in front.
        keyframes: frames with known colors.

    Raises:
        ValueError: as `check_output`, `check_times`, `check_side_files`, `track_keyframes` and
            `carry_regions`, or if the plan is of another model.
        FloatingPointError: if a network returns values that are not finite.
    """
    output = Path(output)
    if not isinstance(film, Plan):
        film = film if isinstance(film, Film) else open_film(film)
        check_output(output, film)
        plan = plan_film(film, model, settings, reference)
    elif settings or reference or film.config != model.config:
        raise ValueError("the plan has other settings or is of another model; plan again.")
    else:
        plan = film
    check_times(output, plan.film, plan.longest_gap)
    sides = side_files(output, with_palette=palette is not None)
    check_side_files(output, sides.values(), [plan.film.path, *plan.film.files])
    place = plan.film, plan.shots, plan.latent_shape[:2]
    lit = lit_keyframes(keyframes, plan.lights)
    tracked = track_keyframes(*place, lit) if lit else None
    maps = carry_regions(*place, regions) if regions else None
    described = describe(plan, palette, seed, regions, keyframes)
    record = described | _record(plan, model, output, luma)
    _warn_if_no_effect(model, [palette, *(region.palette for region in regions)])
    if plan.damage:
        warnings.warn(
            f"{summary(plan.film.path, plan.damage)} {sides['settings'].name} lists them.",
            stacklevel=2,
        )
    sheet = SideBySide(plan.frames, plan.film)
    frames = read_frames(plan.film)
    with FilmWriter(output, plan.film) as writer:

        def finish(small: np.ndarray) -> None:
            frame, chroma, replaced = _merge(next(frames), small, plan, luma)
            sheet.add(frame.index, color.gray(frame.luma, plan.film), chroma)
            writer.write(replaced, chroma)

        colors = functools.partial(
            colorize,
            networks or networks_for(model, plan.settings, plan.runs),
            palette=palette,
            settings=plan.settings,
            seed=seed,
            reference=plan.reference,
            regions=maps,
            keyframes=tracked,
            matrix=plan.film.matrix,
        )
        with in_background(finish, FRAMES_AHEAD) as put:
            images = _color_frames(plan, colors, progress)
            for small in images if luma == "model" else bridge(images, plan.dissolves):
                put(small)
    atomic.write_text(sides["settings"], json.dumps(record, indent=2) + "\n")
    sheet.save(sides["side by side"])
    if palette is not None:
        save_palette(palette, sides["palette"])
        save_swatch(palette, sides["swatch"])
    return Result(output, sides, record)


def _record(plan: Plan, model: Model, output: Path, luma: str) -> dict[str, Any]:
    """Return what is recorded of a run besides its plan: output, weights, versions, device."""
    return {
        "output": output.name,
        "luma": luma,
        # Weights of a training run are not in a model folder, so record their origin instead.
        "weights_sha256": file_hashes(model.folder) if model.folder and not model.origin else None,
        "training": model.origin,
        "version": __version__,
        "jax": jax.__version__,
        "device": f"{jax.default_backend()} ({platform.machine()})",
    }


def _warn_if_no_effect(model: Model, palettes: Iterable[Palette | None]) -> None:
    if any(palette is not None for palette in palettes) and not has_palette(model):
        warnings.warn(
            f"the palette layer of {model.folder or model.config.name} is all zeros, so the "
            "palette has no effect; fine-tune the model, or give --palette none.",
            stacklevel=3,
        )


def side_files(
    output: Path, with_palette: bool = True, with_report: bool = False
) -> dict[str, Path]:
    """Return the paths of the files that are written next to a film `output`, by kind."""
    kinds = {"settings": "run.json", "side by side": "side_by_side.png"}
    if with_palette:
        kinds |= {"palette": "palette.json", "swatch": "palette.png"}
    if with_report:
        kinds["report"] = "report.html"
    stem = output.with_suffix("") if output.suffix else output
    return {kind: Path(f"{stem}.{ending}") for kind, ending in kinds.items()}


def check_side_files(output: Path, sides: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check that a run will not replace any of the user's files, before any work is done.

    Args:
        output: the film.
        sides: the side files.
        inputs: files that the run reads.

    Raises:
        ValueError: if `output` or a side file is among the inputs or is not a regular file, or if
            a side file exists that no earlier run of the same output wrote.
    """
    sides = list(sides)
    films = [] if output.is_dir() else [output]
    atomic.check_targets([*films, *sides], inputs)
    existing = [path for path in sides if os.path.lexists(path)]
    if existing and not _has_record(output):
        raise ValueError(
            f"{existing[0]}: exists, and was not written by an earlier run of {output.name}; move "
            "it away, or give the output another name."
        )


def _has_record(output: Path) -> bool:
    """Return whether a record exists next to `output` and is of a run that wrote `output`."""
    try:
        record = files.read_json(side_files(output)["settings"])
    except (OSError, ValueError):
        return False
    # Early records of version 0.1 do not name their output.
    known = isinstance(record, dict) and "weights_sha256" in record
    return known and record.get("output", output.name) == output.name


def _color_frames(
    plan: Plan, colors_of: Callable[..., Iterator[np.ndarray]], progress: Progress | None
) -> Iterator[np.ndarray]:
    """Yield the model's RGB `[h, w, 3]` of each frame.

    `colors_of` is `colorize` with all arguments but the grays, the shots and the progress.
    """
    frames = read_frames(plan.film)
    for run in plan.runs:
        first, count = run[0][0], run[-1][1] - run[0][0]
        grays = (plan.gray(frame) for frame in itertools.islice(frames, count))

        def report(done: int, total: int, first: int = first, count: int = count) -> None:
            if progress is not None:
                progress(first + count * done // total, plan.frames)

        yield from itertools.chain.from_iterable(colors_of(grays=grays, shots=run, progress=report))


def _merge(
    frame: Frame, small: np.ndarray, plan: Plan, luma: str
) -> tuple[Frame, np.ndarray, Frame]:
    """Merge a source frame with `small`, the model's RGB `[h, w, 3]`.

    Returns the frame, its chroma `[H, W, 2]`, and the frame whose luma is written.
    """
    film, light = plan.film, plan.lights.get(frame.index, FULL)
    gray = color.gray(frame.luma, film)
    a, b, c, d = film.orientation
    small = orient(small, (a, c, b, d))  # the transpose of a quarter turn is its inverse
    if luma == "model":
        large = light.dim(np.clip(resize(small, *gray.shape), 0.0, 1.0))
        gray = color.rgb_to_luma(large, film.matrix)
        return frame, color.rgb_to_chroma(large, film.matrix), color.with_luma(frame, gray, film)
    return frame, merge_chroma(gray, small, film.matrix, plan.settings.neutral, light), frame
