"""Keep black bars, titles and blown highlights neutral: fade chroma out near black and white."""

from typing import NamedTuple

import cv2
import numpy as np


class Neutral(NamedTuple):
    """The lumas Y' between which colors are full.

    Chroma fades from `dark` down to half of it, and from `bright` up to the middle between it and
    white. It is 0 beyond.
    """

    dark: float = 0.0  # 0 keeps the colors of dark pixels
    bright: float = 1.0  # 1 keeps the colors of bright pixels


OFF = Neutral()


def check_neutral(neutral: Neutral) -> None:
    """Raise ValueError if the lumas of a `Neutral` are out of order or not in [0, 1]."""
    dark, bright = neutral
    if not 0.0 <= dark < bright <= 1.0:
        raise ValueError(
            f"neutral_dark {dark} and neutral_bright {bright}; give two lumas with 0 <= dark < "
            "bright <= 1 (0 and 1 keep all colors)."
        )


def neutral_weight(gray: np.ndarray, neutral: Neutral) -> np.ndarray:
    """Return the factor of each pixel's chroma, float32 `[H, W]` in [0, 1].

    A morphological opening removes lines of medium luma between black and white, which are the
    edges of titles.

    Args:
        gray: Y' `[H, W]` in [0, 1] at the film's size.
        neutral: where chroma fades.
    """
    dark, bright = neutral
    weight = np.ones_like(gray, np.float32)
    if dark > 0.0:
        weight *= _smoothstep(gray, 0.5 * dark, dark)
    if bright < 1.0:
        weight *= 1.0 - _smoothstep(gray, bright, 0.5 * (1.0 + bright))
    side = 1 + 2 * max(1, round(min(gray.shape) / 480))
    return cv2.morphologyEx(weight, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))


def neutralize(gray: np.ndarray, chroma: np.ndarray, neutral: Neutral) -> np.ndarray:
    """Return chroma `[H, W, 2]` without color in the dark and bright areas of Y' `[H, W]`."""
    if neutral == OFF:
        return chroma
    return chroma * neutral_weight(gray, neutral)[..., None]


def _smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, and a cubic without corners between them."""
    t = np.clip((np.asarray(values, np.float32) - low) / np.float32(high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
