"""Vary the colors of training crops, so that a model reads the palette instead of knowing the clip.

A model that sees few clips memorizes their colors and ignores a palette that is new to it. Only
the palette tells the colors of a crop whose hues are shifted by a random angle.
"""

import numpy as np

from palette_vc_jax.video.color import limit_gamut, rgb_to_chroma, rgb_to_luma, ycc_to_rgb

MATRIX = "bt601"
TONE = 0.25  # standard deviation of ln gamma
SATURATION = (0.7, 1.4)  # least and most


def vary_colors(frames: np.ndarray, shift_hue: bool, rng: np.random.Generator) -> np.ndarray:
    """Change the tone curve and the saturation of a crop at random, and its hues if asked.

    Args:
        frames: uint8 sRGB `[T, H, W, 3]`; all get the same variation.
        shift_hue: rotate the plane of Cb and Cr by a uniformly random angle, at fixed Y'.
        rng: source of the gamma, the saturation and the angle.
    """
    rgb = (frames / 255.0).astype(np.float32) ** np.float32(np.exp(rng.normal(0.0, TONE)))
    angle = rng.uniform(0.0, 2.0 * np.pi) if shift_hue else 0.0
    cos, sin = np.cos(angle), np.sin(angle)
    turn = rng.uniform(*SATURATION) * np.array([[cos, -sin], [sin, cos]], np.float32)
    gray = rgb_to_luma(rgb, MATRIX)
    chroma = limit_gamut(gray, rgb_to_chroma(rgb, MATRIX) @ turn, MATRIX)
    varied = np.clip(ycc_to_rgb(gray, chroma, MATRIX), 0.0, 1.0)
    return np.rint(varied * 255.0).astype(np.uint8)
