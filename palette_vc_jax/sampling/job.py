"""Color a film: color its shots in runs, merge with the source's luma, and write.

Only the film's luma is read. The plan's pass finds the cuts; then two streams read in parallel, one
for the encoder and one that a thread merges with the colors and writes. Shots are colored in runs
of a bounded number of frames, so that memory does not grow with the film. The latents of a finished
run are kept on disk until the film is complete (`unfinished`).
"""

import bisect
import functools
import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax import atomic
from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model, has_palette
from palette_vc_jax.palette.file import save_palette, save_swatch
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling import unfinished
from palette_vc_jax.sampling.bridging import bridge, lit_keyframes
from palette_vc_jax.sampling.colorize import (
    ColorizeSettings,
    decode_latents,
    networks_for,
    sample_latents,
)
from palette_vc_jax.sampling.dispatch import in_background
from palette_vc_jax.sampling.keyframes import Keyframe, track_keyframes
from palette_vc_jax.sampling.plan import Plan, Progress, plan_film, run_frames
from palette_vc_jax.sampling.record import describe, record
from palette_vc_jax.sampling.reference import Reference
from palette_vc_jax.sampling.regions import Region, carry_regions
from palette_vc_jax.sampling.sheet import SideBySide
from palette_vc_jax.sampling.shot_settings import ShotSettings, common_palette, runs_of
from palette_vc_jax.sampling.side_files import check_side_files, side_files
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video import color, hdr
from palette_vc_jax.video.damage import summary
from palette_vc_jax.video.encoding import DEFAULT_OUTPUT, OutputOptions
from palette_vc_jax.video.fades import FULL
from palette_vc_jax.video.film import Film, open_film, orient
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import merge_chroma, resize
from palette_vc_jax.video.write import FilmWriter, check_output, check_times

FRAMES_AHEAD = 16  # decoded frames that may wait to be merged and written


class Result(NamedTuple):
    """The files and the record that `color_film` wrote."""

    film: Path
    side_files: dict[str, Path]  # by kind, see `side_files`
    record: dict[str, Any]  # settings, seed, hashes of the weights, versions


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
    shots: Sequence[ShotSettings] | None = None,
    regions: Sequence[Region] = (),
    keyframes: Sequence[Keyframe] = (),
    overwrite: bool = False,
    options: OutputOptions = DEFAULT_OUTPUT,
) -> Result:
    """Color a film, and write it to `output` with its `side_files`.

    If the run fails or is killed, no partial film is left at `output`. Finished parts are kept in
    `unfinished.folder_of(output)` until the film is complete, and the same call goes on from
    there. The side files are written after the film. Warn about damage of the film, and if a
    palette is given and the model's palette layer is all zeros.

    Args:
        film: a film or its path; or a plan, which has its own settings and reference.
        output: `.mp4` (H.264, or HEVC for HDR), `.mkv` (FFV1), `.mov` (ProRes), `.png` or `.jpg`
            if the source is an image, or a folder for PNG frames.
        model: from `load_model`.
        palette: colors that guide the result, or None for the null palette.
        settings: see `plan_film`; None if `film` is a plan.
        progress: called with (frames done, total frames).
        networks: the model on the devices, from `networks_for`; None to load it.
        seed: seed of the noise, 0 to 2^32 - 1.
        reference: see `plan_film`; None if `film` is a plan.
        luma: `source` (the film's own, unchanged) or `model` (the decoder's, resized).
        shots: settings of each of the plan's shots, in place of `palette`, `seed` and `reference`.
        regions: parts of the picture with palettes of their own; the last is in front.
        keyframes: frames with known colors.
        overwrite: replace a film of another run, and its side files.
        options: codec and audio of the output.

    Raises:
        ValueError: as `check_output`, `check_times`, `check_side_files`, `unfinished.check`,
            `track_keyframes` and `carry_regions`, or if the plan is of another model.
        FloatingPointError: if a network returns values that are not finite.
    """
    output = Path(output)
    if not isinstance(film, Plan):
        film = film if isinstance(film, Film) else open_film(film)
        check_output(output, film, options)
        plan = plan_film(film, model, settings, reference)
    elif settings or reference or film.config != model.config:
        raise ValueError("the plan has other settings or is of another model; plan again.")
    else:
        plan = film
    given = _shot_settings(plan, palette, seed, shots)
    check_times(output, plan.film, plan.longest_gap)
    only = common_palette(given)
    sides = side_files(output, with_palette=only is not None)
    check_side_files(output, sides.values(), [plan.film.path, *plan.film.files], overwrite)
    described = record(describe(plan, given, regions, keyframes), plan, model, output, luma)
    described["output_options"] = asdict(options)
    folder = unfinished.folder_of(output)
    unfinished.check(folder, described, overwrite)
    place = plan.film, plan.shots, plan.latent_shape[:2]
    lit = lit_keyframes(keyframes, plan.lights)
    tracked = track_keyframes(*place, lit, plan.lights) if lit else None
    maps = carry_regions(*place, regions) if regions else None
    palettes = [one.palette for one in given] + [region.palette for region in regions]
    _warn_if_no_effect(model, palettes)
    if plan.damage:
        warnings.warn(
            f"{summary(plan.film.path, plan.damage)} {sides['settings'].name} lists them.",
            stacklevel=2,
        )
    sheet = SideBySide(plan.frames, plan.film)
    frames = read_frames(plan.film)
    with unfinished.noted(folder), FilmWriter(output, plan.film, options) as writer:

        def finish(small: np.ndarray) -> None:
            frame = next(frames)
            written, chroma = _merge(frame, small, plan, luma)
            sheet.add(frame.index, color.gray(frame.luma, plan.film), chroma)
            writer.write(written, chroma)

        loaded = networks or networks_for(model, plan.settings, plan.runs)
        latents = functools.partial(
            sample_latents,
            loaded,
            settings=plan.settings,
            regions=maps,
            keyframes=tracked,
            matrix=plan.film.matrix,
        )
        decode = functools.partial(decode_latents, loaded, settings=plan.settings)
        stored = functools.partial(_kept, folder, described, plan)
        with in_background(finish, FRAMES_AHEAD) as put:
            images = _color_frames(plan, given, latents, decode, stored, progress)
            images = _strengthened(images, plan, given)
            for small in images if luma == "model" else bridge(images, plan.bridged):
                put(small)
    atomic.write_text(sides["settings"], json.dumps(described, indent=2) + "\n")
    sheet.save(sides["side by side"])
    if only is not None:
        save_palette(only, sides["palette"])
        save_swatch(only, sides["swatch"])
    unfinished.remove(folder)
    return Result(output, sides, described)


