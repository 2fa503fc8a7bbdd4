"""Resize a film's frames to the model's size, and the model's chroma to the film's size."""

import cv2
import numpy as np

from palette_vc_jax.video import color, hdr
from palette_vc_jax.video.fades import FULL, Light
from palette_vc_jax.video.film import Film, Frame, orient
from palette_vc_jax.video.neutral import OFF, Neutral, neutralize

MAX_RATIO = 100  # of a frame's sides
RADIUS = 1  # radius of the guided filter's window, in the model's pixels
FLATNESS = 1e-2  # variance of Y' below which luma hardly predicts chroma


def model_size(height: int, width: int, short_side: int, multiple: int) -> tuple[int, int]:
    """Return the size (height, width) in pixels at which the model processes a film.

    The short side is close to `short_side`, both sides are multiples of `multiple`, and the aspect
    ratio is kept up to that rounding.

    Raises:
        ValueError: if the frames are so narrow that their header is rather damaged.
    """
    if max(height, width) > MAX_RATIO * min(height, width):
        raise ValueError(
            f"frames of {width}x{height} pixels; one side may be {MAX_RATIO} times the other at "
            "most: crop the film, or use an undamaged copy."
        )
    scale = short_side / min(height, width)

    def fit(side: int) -> int:
        return max(1, round(side * scale / multiple)) * multiple

    return fit(height), fit(width)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize `[H, W]` or `[H, W, C]`: area means where it shrinks, linear where it grows.

    Neither overshoots. Return float32 in the input's scale, with OpenCV's pixel centers.
    """
    image = np.ascontiguousarray(image, np.float32)
    # Shrink first and grow second, because OpenCV averages areas only if both sides shrink.
    least = (min(height, image.shape[0]), min(width, image.shape[1]))
    for (rows, columns), how in ((least, cv2.INTER_AREA), ((height, width), cv2.INTER_LINEAR)):
        if image.shape[:2] != (rows, columns):
            shape = (rows, columns, *image.shape[2:])
            image = cv2.resize(image, (columns, rows), interpolation=how).reshape(shape)
    return image


def small_gray(frame: Frame, film: Film, size: tuple[int, int]) -> np.ndarray:
    """Return a frame's Y' `[H, W]` in [0, 1], in SDR, upright and of the model's `size`."""
    gray = hdr.sdr_gray(color.gray(frame.luma, film), film.tags[2])
    return resize(orient(gray, film.orientation), *size)


def merge_chroma(
    gray: np.ndarray,
    image: np.ndarray,
    matrix: str,
    neutral: Neutral = OFF,
    light: Light = FULL,
) -> np.ndarray:
    """Return the model's chroma at a frame's size, limited to the gamut at the frame's luma.

    Args:
        gray: the frame's Y' `[H, W]` in [0, 1].
        image: the model's RGB `[h, w, 3]` in [0, 1].
        matrix: matrix between RGB and luma of both.
        neutral: the lumas at which chroma fades out.
        light: the light of a frame in a fade; `image` is what the model made of the lit frame.

    Returns:
        (Cb, Cr) `[H, W, 2]`.
    """
    lit = light.lit(gray)
    small = resize(lit, *image.shape[:2])
    chroma = upsample_chroma(color.rgb_to_chroma(image, matrix), small, lit)
    chroma = neutralize(lit, color.limit_gamut(lit, chroma, matrix), neutral)
    return chroma if light == FULL else np.float32(light.gain) * chroma


def merge_rgb(
    gray: np.ndarray, image: np.ndarray, matrix: str, neutral: Neutral = OFF
) -> np.ndarray:
    """Return a frame with its own luma and an image's chroma, RGB `[H, W, 3]` in [0, 1].

    The arguments are those of `merge_chroma`.
    """
    chroma = merge_chroma(gray, image, matrix, neutral)
    return np.clip(color.ycc_to_rgb(gray, chroma, matrix), 0.0, 1.0)


def upsample_chroma(chroma: np.ndarray, gray_small: np.ndarray, gray: np.ndarray) -> np.ndarray:
    """Upsample the model's chroma to the film's size along the film's luma edges.

    This is a fast guided filter (He and Sun, arXiv 1505.00996): chroma is fitted as a linear
    function of luma in each small window, and that function is applied to the large luma. The
    residual of the fit is interpolated and added, and the result is clipped to the chroma of the
    neighboring small pixels, so that grain and highlights outside the range of the small luma
    cause no halos. Constant chroma does not change.

    Args:
        chroma: `[h, w, 2]` (Cb, Cr).
        gray_small: `[h, w]`, Y' in [0, 1] at the same size.
        gray: `[H, W]`, Y' of the film.

    Returns:
        Chroma `[H, W, 2]`, float32.
    """
    chroma = np.ascontiguousarray(chroma, np.float32)
    small = np.ascontiguousarray(gray_small, np.float32)[..., None]
    height, width = gray.shape
    if height <= small.shape[0] and width <= small.shape[1]:
        return resize(chroma, height, width)
    mean, mean_chroma = _blur(small), _blur(chroma)
    variance = np.maximum(_blur(small * small) - mean * mean, 0.0)
    slope = (_blur(small * chroma) - mean * mean_chroma) / (variance + FLATNESS)
    line = _blur(np.concatenate([slope, mean_chroma - slope * mean], axis=-1))
    slope, offset = line[..., :2], line[..., 2:]
    offset = offset + (chroma - (slope * small + offset))  # add the residual of the fit
    kernel = np.ones((3, 3), np.uint8)
    bounds = [cv2.erode(chroma, kernel), cv2.dilate(chroma, kernel)]

    slope, offset, low, high = (
        cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
        for part in (slope, offset, *bounds)
    )
    slope *= np.asarray(gray, np.float32)[..., None]
    slope += offset
    return np.minimum(np.maximum(slope, low), high)


def _blur(image: np.ndarray) -> np.ndarray:
    side = 2 * RADIUS + 1
    blurred = cv2.blur(image, (side, side), borderType=cv2.BORDER_REFLECT)
    return blurred.reshape(image.shape)


def subsample_chroma(
    chroma: np.ndarray, rows: int, columns: int, interlaced: bool = False
) -> np.ndarray:
    """Shrink chroma `[H, W, C]` by `rows` and `columns` (1 or 2 each) with MPEG-2's siting.

    Chroma columns coincide with every other luma column (weights 1 2 1), and chroma rows are
    between two luma rows. The two fields of an interlaced frame, half a frame apart in time, are
    shrunk separately.
    """
    if columns == 2:
        left = np.concatenate([chroma[:, :1], chroma[:, 1:-1:2]], axis=1)
        chroma = 0.25 * left + 0.5 * chroma[:, ::2] + 0.25 * chroma[:, 1::2]
    if rows == 2 and interlaced and chroma.shape[0] % 4 == 0:
        shrunk = np.empty((chroma.shape[0] // 2, *chroma.shape[1:]), chroma.dtype)
        for field in (0, 1):
            shrunk[field::2] = subsample_chroma(chroma[field::2], 2, 1)
        return shrunk
    if rows == 2:
        chroma = 0.5 * (chroma[::2] + chroma[1::2])
    return chroma
