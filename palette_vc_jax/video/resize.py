"""Sizes: the model's pictures from the film's, and the model's chroma at the film's size."""

import cv2
import numpy as np

RADIUS = 1  # of the guided filter's window, in the model's pixels
FLATNESS = 1e-2  # variance of Y' under which luma says little about chroma


def model_size(height: int, width: int, short_side: int, multiple: int) -> tuple[int, int]:
    """Give the size (height, width) at which the model sees a film.

    The short side comes near `short_side`, the aspect ratio is nearly kept, and both sides are
    multiples of `multiple`.
    """
    scale = short_side / min(height, width)

    def fit(side: int) -> int:
        return max(1, round(side * scale / multiple)) * multiple

    return fit(height), fit(width)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [H, W] or [H, W, C]: means of areas where it shrinks, linear where it grows.

    Neither overshoots. Returns float32 in the input's scale; pixel centers as in OpenCV.
    """
    image = np.ascontiguousarray(image, np.float32)
    # Side by side, since OpenCV takes areas only if both sides shrink.
    least = (min(height, image.shape[0]), min(width, image.shape[1]))
    for (rows, columns), how in ((least, cv2.INTER_AREA), ((height, width), cv2.INTER_LINEAR)):
        if image.shape[:2] != (rows, columns):
            shape = (rows, columns, *image.shape[2:])
            image = cv2.resize(image, (columns, rows), interpolation=how).reshape(shape)
    return image


def upsample_chroma(chroma: np.ndarray, grey_small: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Bring the model's chroma to the film's size along the film's luma edges.

    A fast guided filter (He and Sun, arXiv 1505.00996): in each small window chroma is fitted as
    a line in luma, and the line is applied to the large luma. What the line does not explain is
    added back by linear interpolation, and the result is kept within the chroma of the
    neighboring small pixels, so that grain and highlights beyond the small picture's range give
    no halos. Constant chroma stays as it is.

    Args:
        chroma: [h, w, 2] (Cb, Cr).
        grey_small: [h, w] Y' in [0, 1] at the same size.
        grey: [H, W] Y' of the film.

    Returns float32 [H, W, 2].
    """
    chroma = np.ascontiguousarray(chroma, np.float32)
    small = np.ascontiguousarray(grey_small, np.float32)[..., None]
    height, width = grey.shape
    if height <= small.shape[0] and width <= small.shape[1]:
        return resize(chroma, height, width)
    mean, mean_chroma = _blur(small), _blur(chroma)
    variance = np.maximum(_blur(small * small) - mean * mean, 0.0)
    slope = (_blur(small * chroma) - mean * mean_chroma) / (variance + FLATNESS)
    line = _blur(np.concatenate([slope, mean_chroma - slope * mean], axis=-1))
    slope, offset = line[..., :2], line[..., 2:]
    offset = offset + (chroma - (slope * small + offset))  # the rest, added back
    kernel = np.ones((3, 3), np.uint8)
    bounds = [cv2.erode(chroma, kernel), cv2.dilate(chroma, kernel)]

    slope, offset, low, high = (
        cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
        for part in (slope, offset, *bounds)
    )
    slope *= np.asarray(grey, np.float32)[..., None]
    slope += offset
    return np.minimum(np.maximum(slope, low), high)


def _blur(image: np.ndarray) -> np.ndarray:
    side = 2 * RADIUS + 1
    blurred = cv2.blur(image, (side, side), borderType=cv2.BORDER_REFLECT)
    return blurred.reshape(image.shape)


def subsample_chroma(
    chroma: np.ndarray, rows: int, columns: int, interlaced: bool = False
) -> np.ndarray:
    """Shrink chroma [H, W, C] by `rows` and `columns` (1 or 2 each), sited as MPEG has it.

    Columns lie on every other luma column (weights 1 2 1), rows between two luma rows. The two
    fields of an interlaced frame, half a frame apart in time, are not mixed.
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
