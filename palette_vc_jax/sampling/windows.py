"""Plan the overlapping windows in which a film is denoised: pure numpy, no model.

The network processes T frames at a time. A plan lists the frames of each window, and the weight of
each window at each of its frames. Windows never cross a cut, and the weights of all windows at a
frame sum to 1, so blending is one weighted sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MODES = ("sliding", "anchored")
WEIGHTS = ("triangular", "uniform")

Shot = tuple[int, int]  # first frame, and the frame after the last


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """W windows of T frames over a film of N frames.

    Args:
        indices: int32 `[W, T]`, the film's frame at each position of each window.
        weights: float32 `[W, T]`, at least 0; over the plan they sum to 1 for every frame.
        shot: int32 `[W]`, the shot of each window.
        frames: N.
        batch: K, windows evaluated together; it divides W.
    """

    indices: np.ndarray
    weights: np.ndarray
    shot: np.ndarray
    frames: int
    batch: int = 1

    @property
    def windows(self) -> int:
        """Return the number of windows, padding included."""
        return self.indices.shape[0]


def plan_windows(
    shots: Sequence[Shot],
    window: int,
    overlap: int,
    mode: str = "sliding",
    weights: str = "triangular",
) -> WindowPlan:
    """Cover every shot of a film with windows of `window` frames.

    A shot shorter than a window is extended by mirrored frames (0 1 2 1 0 1 ...) rather than by
    copies of its last frame: norms pool over all frames of a window without a mask, and mirrored
    frames have the motion and the statistics of the shot. The extension has weight 0, because its
    frames run backward in time and occur already, running forward.

    Args:
        shots: consecutive half-open frame ranges that cover the film from frame 0.
        window: frames per window, at least 1.
        overlap: frames that neighboring windows of a shot share, below `window`. The last window
            of a shot is moved back to end with the shot, and may share more.
        mode: `sliding`, or `anchored`: the shot's first frame is the first frame of every window,
            as in MimicMotion, and counts as one of the shared frames.
        weights: `triangular` (lowest at the ends of a window, as in MimicMotion) or `uniform`.

    Raises:
        ValueError: if the shots do not cover a film, a value is out of range, or anchored windows
            have overlap 0.
    """
    check_shots(shots)
    _check_windows(window, overlap, mode, weights)
    profile = triangular(window) if weights == "triangular" else np.ones(window)
    indices, raw, owner = [], [], []
    for number, (start, stop) in enumerate(shots):
        for positions in _shot_windows(stop - start, window, overlap, mode):
            real = np.arange(window) < stop - start  # the other frames are mirrored
            indices.append(start + positions)
            raw.append(np.where(real, profile, 0.0))
            owner.append(number)
    plan_indices = np.asarray(indices, np.int32)
    frames = int(shots[-1][1])
    return WindowPlan(
        plan_indices,
        normalize(plan_indices, np.asarray(raw), frames),
        np.asarray(owner, np.int32),
        frames,
    )


def pad(plan: WindowPlan, batch: int) -> WindowPlan:
    """Repeat the last window with weight 0 until the number of windows is a multiple of `batch`.

    Raises:
        ValueError: if `batch` is below 1.
    """
    if batch < 1:
        raise ValueError(f"batches of {batch} windows; give at least 1.")
    extra = -plan.windows % batch
    filler = np.repeat(plan.indices[-1:], extra, axis=0)
    return WindowPlan(
        np.concatenate([plan.indices, filler]),
        np.concatenate([plan.weights, np.zeros(filler.shape, np.float32)]),
        np.concatenate([plan.shot, np.repeat(plan.shot[-1:], extra)]),
        plan.frames,
        batch,
    )


def group_shots(shots: Sequence[Shot], frames: int) -> list[list[Shot]]:
    """Split a film's shots into runs of at most `frames` frames, at cuts only.

    A longer shot is a run of its own. Windows never cross a cut, and noise depends on the frame
    number, so sampling run by run gives the result of sampling the whole film in bounded memory.
    """
    check_shots(shots)
    groups: list[list[Shot]] = []
    for start, stop in shots:
        if groups and stop - groups[-1][0][0] <= frames:
            groups[-1].append((start, stop))
        else:
            groups.append([(start, stop)])
    return groups


def from_zero(shots: Sequence[Shot]) -> list[Shot]:
    """Count the frames of a run of shots from its first frame."""
    first = shots[0][0] if len(shots) else 0
    return [(start - first, stop - first) for start, stop in shots]


def check_shots(shots: Sequence[Shot]) -> None:
    """Raise ValueError unless the shots are consecutive from frame 0 and none is empty."""
    if not len(shots):
        raise ValueError("no shots given; give at least one, such as [(0, frames)].")
    expected = 0
    for start, stop in shots:
        if start != expected or stop <= start:
            raise ValueError(
                f"shot ({start}, {stop}) given after frame {expected}; shots must be consecutive "
                "from frame 0 and not empty: sort them and fill the gaps."
            )
        expected = stop


def window_starts(frames: int, window: int, stride: int) -> list[int]:
    """Return the first frames of the windows of a shot of `frames` >= `window` frames.

    They are `stride` apart, except the last, which ends with the shot.
    """
    last = frames - window
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def mirror(frames: int, length: int) -> np.ndarray:
    """Return positions that bounce between the ends of a shot: 0 1 2 1 0 1 ... for 3 frames."""
    if frames == 1:
        return np.zeros(length, np.int64)
    phase = np.arange(length) % (2 * (frames - 1))
    return np.minimum(phase, 2 * (frames - 1) - phase)


def triangular(window: int) -> np.ndarray:
    """Return the weights min(a, 2 - a), a = (k + 1/2) * 2 / T, of MimicMotion, float64 `[T]`."""
    a = (np.arange(window) + 0.5) * 2.0 / window
    return np.minimum(a, 2.0 - a)


def normalize(indices: np.ndarray, weights: np.ndarray, frames: int) -> np.ndarray:
    """Divide weights `[W, T]` by their sum at each frame; return float32."""
    total = np.bincount(indices.ravel(), weights.ravel(), minlength=frames)
    return (weights / total[indices]).astype(np.float32)


def _shot_windows(frames: int, window: int, overlap: int, mode: str) -> list[np.ndarray]:
    """Return the windows of one shot as positions `[T]` within the shot."""
    if frames <= window:
        return [mirror(frames, window)]
    if mode == "sliding":
        starts = window_starts(frames, window, window - overlap)
        return [start + np.arange(window) for start in starts]
    # Every window begins with the anchor, and its other T - 1 frames slide over the shot.
    starts = window_starts(frames - 1, window - 1, window - overlap)
    return [np.append(0, 1 + start + np.arange(window - 1)) for start in starts]


def _check_windows(window: int, overlap: int, mode: str, weights: str) -> None:
    if window < 1:
        raise ValueError(f"windows of {window} frames; give at least 1.")
    if not 0 <= overlap < window:
        raise ValueError(
            f"overlap of {overlap} frames in windows of {window}; give an overlap of 0 to "
            f"{window - 1}, or longer windows."
        )
    if mode not in MODES:
        raise ValueError(f"window mode {mode!r} is not known; use one of {', '.join(MODES)}.")
    if weights not in WEIGHTS:
        known = ", ".join(WEIGHTS)
        raise ValueError(f"window weights {weights!r} is not known; use one of {known}.")
    if mode == "anchored" and overlap == 0:
        raise ValueError(
            "anchored windows with overlap 0; they share their anchor, so the overlap must be at "
            "least 1: raise it or use sliding windows."
        )
