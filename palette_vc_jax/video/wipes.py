"""Find wipes: frames in which the shot after moves over the shot before, from one side."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from palette_vc_jax.video.candidates import Candidates
from palette_vc_jax.video.dissolves import LENGTHS, ROWS, without_bars
from palette_vc_jax.video.shrink import shrink

CHANGE = 0.08  # root mean square of B - A, below which they are one picture
RESIDUAL = 0.3  # squared difference that the best edge leaves, of what A or B alone leaves
EARLY = 0.5  # the same for the middle frame, which is tested first
BEND = 0.15  # how far the edge may be from a straight line
BACK = 0.06  # how far the edge may move back from a frame to the next
# Axis of the edge's way, and whether the second shot enters from the end of it.
SIDES = {"left": (1, False), "right": (1, True), "top": (0, False), "bottom": (0, True)}


class Wipe(NamedTuple):
    """A wipe over the frames `first` to `last`, which show parts of two shots."""

    first: int
    last: int
    side: str  # of SIDES, where the second shot enters
    edges: tuple[float, ...]  # share of the picture that the second shot covers, increasing

    @property
    def cut(self) -> int:
        """Return the first frame that shows more of the second shot than of the first."""
        return self.first + sum(edge < 0.5 for edge in self.edges)

    def shares(self, height: int, width: int) -> Iterator[np.ndarray]:
        """Yield the share of the second shot in each pixel of each frame, `[h, w, 1]`."""
        axis, reverse = SIDES[self.side]
        size = (height, width)[axis]
        for edge in self.edges:
            line = np.clip(edge * size - np.arange(size), 0.0, 1.0).astype(np.float32)
            line = line[::-1] if reverse else line
            shape = (size, 1, 1) if axis == 0 else (1, size, 1)
            yield np.broadcast_to(line.reshape(shape), (height, width, 1))


class WipeFinder:
    """Find wipes in a stream of frames; memory holds the small frames of one wipe."""

    def __init__(self) -> None:
        self._seen: deque[np.ndarray] = deque(maxlen=LENGTHS[-1] + 1)
        self._count = 0
        self._candidates: Candidates[Wipe] = Candidates()

    def add(self, gray: np.ndarray) -> None:
        """Add the next frame, Y' `[h, w]` in [0, 1]."""
        self._seen.append(without_bars(shrink(gray, ROWS)))
        self._count += 1
        for length in LENGTHS:
            if length < len(self._seen):
                self._try(length)
        # No later candidate begins before the first whole frame of this one.
        self._candidates.settle(self._count - LENGTHS[-1])

    def finish(self) -> list[Wipe]:
        """Return all wipes after the last frame was added."""
        return self._candidates.finish()

    def _try(self, length: int) -> None:
        """Test whether the frames between this one and the one `length` before it are wipes."""
        before, after = self._seen[-1 - length], self._seen[-1]
        if np.mean((after - before) ** 2) < CHANGE**2:
            return
        middle = _errors(self._seen[-1 - length // 2][None], before, after)
        for side in SIDES:
            edges, residuals = _edges(*middle, side)
            if residuals[0] > EARLY or abs(edges[0] - 0.5) > BEND + 0.5 / length:
                continue
            frames = np.stack([self._seen[-1 - k] for k in range(length - 1, 0, -1)])
            edges, residuals = _edges(*_errors(frames, before, after), side)
            bend = np.abs(edges - np.arange(1, length) / length).max()
            steps = np.diff(edges, prepend=0.0, append=1.0)
            if bend > BEND or steps.min() < -BACK:
                continue
            # A frame that is nearly all of one shot says little about the edge.
            residual = residuals[length // 4 : -(length // 4)].mean()
            score = float(residual + bend)
            first = self._count - length
            if residual > RESIDUAL:
                continue
            if self._candidates.beats(first, score):
                rising = np.maximum.accumulate(edges)
                found = tuple(round(float(edge), 4) for edge in rising)
                self._candidates.add(Wipe(first, self._count - 2, side, found), score)


def _errors(
    frames: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared differences `[T, h, w]` of frames from the shot before and after."""
    return (frames - before) ** 2, (frames - after) ** 2


def _edges(
    from_before: np.ndarray, from_after: np.ndarray, side: str
) -> tuple[np.ndarray, np.ndarray]:
    """Find the edge of each frame that leaves least, and its share of what one shot leaves.

    Returns:
        Edges `[T]` as shares of the picture, and residuals `[T]`.
    """
    axis, reverse = SIDES[side]
    lines = [error.sum(axis=2 - axis) for error in (from_before, from_after)]  # [T, lines]
    a, b = (line[:, ::-1] if reverse else line for line in lines)
    none = np.zeros((len(a), 1), a.dtype)
    covered = np.concatenate([none, np.cumsum(b, axis=1)], axis=1)
    rest = np.concatenate([none, np.cumsum(a[:, ::-1], axis=1)], axis=1)[:, ::-1]
    cost = covered + rest  # [T, lines + 1]: the second shot covers so many lines
    best = cost.argmin(axis=1)
    alone = np.minimum(cost[:, 0], cost[:, -1])
    return best / a.shape[1], cost.min(axis=1) / np.maximum(alone, 1e-9)
