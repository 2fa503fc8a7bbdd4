"""The automatic palette: the model's own colors of a few frames, as saturated as training film.

A model without a palette colors carefully: its colors are near the mean of what it holds possible,
and this mean has a cast. The colors still say which hues belong to the film. The cast is halved,
and what differs from it is scaled until the film will be as colorful as the clips that the model
was trained on. K-means finds five colors of the result (docs/benchmarks.md compares other ways).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from palette_vc_jax import DEMO
from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.palette import gmm
from palette_vc_jax.palette.image import kmeans
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.spec import mixture_for
from palette_vc_jax.pixels import colorfulness
from palette_vc_jax.sampling.colorize import (
    ColorizeSettings,
    decode_latents,
    networks_for,
    sample_latents,
)
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.reference import Reference, default_reference
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video import color
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import merge_rgb

FRAMES = 4  # of the film
HELD = 4  # times that each of them is decoded, so that the decoder does not mix it with the next
GAIN = (0.5, 3.0)  # least and most that chroma is scaled by
CAST = 0.5  # share of the mean chroma that is kept, and not scaled


def auto_palette(
    plan: Plan,
    model: Model,
    mixture: str | Path | None = None,
    seed: int = 0,
    networks: Networks | None = None,
) -> Palette:
    """Color a few frames of a film without a palette, and return the palette of the result.

    Args are those of `auto_palettes`.
    """
    return auto_palettes(plan, model, [(0, plan.frames)], mixture, seed, networks)[0]


def auto_palettes(
    plan: Plan,
    model: Model,
    parts: Sequence[Shot],
    mixture: str | Path | None = None,
    seed: int = 0,
    networks: Networks | None = None,
) -> list[Palette]:
    """Return the automatic palette of each part of a film; read the film's luma once.

    Args:
        plan: from `plan_film`.
        model: from `load_model`.
        parts: half-open ranges of frames, such as the plan's shots.
        mixture: file of a mixture, which names the colorfulness of the training film; None for the
            model's own, or else the demo's. If it names none, the model's own chroma is kept.
        seed: seed of the noise.
        networks: the model on the devices, as for `color_film`; None to load it.

    Raises:
        ValueError: if the film cannot be read.
        FloatingPointError: if a network returns values that are not finite.
    """
    target = training_colorfulness(mixture or mixture_for("auto", model.folder or DEMO))
    # The plan's size may be off the short side by rounding; these frames have it already.
    settings = replace(plan.settings, short_side=min(plan.size))
    networks = networks or networks_for(model, settings, plan.runs)
    wanted = [spread(part, FRAMES) for part in parts]
    users = Counter(frame for frames in wanted for frame in frames)
    grays: dict[int, np.ndarray] = {}
    palettes: dict[int, Palette] = {}
    for frame in read_frames(plan.film):
        if frame.index not in users:
            continue
        grays[frame.index] = plan.gray(frame)
        for number, frames in enumerate(wanted):
            if frames[-1] != frame.index:
                continue
            found = palette_of_grays(
                np.stack([grays[one] for one in frames]),
                networks,
                target,
                settings,
                seed,
                plan.reference,
                plan.film.matrix,
            )
            palettes[number] = replace(found, details={"frames": frames, **found.details})
            users.subtract(frames)
        grays = {one: gray for one, gray in grays.items() if users[one] > 0}
    return [palettes[number] for number in range(len(parts))]


def palette_of_grays(
    grays: np.ndarray,
    networks: Networks,
    target: float | None,
    settings: ColorizeSettings,
    seed: int = 0,
    reference: Reference | None = None,
    matrix: str = "bt601",
) -> Palette:
    """Color gray frames without a palette, each alone, and return the palette of the result.

    Args:
        grays: Y' `[n, H, W]` in [0, 1], of size `settings.short_side`.
        networks: the model on the devices.
        target: colorfulness that films are to have; None keeps the model's chroma. The frames'
            colors are scaled beyond it if films are less colorful than their palettes.
        settings: of sampling.
        seed: seed of the noise.
        reference: as for `color_frames`.
        matrix: of the frames' Y'.
    """
    settings = replace(settings, **PLAIN)
    given = ShotSettings(None, reference or default_reference(networks.config.sampling), seed)
    alone = [(index, index + 1) for index in range(len(grays))]
    latents = sample_latents(networks, grays, alone, [given] * len(grays), settings, matrix=matrix)
    # As one clip: each frame by itself would be repeated until it fills a chunk of the decoder.
    held = np.repeat(latents, HELD, axis=0)
    frames = np.concatenate(list(decode_latents(networks, held, [(0, len(held))], settings)))
    colored = zip(grays, frames[HELD // 2 :: HELD], strict=True)
    rgb = np.stack([merge_rgb(gray, frame, matrix, settings.neutral) for gray, frame in colored])
    mean = color.rgb_to_chroma(rgb, matrix).mean(axis=(0, 1, 2))
    found = float(colorfulness(saturate(rgb, 1.0, mean, matrix)).mean())
    kept = networks.config.sampling.palette_colorfulness
    gain = 1.0 if target is None else float(np.clip(target / kept / max(found, 1e-3), *GAIN))
    pixels = saturate(rgb, gain, mean, matrix).reshape(-1, 3)
    colors = kmeans(255.0 * pixels, seed) / 255.0
    details = {"colorfulness": round(found, 2), "gain": round(gain, 3)}
    return Palette.of(colors, "auto", details)


def training_colorfulness(mixture: str | Path) -> float | None:
    """Return the mean colorfulness of the clips that a mixture was fitted on, or None.

    Raises:
        ValueError: if the file is not a mixture, or names no number above 0.
    """
    value = gmm.load(mixture).fitted_on.get("colorfulness")
    if value is not None and not (isinstance(value, int | float) and 0.0 < value < np.inf):
        raise ValueError(f"{mixture}: colorfulness {value!r}; give a number above 0, or none.")
    return value


def spread(part: Shot, count: int) -> list[int]:
    """Return the middle frames of `count` equal parts of a range; fewer of a short one."""
    start, frames = part[0], part[1] - part[0]
    return sorted({start + (2 * one + 1) * frames // (2 * count) for one in range(count)})


def saturate(rgb: np.ndarray, gain: float, mean: np.ndarray, matrix: str) -> np.ndarray:
    """Halve the mean chroma of sRGB `[..., 3]`, and scale what differs from it, within the gamut.

    Args:
        rgb: colors in [0, 1].
        gain: factor of the difference between chroma and its mean.
        mean: mean chroma `[2]`.
        matrix: between RGB and luma.
    """
    luma, chroma = color.rgb_to_luma(rgb, matrix), color.rgb_to_chroma(rgb, matrix)
    chroma = color.limit_gamut(luma, gain * (chroma - mean) + CAST * mean, matrix)
    return np.clip(color.ycc_to_rgb(luma, chroma, matrix), 0.0, 1.0)
