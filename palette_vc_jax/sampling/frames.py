"""Color frames in memory, and keep their luma."""

import itertools
from collections.abc import Sequence

import numpy as np

from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.colorize import (
    ColorizeSettings,
    colorize,
    default_settings,
    networks_for,
)
from palette_vc_jax.sampling.memory_plan import fit
from palette_vc_jax.sampling.reference import Reference, default_reference
from palette_vc_jax.sampling.sampler import Progress
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video import color
from palette_vc_jax.video.resize import merge_rgb, model_size, resize


def color_frames(
    frames: np.ndarray,
    model: Model | Networks,
    palette: Palette | None = None,
    settings: ColorizeSettings | None = None,
    *,
    seed: int = 0,
    reference: Reference | None = None,
    shots: Sequence[Shot] | None = None,
    matrix: str = "bt601",
    progress: Progress | None = None,
) -> np.ndarray:
    """Color frames; keep their luma and ignore any colors that they have.

    Args:
        frames: Y' `[T, H, W]` or sRGB `[T, H, W, 3]`, uint8 or float in [0, 1].
        model: from `load_model`; or its networks on the device, to avoid loading them again.
        palette: colors that guide the result, or None for the null palette.
        settings: from `default_settings`; None for the model's own.
        seed: seed of the noise, 0 to 2^32 - 1.
        reference: the image that the image tower sees; None for the kind of reference that the
            model was mostly trained with.
        shots: half-open ranges that cover the frames; None for a single shot.
        matrix: matrix between RGB and luma: `bt601` (as in JPEG), `bt709` or `bt2020`.
        progress: called with (done, total) batches of windows.

    Returns:
        sRGB `[T, H, W, 3]` of the type of `frames`.

    Raises:
        ValueError: if the shape or type of the frames or the settings are not valid.
        FloatingPointError: if a network returns values that are not finite.
    """
    gray = to_gray(frames, matrix)
    config = model.config
    settings = settings or default_settings(config)
    shots = shots or [(0, len(gray))]
    height, width = gray.shape[1:]
    size = model_size(height, width, settings.short_side, config.pixel_multiple)
    settings = fit(config, settings, size)
    if not isinstance(model, Networks):
        model = networks_for(model, settings, [shots])
    chunks = colorize(
        model,
        (resize(frame, *size) for frame in gray),
        shots,
        [ShotSettings(palette, reference or default_reference(config.sampling), seed)] * len(shots),
        settings,
        progress,
    )
    result = np.empty((*gray.shape, 3), frames.dtype)
    colored = itertools.chain.from_iterable(chunks)
    for index, (frame, image) in enumerate(zip(gray, colored, strict=True)):
        rgb = merge_rgb(frame, image, matrix, settings.neutral)
        result[index] = np.rint(255.0 * rgb) if frames.dtype == np.uint8 else rgb
    return result


def to_gray(frames: np.ndarray, matrix: str) -> np.ndarray:
    """Return Y' `[T, H, W]`, float32 in [0, 1], of frames as `color_frames` takes them.

    Raises:
        ValueError: if the frames have another shape or type, or values that are not finite.
    """
    is_gray, is_rgb = frames.ndim == 3, frames.ndim == 4 and frames.shape[-1] == 3
    known = frames.dtype == np.uint8 or np.issubdtype(frames.dtype, np.floating)
    if not (is_gray or is_rgb) or not known or not frames.size:
        raise ValueError(
            f"frames of shape {frames.shape} and type {frames.dtype}; give [T, H, W] or "
            "[T, H, W, 3], uint8 or float in [0, 1]."
        )
    if not np.isfinite(frames).all():
        raise ValueError("frames with values that are not finite; give values in [0, 1].")
    gray = frames.astype(np.float32) if is_gray else color.rgb_to_luma(frames, matrix)
    return gray / np.float32(255.0) if frames.dtype == np.uint8 else gray
