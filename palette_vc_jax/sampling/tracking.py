"""Follow what a shot shows from one frame to the next, by optical flow of the film's luma."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.fades import FULL, Light
from palette_vc_jax.video.film import Film, Frame, upright_size
from palette_vc_jax.video.flow import both_flows, consistent, warped
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import small_gray

FLOW_SIDE = 256  # pixels of the short side of the frames that flow is computed on
# Of the filter that fits a carried mask to the frame:
WINDOW = 0.024  # radius of its window, as a share of the short side, ...
NARROW = 0.07  # and at most this share of the mask's width: a larger window erases a small mask
FLATNESS = 1e-3  # variance of Y' below which luma says little about the mask
UNRELIABLE = 0.1  # weight of pixels where the flow and the flow back do not agree
SHARPEN = 1.5  # gain of a carried mask around 1/2, against the blur of interpolating it


def read_shots(
    film: Film, shots: Sequence[Shot], lights: Mapping[int, Light] | None = None
) -> Iterator[tuple[Shot, np.ndarray]]:
    """Yield shots and their frames, uint8 `[T, H, W]` and upright, at the size of the flow.

    Args:
        film: from `open_film`.
        shots: half-open ranges, ascending.
        lights: of frames in fades, which are yielded as bright as the lit picture.
    """
    frames, done = read_frames(film), 0
    upright = upright_size(film)
    scale = FLOW_SIDE / min(upright)
    size = round(upright[0] * scale), round(upright[1] * scale)

    def codes(frame: Frame) -> np.ndarray:
        light = (lights or {}).get(frame.index, FULL)
        return np.rint(255.0 * light.lit(small_gray(frame, film, size))).astype(np.uint8)

    for start, stop in shots:
        part = itertools.islice(frames, start - done, stop - done)
        grays = [codes(frame) for frame in part]
        done = stop
        yield (start, stop), np.stack(grays)


def carry(frames: np.ndarray, mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the mask of the first of `frames` `[T, H, W]` uint8, and of each frame after it.

    A pixel takes the mask's value from its place in the frame before, by the flow between both.
    The result is fitted to the edges of the frame, which keeps errors of the flow from adding up.

    Args:
        frames: Y' codes.
        mask: `[H, W]` in [0, 1].
    """
    yield mask
    for before, now in itertools.pairwise(frames):
        back, weight = _flow(now, before)
        fitted = _fit_edges(warped(mask, back), now / np.float32(255.0), weight)
        mask = np.clip(0.5 + SHARPEN * (fitted - 0.5), 0.0, 1.0)
        yield mask


def trace(frames: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield where the pixels of each of `frames` `[T, H, W]` uint8 are in the first frame.

    Yields:
        Columns and rows `[H, W, 2]`, and how reliable they are, `[H, W]` in [0, 1].
    """
    height, width = frames.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    places, reliable = np.stack([columns, rows], axis=-1), np.ones((height, width), np.float32)
    yield places, reliable
    for before, now in itertools.pairwise(frames):
        back, weight = _flow(now, before)
        places, reliable = warped(places, back), warped(reliable, back) * weight
        yield places, reliable


def _flow(now: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow `[H, W, 2]` from a frame to the one before it, and weights `[H, W]`."""
    back, forward = both_flows(now, before, cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return back, np.where(consistent(back, forward), 1.0, UNRELIABLE).astype(np.float32)


def _fit_edges(mask: np.ndarray, gray: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fit a mask to the edges of a frame: a guided filter (He et al. 2010) with weights.

    In each small window the mask is fitted as a linear function of luma.
    """
    side = 2 * min(round(WINDOW * min(mask.shape)), int(NARROW * _width(mask))) + 1

    def blur(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values.astype(np.float32), (side, side))

    total = blur(weight)
    mean_gray, mean_mask = blur(weight * gray) / total, blur(weight * mask) / total
    variance = blur(weight * gray * gray) / total - mean_gray * mean_gray
    slope = (blur(weight * gray * mask) / total - mean_gray * mean_mask) / (variance + FLATNESS)
    slope, offset = (
        blur(weight * values) / total for values in (slope, mean_mask - slope * mean_gray)
    )
    return slope * gray + offset


def _width(mask: np.ndarray) -> float:
    """Return the side of squares, or the diameter of disks, with a mask's area and outline."""
    outline = np.hypot(*np.gradient(mask)).sum()
    return 4.0 * float(mask.sum()) / max(float(outline), 1e-6)
