"""Scale pixels and compute BT.601 luma, for numpy and JAX arrays.

RGB is non-linear, as in sRGB files. Codes are 0 to 255; the networks read [-1, 1].
"""

from typing import TypeVar

import numpy as np

Array = TypeVar("Array")  # a numpy or a JAX array

BT601 = (0.299, 0.587, 0.114)  # weights of red, green and blue in Y', ITU-R BT.601-7


def luma(rgb: Array, dtype: type = np.float32) -> Array:
    """Return Y' `[...]` of RGB `[..., 3]` by BT.601, in the input's scale.

    Args:
        rgb: pixels in any scale.
        dtype: type of the weights, which is the minimum precision of the result.
    """
    # No matrix product: a TPU would round its operands to bfloat16.
    red, green, blue = (dtype(weight) * rgb[..., i] for i, weight in enumerate(BT601))
    return red + green + blue


def to_gray3(rgb: Array) -> Array:
    """Return Y' of RGB `[..., 3]` in all three channels, float32, in the input's scale."""
    gray = luma(rgb)[..., None]
    return gray.__array_namespace__().broadcast_to(gray, rgb.shape).astype(np.float32)


def to_signed(codes: Array) -> Array:
    """Convert codes 0 to 255 to float32 in [-1, 1]."""
    return codes.astype(np.float32) / 127.5 - 1.0


def colorfulness(frames: np.ndarray, signed: bool = True) -> np.ndarray:
    """Return how colorful frames are: 0 not at all, 33 moderately, 59 quite, 109 extremely.

    With rg = R - G and yb = (R + G) / 2 - B on a scale of 0 to 255, a frame has
    M = hypot(std rg, std yb) + 0.3 hypot(mean rg, mean yb). Hasler and Suesstrunk 2003,
    "Measuring colourfulness in natural images", use signed rg and yb; the code of several
    colorization papers (DDColor, ColorMNet) uses their absolute values: `signed=False`.

    Args:
        frames: sRGB `[T, H, W, 3]` in [0, 1].
        signed: use signed rg and yb.

    Returns:
        M of each frame, `[T]`.
    """
    red, green, blue = np.moveaxis(frames.astype(np.float64) * 255.0, -1, 0)
    opponents = [red - green, 0.5 * (red + green) - blue]
    if not signed:
        opponents = [np.abs(opponent) for opponent in opponents]
    spread = np.hypot(*(o.std(axis=(1, 2)) for o in opponents))
    offset = np.hypot(*(o.mean(axis=(1, 2)) for o in opponents))
    return spread + 0.3 * offset
