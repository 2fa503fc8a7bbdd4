"""What is recorded of a run: its plan, settings, seed, weights and versions."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from palette_vc_jax import __version__, files
from palette_vc_jax.models.store import Model, file_hashes
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.keyframes import Keyframe
from palette_vc_jax.sampling.plan import Plan, run_frames
from palette_vc_jax.sampling.regions import Region
from palette_vc_jax.sampling.sampler import film_bytes
from palette_vc_jax.sampling.shot_settings import ShotSettings, runs_of
from palette_vc_jax.sampling.windows import from_zero
from palette_vc_jax.video.damage import as_json
from palette_vc_jax.video.film import excerpt_of


def describe(
    plan: Plan,
    given: Sequence[ShotSettings],
    regions: Sequence[Region] = (),
    keyframes: Sequence[Keyframe] = (),
) -> dict[str, Any]:
    """Return a plan as plain JSON values, for `--dry_run` and the record.

    Args:
        plan: from `plan_film`.
        given: the settings of each shot.
        regions: see `color_film`.
        keyframes: see `color_film`.
    """
    runs = [
        run
        for run, own in runs_of(plan.shots, given, run_frames(plan.latent_shape))
        if not own[0].is_gray
    ]
    sampler = plan.settings.sampler
    windows = sum(sampler.plan(from_zero(run)).windows for run in runs)
    longest = max((run[-1][1] - run[0][0] for run in runs), default=0)
    palettes = [*(one.palette for one in given), *(region.palette for region in regions)]
    steered = any(palette is not None for palette in palettes)
    guided = sampler.guidance_scale != 1.0 and (steered or sampler.guidance != "palette")
    own = [_shot_settings(one) for one in given]
    alike = all(one == own[0] for one in own)
    return {
        "input": str(plan.film.path),
        "excerpt": excerpt_of(plan.film),
        "frames": plan.frames,
        "size": [plan.film.width, plan.film.height],
        "model": plan.config.name,
        "model_size": [plan.size[1], plan.size[0]],
        "shots": [list(shot) for shot in plan.shots],
        "fades": [[fade.first, fade.last + 1] for fade in plan.fades],
        "dissolves": [[one.first, one.last + 1] for one in plan.dissolves],
        "wipes": [[one.first, one.last + 1] for one in plan.wipes],
        "windows": windows,
        "network_evaluations": windows * sampler.steps * (2 if guided else 1),
        "latents_bytes": film_bytes((longest, *plan.latent_shape)),
        **(own[0] if alike else {"shot_settings": own}),
        "regions": [
            {
                "mask": region.source,
                "mask_sha256": _digest(region.masks),
                "frame": region.frame,
                **_palette(region.palette),
            }
            for region in regions
        ],
        "keyframes": [
            {"frame": key.frame, "image": key.source, "image_sha256": _digest(key.image)}
            for key in keyframes
        ],
        "settings": asdict(plan.settings),
        "damaged": plan.film.damaged,
        "damage": as_json(plan.damage),
    }


def record(
    described: Mapping[str, Any], plan: Plan, model: Model, output: Path, luma: str
) -> dict[str, Any]:
    """Return what is recorded of a run: `described`, its files, weights, versions and device."""
    film = plan.film
    return {
        **described,
        "input_sha256": files.fingerprint(film.files or [film.path], film.path.parent),
        "output": output.name,
        "luma": luma,
        # Weights of a training run are not in a model folder, so record their origin instead.
        "weights_sha256": file_hashes(model.folder) if model.folder and not model.origin else None,
        "training": model.origin,
        "version": __version__,
        "jax": jax.__version__,
        "device": f"{jax.default_backend()} ({platform.machine()})",
    }


def _shot_settings(one: ShotSettings) -> dict[str, Any]:
    details = {} if one.palette is None else dict(one.palette.details)
    return {
        **_palette(one.palette),
        "palette_details": details,
        "reference": one.reference.source,
        "reference_sha256": _digest(one.reference.image),
        "seed": one.seed,
        "strength": one.strength,
    }


def _digest(content: np.ndarray | tuple[Path, ...] | None) -> str | None:
    """Return a hash of an image, or of image files."""
    if content is None:
        return None
    if isinstance(content, np.ndarray):
        shape = f"{content.shape} {content.dtype}".encode()
        return hashlib.sha256(shape + content.tobytes()).hexdigest()
    return files.fingerprint(content, content[0].parent)


def _palette(palette: Palette | None) -> dict[str, Any]:
    source = "none" if palette is None else palette.source
    return {"palette": None if palette is None else palette.hex(), "palette_source": source}
