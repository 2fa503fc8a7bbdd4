"""Make frames small: to compare them, or to show them."""

import cv2
import numpy as np


def shrink(gray: np.ndarray, rows: int) -> np.ndarray:
    """Return a frame `[H, W]` with at most `rows` rows, by area means; its aspect ratio stays."""
    height, width = gray.shape
    rows = min(rows, height)
    size = (max(1, round(rows * width / height)), rows)
    return cv2.resize(np.ascontiguousarray(gray, np.float32), size, interpolation=cv2.INTER_AREA)


def limited_size(height: int, width: int, most: int) -> tuple[int, int]:
    """Return the height and width of a frame that is made at most `most` pixels wide."""
    if width <= most:
        return height, width
    return max(1, round(height * most / width)), most
