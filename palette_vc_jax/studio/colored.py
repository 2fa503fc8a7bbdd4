"""Color a few frames of a shot for the page, nearly as the film is colored."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from palette_vc_jax.models.networks import Networks
from palette_vc_jax.palette.spec import parse_spec, spec_beside
from palette_vc_jax.sampling.bridging import lit_keyframes
from palette_vc_jax.sampling.colorize import ColorizeSettings, colorize
from palette_vc_jax.sampling.keyframes import (
    TrackedKeyframes,
    parse_keyframe,
    split_keyframe,
    track_keyframes,
)
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.plan_file import PlannedShot
from palette_vc_jax.sampling.reference import Reference, parse_reference
from palette_vc_jax.sampling.sampler import Progress
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.studio.masks import part_of
from palette_vc_jax.studio.project import Project
from palette_vc_jax.video import color
from palette_vc_jax.video.fades import FULL
from palette_vc_jax.video.resize import merge_chroma


def color_part(
    project: Project,
    networks: Networks,
    shot: PlannedShot,
    part: Shot,
    settings: ColorizeSettings,
    check: Progress,
    grays: Sequence[np.ndarray] | None = None,
) -> Iterator[np.ndarray]:
    """Color a part of a shot, with the regions and the keyframes in it; yield RGB uint8.

    In the film, the windows begin elsewhere, and keyframes outside of the part count too.

    Args:
        project: the open film.
        networks: the model on the devices.
        shot: how it is colored.
        part: half-open range of frames.
        settings: of the sampler.
        check: called between steps, with (done, total) of those of the sampler; may raise to stop.
        grays: Y' `[H, W]` uint8 of each frame, whose luma is kept; None for those of the page.

    Raises:
        ValueError: if a file that the plan names cannot be read.
        FloatingPointError: if a network returns values that are not finite.
    """
    plan, pictures = project.plan, project.pictures
    grays = grays or [pictures[frame].gray for frame in range(*part)]
    if shot.strength == 0.0:
        yield from grays
        return
    span = shot.start, shot.end
    regions = [(mask, parse_spec(spec)) for mask, spec in shot.regions]
    given = ShotSettings(
        parse_spec(shot.palette or "none"), _reference(project, shot), shot.seed or 0
    )
    chunks = colorize(
        networks,
        [pictures[frame].small for frame in range(*part)],
        [part],
        [given],
        settings,
        check,
        project.masks.maps(regions, span, part, lambda: check(0, 1)),
        _keyframes(plan, shot, part, project.file.parent),
        plan.film.matrix,
    )
    images = itertools.chain.from_iterable(chunks)
    for frame, codes, image in zip(range(*part), grays, images, strict=True):
        check(1, 1)
        gray = codes / np.float32(255.0)
        light = plan.lights.get(frame, FULL)
        image = color.scale_chroma(image, shot.strength, plan.film.matrix)
        chroma = merge_chroma(gray, image, plan.film.matrix, settings.neutral, light)
        rgb = color.ycc_to_rgb(gray, chroma, plan.film.matrix)
        yield np.rint(255.0 * np.clip(rgb, 0.0, 1.0)).astype(np.uint8)


def alone(settings: ColorizeSettings) -> ColorizeSettings:
    """Return settings for a window of one frame, which takes the least time."""
    sampler = replace(settings.sampler, window=1, overlap=0, windows_per_batch=1)
    return replace(
        settings, sampler=sampler, encode_batch=1, decode_chunk=1, decode_context=0, decode_fade=0
    )


def _keyframes(plan: Plan, shot: PlannedShot, part: Shot, folder: Path) -> TrackedKeyframes | None:
    """Return the keyframes of a shot that are in a part of it."""
    texts = [
        text for text in shot.keyframes if part[0] <= split_keyframe(text, plan.film)[0] < part[1]
    ]
    if not texts:
        return None
    start, stop = part
    given = lit_keyframes([parse_keyframe(text, plan.film, folder) for text in texts], plan.lights)
    found = track_keyframes(
        part_of(plan.film, start, stop),
        [(0, stop - start)],
        plan.latent_shape[:2],
        [replace(one, frame=one.frame - start) for one in given],
        {frame - start: light for frame, light in plan.lights.items()},
    )
    ordered = tuple(replace(one, frame=one.frame + start) for one in found.keyframes)
    return TrackedKeyframes(ordered, {start: found.sources[0]}, {start: found.weights[0]})


def _reference(project: Project, shot: PlannedShot) -> Reference:
    """Return the reference of a shot; `gray` is the middle frame of the whole shot."""
    given = project.plan.reference
    if shot.reference is not None:
        given = _parsed(spec_beside(shot.reference, project.file.parent))
    if given.source != "gray":
        return given
    small = project.pictures[(shot.start + shot.end) // 2].small
    codes = np.rint(255.0 * np.clip(small, 0.0, 1.0)).astype(np.uint8)
    return Reference("gray", codes[..., None].repeat(3, axis=-1))


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> Reference:
    return parse_reference(text)
