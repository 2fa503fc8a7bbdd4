"""Compute PSNR and SSIM of single frames, as scikit-image does.

SSIM has a uniform window of 7 x 7 pixels, without Gaussian weights.
"""

import numpy as np
from skimage.metrics import structural_similarity

SSIM_WINDOW = 7  # width and height in pixels


def psnr(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio `[T]` of frames `[T, ...]` from 0 to 255, in dB.

    It is 10 log10(255^2 / mean squared error) over all pixels and channels of a frame, and
    infinite for equal frames.
    """
    # Convert first, because differences of uint8 wrap around, which adds 7 dB for a gray copy.
    difference = left.astype(np.float64) - right.astype(np.float64)
    error = np.mean(difference**2, axis=tuple(range(1, left.ndim)))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / error)


def ssim(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the structural similarity `[T]` of frames `[T, H, W]` or `[T, H, W, 3]`, 0 to 255.

    The value is the mean over channels.

    Raises:
        ValueError: if the frames are smaller than the window.
    """
    if min(left.shape[1:3]) < SSIM_WINDOW:
        raise ValueError(f"frames of less than {SSIM_WINDOW} pixels per side have no SSIM")
    axis = -1 if left.ndim == 4 else None
    pairs = zip(left, right, strict=True)
    return np.array(
        [structural_similarity(a, b, data_range=255.0, channel_axis=axis) for a, b in pairs]
    )
