"""Vary the colors of training crops, so that a model reads the palette instead of knowing the clip.

Few clips are told apart by their palettes alone: a model learns their colors by heart, and a
palette that it has not seen before says nothing to it. Crops whose hues are turned can only be
colored by what the palette says.
"""

import numpy as np

from palette_vc_jax.video.color import limit_gamut, rgb_to_chroma, rgb_to_luma, ycc_to_rgb

MATRIX = "bt601"
TONE = 0.25  # standard deviation of ln gamma
SATURATION = (0.7, 1.4)  # least and most


def vary(frames: np.ndarray, turn_hue: bool, rng: np.random.Generator) -> np.ndarray:
    """Give a crop another tone curve and saturation, and other hues where asked.

    Args:
        frames: uint8 sRGB `[T, H, W, 3]`; all get the same variation.
        turn_hue: turn the plane of Cb and Cr by a uniformly random angle, at fixed Y'.
        rng: source of the gamma, the saturation and the angle.
    """
    rgb = (frames / 255.0).astype(np.float32) ** np.float32(np.exp(rng.normal(0.0, TONE)))
    angle = rng.uniform(0.0, 2.0 * np.pi) if turn_hue else 0.0
    cos, sin = np.cos(angle), np.sin(angle)
    turn = rng.uniform(*SATURATION) * np.array([[cos, -sin], [sin, cos]], np.float32)
    grey = rgb_to_luma(rgb, MATRIX)
    chroma = limit_gamut(grey, rgb_to_chroma(rgb, MATRIX) @ turn, MATRIX)
    varied = np.clip(ycc_to_rgb(grey, chroma, MATRIX), 0.0, 1.0)
    return np.rint(varied * 255.0).astype(np.uint8)
