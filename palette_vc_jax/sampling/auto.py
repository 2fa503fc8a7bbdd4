"""The automatic palette: the model's own colors of a few frames, as saturated as training film.

A model without a palette colors carefully: its colors are near the mean of what it holds possible,
and this mean has a cast. The colors still say which hues belong to the film. Half of the cast is
removed, and chroma is scaled until the frames would be as colorful as the clips that the model was
trained on. K-means finds five colors of the result (docs/benchmarks.md compares other ways).
"""

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
from palette_vc_jax.sampling.colorize import ColorizeSettings, networks_for
from palette_vc_jax.sampling.frames import color_frames
from palette_vc_jax.sampling.job import Plan
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.sampling.reference import Reference
from palette_vc_jax.video import color
from palette_vc_jax.video.read import read_frames

FRAMES = 4  # of the film
GAIN = (0.5, 3.0)  # least and most that chroma is scaled by
CAST = 0.5  # share of the mean chroma that is removed


def auto_palette(
    plan: Plan,
    model: Model,
    mixture: str | Path | None = None,
    seed: int = 0,
    networks: Networks | None = None,
) -> Palette:
    """Color a few frames of a film without a palette, and return the palette of the result.

    Args:
        plan: from `plan_film`.
        model: from `load_model`.
        mixture: file of a mixture, which names the colorfulness of the training film; None for the
            model's own, or else the demo's. If it names none, the model's own chroma is kept.
        seed: seed of the noise.
        networks: the model on the devices, as for `color_film`; None to load it.

    Raises:
        ValueError: if the film cannot be read.
        FloatingPointError: if a network returns values that are not finite.
    """
    wanted = spread(plan.frames, FRAMES)
    frames = [frame for frame in read_frames(plan.film) if frame.index in wanted]
    # The plan's size may be off the short side by rounding; these frames have it already.
    settings = replace(plan.settings, short_side=min(plan.size))
    palette = palette_of_grays(
        np.stack([plan.gray(frame) for frame in frames]),
        networks or networks_for(model, settings, plan.runs),
        training_colorfulness(mixture or mixture_for("auto", model.folder or DEMO)),
        settings,
        seed,
        plan.reference,
        plan.film.matrix,
    )
    return replace(palette, details={"frames": sorted(wanted), **palette.details})


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
        target: colorfulness that the frames' colors are scaled to; None keeps the model's chroma.
        settings: of sampling.
        seed: seed of the noise.
        reference: as for `color_frames`.
        matrix: of the frames' Y'.
    """
    rgb = color_frames(
        grays,
        networks,
        settings=replace(settings, **PLAIN),
        seed=seed,
        reference=reference,
        shots=[(index, index + 1) for index in range(len(grays))],  # each frame alone
        matrix=matrix,
    )
    found = float(colorfulness(rgb).mean())
    gain = 1.0 if target is None else float(np.clip(target / max(found, 1e-3), *GAIN))
    pixels = saturate(rgb.reshape(-1, 3), gain, matrix)
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


def spread(frames: int, count: int) -> set[int]:
    """Return the middle frames of `count` equal parts of a film; fewer of a short one."""
    return {(2 * part + 1) * frames // (2 * count) for part in range(count)}


def saturate(pixels: np.ndarray, gain: float, matrix: str) -> np.ndarray:
    """Remove half of the mean chroma of sRGB `[n, 3]` and scale the rest, within the gamut."""
    luma, chroma = color.rgb_to_luma(pixels, matrix), color.rgb_to_chroma(pixels, matrix)
    chroma = gain * (chroma - CAST * chroma.mean(axis=0))
    chroma = color.limit_gamut(luma, chroma, matrix)
    return np.clip(color.ycc_to_rgb(luma, chroma, matrix), 0.0, 1.0)