def _shot_settings(
    plan: Plan, palette: Palette | None, seed: int, shots: Sequence[ShotSettings] | None
) -> list[ShotSettings]:
    """Return the settings of each shot."""
    if shots is None:
        return [ShotSettings(palette, plan.reference, seed)] * len(plan.shots)
    if palette is not None or seed:
        raise ValueError("palette or seed given beside shots; give them in the shots' settings.")
    if len(shots) != len(plan.shots):
        raise ValueError(
            f"settings of {len(shots)} shots for a film of {len(plan.shots)}; give one of each."
        )
    return list(shots)


def _shot_of(shots: Sequence[Shot], frame: int) -> int:
    """Return the number of the shot that holds a frame."""
    return bisect.bisect_right(shots, frame, key=lambda shot: shot[0]) - 1


def _kept(
    folder: Path,
    described: dict[str, Any],
    plan: Plan,
    run: list[Shot],
    sample: Callable[[], np.ndarray],
) -> np.ndarray:
    """Return the latents of a run of shots: those that were kept, or else `sample()`, kept now."""
    shape = run[-1][1] - run[0][0], *plan.latent_shape
    latents = unfinished.kept(folder, run, shape)
    if latents is None:
        latents = sample()
        if plan.frames > 1:
            unfinished.keep(folder, described, run, latents)
    return latents


def _warn_if_no_effect(model: Model, palettes: Iterable[Palette | None]) -> None:
    if any(palette is not None for palette in palettes) and not has_palette(model):
        warnings.warn(
            f"the palette layer of {model.folder or model.config.name} is all zeros, so the "
            "palette has no effect; fine-tune the model, or give --palette none.",
            stacklevel=3,
        )


def _color_frames(
    plan: Plan,
    given: Sequence[ShotSettings],
    sample: Callable[..., np.ndarray],
    decode: Callable[..., Iterator[np.ndarray]],
    kept: Callable[[list[Shot], Callable[[], np.ndarray]], np.ndarray],
    progress: Progress | None,
) -> Iterator[np.ndarray]:
    """Yield the model's RGB `[h, w, 3]` of each frame, or a gray one of shots that stay gray.

    Args:
        plan: the film's plan.
        given: the settings of each shot.
        sample: `sample_latents` with all arguments but the grays, the shots, their settings and the
            progress.
        decode: `decode_latents` with all arguments but the latents and the shots.
        kept: see `_kept`.
        progress: called with (frames done, total frames).
    """
    frames = read_frames(plan.film)
    for run, own in runs_of(plan.shots, given, run_frames(plan.latent_shape)):
        first, count = run[0][0], run[-1][1] - run[0][0]
        own_frames = itertools.islice(frames, count)
        grays = (plan.gray(frame) for frame in own_frames)

        def report(done: int, total: int, first: int = first, count: int = count) -> None:
            if progress is not None:
                progress(first + count * done // total, plan.frames)

        if own[0].is_gray:
            yield from (gray[..., None].repeat(3, axis=-1) for gray in grays)
        else:
            ask = functools.partial(sample, grays=grays, shots=run, given=own, progress=report)
            latents = kept(run, ask)
            for _ in own_frames:  # not read, because the latents had been kept
                pass
            yield from itertools.chain.from_iterable(decode(latents=latents, shots=run))
        report(1, 1)


def _strengthened(
    images: Iterable[np.ndarray], plan: Plan, given: Sequence[ShotSettings]
) -> Iterator[np.ndarray]:
    """Scale the chroma of each frame by the strength of its shot, before shots are mixed."""
    for index, image in enumerate(images):
        strength = given[_shot_of(plan.shots, index)].strength
        yield color.scale_chroma(image, strength, plan.film.matrix)


def _merge(frame: Frame, small: np.ndarray, plan: Plan, luma: str) -> tuple[Frame, np.ndarray]:
    """Merge a source frame with `small`, the model's RGB `[h, w, 3]`.

    Returns the frame whose luma is written, and its chroma `[H, W, 2]`.
    """
    film, light = plan.film, plan.lights.get(frame.index, FULL)
    gray = color.gray(frame.luma, film)
    a, b, c, d = film.orientation
    small = orient(small, (a, c, b, d))  # the transpose of a quarter turn is its inverse
    small = hdr.film_rgb(small, film.tags[2])
    written = frame
    if luma == "model":
        large = light.dim(np.clip(resize(small, *gray.shape), 0.0, 1.0))
        gray = color.rgb_to_luma(large, film.matrix)
        chroma = color.rgb_to_chroma(large, film.matrix)
        written = color.with_luma(frame, gray, film)
    else:
        chroma = merge_chroma(gray, small, film.matrix, plan.settings.neutral, light)
    return written, chroma
