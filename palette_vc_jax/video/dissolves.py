"""Find dissolves: frames that are a mixture of the shot before and the shot after."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from palette_vc_jax.video.candidates import Candidates
from palette_vc_jax.video.flow import both_flows, warped
from palette_vc_jax.video.shrink import shrink

LENGTHS = (8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 64)  # frames from the last of A to the first of B
ROWS, FLOW_ROWS = 28, 56  # rows of the frames that are compared
SCALE = 4.0  # of the blur that is subtracted, so that common skies and vignettes do not count
RESIDUAL = 0.22  # share of a frame's energy that the mixture may leave, the mean of a dissolve
ALIKE = 0.45  # correlation of A and B above which they are one picture
ALIKE_MOVED = 0.5  # the same after the motion from A to B was removed
SUM = 0.45  # how far the sum of both shares may be from 1
BEND = 0.25  # how far a share may be from a straight line
BACK = 0.05  # how far a share may fall from a frame to the next
BAR = 0.08  # Y' that no pixel of a letterbox bar exceeds
CONTRAST = 0.012  # standard deviation of A and B, without the blur, below which they are blank


class Dissolve(NamedTuple):
    """A dissolve over the frames `first` to `last`, which are mixtures of two shots."""

    first: int
    last: int
    weights: tuple[float, ...]  # share of the second shot in each of these frames, increasing

    @property
    def cut(self) -> int:
        """Return the first frame that shows more of the second shot than of the first."""
        return self.first + sum(weight < 0.5 for weight in self.weights)

    def shares(self, height: int, width: int) -> Iterator[np.ndarray]:
        """Yield the share of the second shot in each pixel of each frame, `[h, w, 1]`."""
        for weight in self.weights:
            yield np.full((height, width, 1), weight, np.float32)


class DissolveFinder:
    """Find dissolves in a stream of frames; memory holds the frames of one dissolve."""

    def __init__(self) -> None:
        self._seen: deque[np.ndarray] = deque(maxlen=LENGTHS[-1] + 1)  # small frames
        self._products: deque[np.ndarray] = deque(maxlen=LENGTHS[-1] + 1)
        self._details: deque[np.ndarray] = deque(maxlen=LENGTHS[-1] + 1)  # high-passed, flat
        self._count = 0
        self._candidates: Candidates[Dissolve] = Candidates()

    def add(self, gray: np.ndarray) -> None:
        """Add the next frame, Y' `[h, w]` in [0, 1]."""
        small = without_bars(shrink(gray, FLOW_ROWS))
        detail = _high_pass(shrink(small, ROWS), SCALE).ravel()
        self._seen.append(small)
        self._details.append(detail)
        # Products of this frame with those before it, the newest last.
        self._products.append(np.array([float(detail @ other) for other in self._details]))
        self._count += 1
        for length in LENGTHS:
            if length < len(self._seen):
                self._try(length)
        # No later candidate begins before the first whole frame of this one.
        self._candidates.settle(self._count - LENGTHS[-1])

    def finish(self) -> list[Dissolve]:
        """Return all dissolves after the last frame was added."""
        return self._candidates.finish()

    def _try(self, length: int) -> None:
        """Test whether the frames between this one and the one `length` before it are mixtures."""
        own = self._products[-1]
        second, both, first = own[-1], own[-1 - length], self._products[-1 - length][-1]
        size = self._details[-1].size
        alike = both / np.sqrt(first * second + 1e-12)
        if min(first, second) < CONTRAST**2 * size or alike > ALIKE:
            return
        # Least squares of each frame between them: share_a * A + share_b * B.
        back = range(length - 1, 0, -1)
        with_b = np.array([own[-1 - k] for k in back])
        with_a = np.array([self._products[-1 - k][k - length - 1] for k in back])
        energy = np.array([self._products[-1 - k][-1] for k in back])
        scale = 1.0 / (first * second - both * both)
        share_a = scale * (with_a * second - with_b * both)
        share_b = scale * (with_b * first - with_a * both)
        residual = 1.0 - (share_a * with_a + share_b * with_b) / np.maximum(energy, 1e-9)
        total = share_a + share_b
        if residual.mean() > RESIDUAL or np.abs(total - 1.0).max() > SUM:
            return
        weights = np.clip(share_b / total, 0.0, 1.0)
        bend = np.abs(weights - np.arange(1, length) / length).max()
        steps = np.diff(weights, prepend=0.0, append=1.0)
        if bend > BEND or steps.min() < -BACK or steps.max() > 0.5:
            return
        first = self._count - length
        score = float(residual.mean() + bend + max(alike, 0.0))
        if not self._candidates.beats(first, score):
            return
        if _same_scene(self._seen[-1 - length], self._seen[-1]):
            return
        rising = np.maximum.accumulate(weights)
        found = tuple(round(float(weight), 4) for weight in rising)
        self._candidates.add(Dissolve(first, self._count - 2, found), score)


def _same_scene(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether `second` shows the picture `first` moved: optical flow explains it."""
    if min(first.shape) < 16:
        return False
    codes = [_flow_codes(gray) for gray in (first, second)]
    moved = warped(second, both_flows(*codes)[0])
    for scale in (SCALE, 2.0 * SCALE):
        a, b = _high_pass(first, scale), _high_pass(moved, scale)
        if np.sum(a * b) > ALIKE_MOVED * np.sqrt(np.sum(a * a) * np.sum(b * b) + 1e-12):
            return True
    return False


def without_bars(gray: np.ndarray) -> np.ndarray:
    """Fill black rows and columns at the borders, whose edges all shots share, from inside."""
    for axis in (0, 1):
        inside = np.flatnonzero(gray.max(axis=1 - axis) > BAR)
        if inside.size:
            # One more line is a mixture of the bar and the picture.
            first = min(inside[0] + (inside[0] > 0), inside[-1])
            last = max(first, inside[-1] - (inside[-1] < gray.shape[axis] - 1))
            gray = gray.take(np.clip(np.arange(gray.shape[axis]), first, last), axis=axis)
    return gray


def _flow_codes(gray: np.ndarray) -> np.ndarray:
    """Return a frame at a fixed mean and contrast, uint8."""
    values = 0.5 + 0.2 * (gray - gray.mean()) / max(float(gray.std()), 0.02)
    return np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)


def _high_pass(gray: np.ndarray, scale: float) -> np.ndarray:
    return gray - cv2.GaussianBlur(gray, (0, 0), scale)
