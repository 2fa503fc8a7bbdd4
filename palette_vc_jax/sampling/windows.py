"""Plan the overlapping windows in which a film is denoised: pure numpy, no model.

The network sees T frames at a time. A plan says which frames of the film make up each window and
how much each window's word counts for each of its frames. Windows never cross a cut, and the
weights of all windows at a frame sum to 1, so blending is one weighted sum.
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

    indices: int32 [W, T], the film's frame at each place of each window.
    weights: float32 [W, T], at least 0; over the whole plan they sum to 1 for every frame.
    shot: int32 [W], the shot that each window lies in.
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
        """Count the windows, padding included."""
        return self.indices.shape[0]


def plan_windows(
    shots: Sequence[Shot],
    window: int,
    overlap: int,
    mode: str = "sliding",
    weights: str = "triangular",
) -> WindowPlan:
    """Cover every shot of a film with windows of `window` frames.

    shots: half-open frame ranges that follow one another from frame 0 to the film's end.
    overlap: frames that neighboring windows of a shot share. The last window of a shot is moved
        back to end where the shot ends, and so may share more.
    mode: 'sliding', or 'anchored': the shot's first frame stands at the head of every window, as
        MimicMotion does it; it is then one of the shared frames.
    weights: 'triangular' (least at a window's ends, as MimicMotion) or 'uniform'.

    A shot shorter than a window is extended by mirrored frames (0 1 2 1 0 1 ...), not by
    repeating its last one: norms pool over all frames of a window and know no mask, and a mirrored
    extension has the motion and the statistics of the shot. The extension has weight 0, for its
    frames run backward in time and are there already, running forward.

    Raises ValueError for shots that are no film, window < 1, overlap outside [0, window), overlap
    0 with anchored windows, and unknown modes and weights.
    """
    check_shots(shots)
    _check_windows(window, overlap, mode, weights)
    profile = triangular(window) if weights == "triangular" else np.ones(window)
    indices, raw, owner = [], [], []
    for number, (start, stop) in enumerate(shots):
        for places in _shot_windows(stop - start, window, overlap, mode):
            real = np.arange(window) < stop - start  # the rest is mirrored
            indices.append(start + places)
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
    """Repeat the last window with weight 0 until the windows fill whole batches of `batch`.

    Raises ValueError for batch < 1.
    """
    if batch < 1:
        raise ValueError(f"batches of {batch} windows; at least 1 is needed: give a larger number.")
    extra = -plan.windows % batch
    filler = np.repeat(plan.indices[-1:], extra, axis=0)
    return WindowPlan(
        np.concatenate([plan.indices, filler]),
        np.concatenate([plan.weights, np.zeros(filler.shape, np.float32)]),
        np.concatenate([plan.shot, np.repeat(plan.shot[-1:], extra)]),
        plan.frames,
        batch,
    )


def even_batch(windows: int, batch: int) -> int:
    """Shrink a batch size so that as many batches hold `windows` with the least padding.

    5 windows in batches of at most 4 are two batches either way: of 3, one window is padding
    rather than three.
    """
    batches = -(-windows // batch)
    return -(-windows // batches)


def group_shots(shots: Sequence[Shot], frames: int) -> list[list[Shot]]:
    """Split a film's shots into runs of at most `frames` frames, at cuts only.

    A shot longer than that makes up a run of its own. As windows never cross a cut and noise
    belongs to frames, sampling run by run gives what sampling the whole film gives, in bounded
    memory.
    """
    check_shots(shots)
    groups: list[list[Shot]] = []
    for start, stop in shots:
        if groups and stop - groups[-1][0][0] <= frames:
            groups[-1].append((start, stop))
        else:
            groups.append([(start, stop)])
    return groups


def check_shots(shots: Sequence[Shot]) -> None:
    """Raise ValueError unless the shots follow one another from frame 0, none of them empty."""
    if not len(shots):
        raise ValueError("no shots given; at least one is needed: use [(0, frames)].")
    expected = 0
    for start, stop in shots:
        if start != expected or stop <= start:
            raise ValueError(
                f"shot ({start}, {stop}) given after frame {expected}; shots must follow one "
                "another from frame 0, each with a frame or more: sort them and fill the gaps."
            )
        expected = stop


def window_starts(frames: int, window: int, stride: int) -> list[int]:
    """Give where windows begin in a shot of `frames` >= `window` frames.

    They are `stride` apart, but for the last, which ends with the shot.
    """
    last = frames - window
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def mirror(frames: int, length: int) -> np.ndarray:
    """Bounce between the ends of a shot: int64 [length], 0 1 2 1 0 1 ... for 3 frames."""
    if frames == 1:
        return np.zeros(length, np.int64)
    phase = np.arange(length) % (2 * (frames - 1))
    return np.minimum(phase, 2 * (frames - 1) - phase)


def triangular(window: int) -> np.ndarray:
    """Weigh the places of a window: min(a, 2 - a) with a = (k + 1/2) * 2 / T, as MimicMotion."""
    a = (np.arange(window) + 0.5) * 2.0 / window
    return np.minimum(a, 2.0 - a)


def normalize(indices: np.ndarray, weights: np.ndarray, frames: int) -> np.ndarray:
    """Divide weights [W, T] by their sum at each frame; float32."""
    total = np.bincount(indices.ravel(), weights.ravel(), minlength=frames)
    return (weights / total[indices]).astype(np.float32)


def _shot_windows(frames: int, window: int, overlap: int, mode: str) -> list[np.ndarray]:
    """List the windows of one shot as places [T] within the shot."""
    if frames <= window:
        return [mirror(frames, window)]
    if mode == "sliding":
        starts = window_starts(frames, window, window - overlap)
        return [start + np.arange(window) for start in starts]
    # The anchor heads every window; windows of T - 1 frames slide over the others.
    starts = window_starts(frames - 1, window - 1, window - overlap)
    return [np.append(0, 1 + start + np.arange(window - 1)) for start in starts]


def _check_windows(window: int, overlap: int, mode: str, weights: str) -> None:
    if window < 1:
        raise ValueError(f"windows of {window} frames; at least 1 is needed: give a larger number.")
    if not 0 <= overlap < window:
        raise ValueError(
            f"overlap of {overlap} frames in windows of {window}; 0 to {window - 1} is needed: "
            "lower the overlap or lengthen the window."
        )
    if mode not in MODES:
        raise ValueError(f"window mode {mode!r} is not known; use one of {', '.join(MODES)}.")
    if weights not in WEIGHTS:
        raise ValueError(f"window weights {weights!r} not known; use one of {', '.join(WEIGHTS)}.")
    if mode == "anchored" and overlap == 0:
        raise ValueError(
            "anchored windows with overlap 0; they share their anchor, so 1 is the least: "
            "raise the overlap or use sliding windows."
        )
