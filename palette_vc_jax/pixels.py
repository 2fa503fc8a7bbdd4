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
    return rgb @ np.array(BT601, dtype)


def to_gray3(rgb: Array) -> Array:
    """Return Y' of RGB `[..., 3]` in all three channels, float32, in the input's scale."""
    gray = luma(rgb)[..., None]
    return gray.__array_namespace__().broadcast_to(gray, rgb.shape).astype(np.float32)


def to_signed(codes: Array) -> Array:
    """Convert codes 0 to 255 to float32 in [-1, 1]."""
    return codes.astype(np.float32) / 127.5 - 1.0
