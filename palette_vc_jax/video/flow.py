"""Optical flow between lumas by OpenCV's DIS (Kroeger et al. 2016), and where it is reliable.

The mask of reliable pixels is that of `evaluate_WarpError.py` of Lai et al. 2018, "Learning Blind
Video Temporal Consistency".
"""

from typing import NamedTuple

import cv2
import numpy as np

LEAST = 16  # pixels of a side that DIS needs


class Flow(NamedTuple):
    """The positions of one frame's pixels in the next frame."""

    offsets: np.ndarray  # [H, W, 2] float32, columns and rows
    # [H, W] float32: 1 where the pixel is visible in both frames and the motion is smooth, else 0.
    seen: np.ndarray


def dis_flow(first: np.ndarray, second: np.ndarray) -> Flow:
    """Compute the flow from luma `first` to `second`, `[H, W]` uint8, and where it is reliable.

    Raises:
        ValueError: if the frames are too small for the method.
    """
    forward, backward = both_flows(first, second)
    return Flow(forward, seen(forward, backward))


def both_flows(
    first: np.ndarray, second: np.ndarray, preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow from luma `first` to `second` and the flow back, `[H, W, 2]` each.

    Raises:
        ValueError: as `dis_flow`.
    """
    if min(first.shape) < LEAST:
        raise ValueError(f"frames of less than {LEAST} pixels per side have no DIS flow")
    dis = cv2.DISOpticalFlow_create(preset)
    return dis.calc(first, second, None), dis.calc(second, first, None)


def seen(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Return a mask `[H, W]`, float32: 1 where forward and backward flow agree and are smooth.

    It is 0 where |f + b|^2 > 0.01 (|f|^2 + |b|^2) + 0.5, with b at the end of f (occlusion), where
    |grad f|^2 > 0.01 |f|^2 + 0.002 (motion boundary), and where f leaves the frame.
    """
    rows = np.diff(forward, axis=0, append=forward[-1:])
    columns = np.diff(forward, axis=1, append=forward[:, -1:])
    boundary = _square(rows) + _square(columns) > 0.01 * _square(forward) + 0.002
    return (consistent(forward, backward) & ~boundary).astype(np.float32)


def consistent(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Return a bool mask `[H, W]`: forward and backward flow agree, and end within the frame."""
    back = warped(backward, forward)
    mismatch = _square(forward + back) > 0.01 * (_square(forward) + _square(back)) + 0.5
    height, width = forward.shape[:2]
    x, y = _ends(forward)
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    return ~(mismatch | outside)


def warped(frame: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return a frame `[H, W, ...]` sampled, at each pixel, at the end of that pixel's flow."""
    x, y = _ends(offsets)
    return cv2.remap(
        np.asarray(frame, np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _ends(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = offsets.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x + offsets[..., 0], y + offsets[..., 1]


def _square(vectors: np.ndarray) -> np.ndarray:
    return np.sum(vectors.astype(np.float32) ** 2, axis=-1)
