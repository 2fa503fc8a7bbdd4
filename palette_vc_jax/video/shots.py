"""Find the cuts, fades, dissolves and wipes of a film from its luma."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from palette_vc_jax.video.dissolves import Dissolve, DissolveFinder
from palette_vc_jax.video.fades import Fade, FadeFinder
from palette_vc_jax.video.wipes import Wipe, WipeFinder

MIN_FRAMES = 8  # frames of a shot; two cuts closer than this are a flash or a splice
RATIO = 3.0  # ratio of the change at a cut to the mean change of its neighbors
MIN_CHANGE = 20.0  # mean change of a pixel at a cut, in 8-bit codes of normalized frames
CONTRAST = 0.2  # standard deviation of a normalized frame
MIN_CONTRAST = 0.04  # a frame below this is dark or blank, and its grain must not be amplified


class Division(NamedTuple):
    """The shots of a film, and the transitions between them."""

    shots: list[tuple[int, int]]
    fades: tuple[Fade, ...]
    dissolves: tuple[Dissolve, ...]
    wipes: tuple[Wipe, ...]


def divide(grays: Iterable[np.ndarray]) -> Division:
    """Divide a film into shots at its cuts, in the middle of dissolves and wipes, and in black.

    Args:
        grays: as for `find_shots`.

    Raises:
        ValueError: if there is no frame.
    """
    fading, dissolving, wiping = FadeFinder(), DissolveFinder(), WipeFinder()

    def watched() -> Iterator[np.ndarray]:
        for gray in grays:
            for finder in (fading, dissolving, wiping):
                finder.add(_unit(gray))
            yield gray

    shots = find_shots(watched())
    fades, blanks = fading.finish()
    wipes = wiping.finish()
    found = dissolving.finish()
    dissolves = [d for d in found if not any(_meet(d, wipe) for wipe in wipes)]
    mixed = [*dissolves, *wipes]
    cuts = [start for start, _ in shots[1:]]
    for first, last in [(f.first, f.last) for f in fades] + [(m.first, m.last + 1) for m in mixed]:
        cuts = [cut for cut in cuts if not first < cut <= last]
    cuts += [wipe.cut for wipe in wipes]
    # A dissolve that touches a wipe has no whole frame on one side, but it divides two shots.
    cuts += [d.cut for d in found if not any(w.first < d.cut <= w.last + 1 for w in wipes)]
    cuts += _cuts_in_blanks(cuts, fades, blanks, frames=shots[-1][1])
    shots = _shots_of(cuts, shots[-1][1])
    return Division(shots, tuple(fades), tuple(dissolves), tuple(wipes))


def only_cuts(grays: Iterable[np.ndarray]) -> Division:
    """Divide a film into shots at its cuts, as `find_shots`, without transitions."""
    return Division(find_shots(grays), (), (), ())


def _meet(dissolve: Dissolve, wipe: Wipe) -> bool:
    """Return whether no whole frame is between a dissolve and a wipe."""
    return dissolve.first <= wipe.last + 1 and wipe.first <= dissolve.last + 1


def _cuts_in_blanks(
    cuts: Sequence[int], fades: Sequence[Fade], blanks: Sequence[tuple[int, int]], frames: int
) -> list[int]:
    """Return a cut in each run of blank frames inside of a film that a fade leads to or from."""
    ends = {fade.first for fade in fades} | {fade.last for fade in fades}
    return [
        (first + last + 1) // 2
        for first, last in blanks
        if first > 0 and last < frames - 1 and ends & {first, last}
        if not any(first <= cut <= last + 1 for cut in cuts)
    ]


def _shots_of(cuts: Iterable[int], frames: int) -> list[tuple[int, int]]:
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < frames}), frames]
    return list(zip(edges[:-1], edges[1:], strict=True))


def find_shots(grays: Iterable[np.ndarray]) -> list[tuple[int, int]]:
    """Divide a film into shots at its cuts.

    A cut is a change well above that of the frames around it (PySceneDetect's adaptive detector),
    so pans and handheld shots are not divided.

    Args:
        grays: luma frames `[h, w]` in order, uint8 or float in [0, 1]; read once. Small frames
            are enough.

    Returns:
        Half-open ranges of frames, each beginning where the one before ends.

    Raises:
        ValueError: if there is no frame.
    """
    detector = AdaptiveDetector(
        adaptive_threshold=RATIO,
        min_scene_len=MIN_FRAMES,
        min_content_val=MIN_CHANGE,
        luma_only=True,
    )
    cuts, count = [], 0
    for count, gray in enumerate(grays, start=1):
        image = cv2.cvtColor(_normalize(gray), cv2.COLOR_GRAY2BGR)
        found = detector.process_frame(FrameTimecode(count - 1, 24.0), image)
        cuts += [cut.frame_num for cut in found]
    if not count:
        raise ValueError("no frames to find shots in; give a film of at least one frame.")
    cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(count - 1, 24.0))]
    return _shots_of(cuts, count)


def _normalize(gray: np.ndarray) -> np.ndarray:
    """Return a frame at a fixed mean and contrast, uint8, so that flicker is not a cut."""
    values = _unit(gray)
    gain = CONTRAST / max(float(values.std()), MIN_CONTRAST)
    values = 0.5 + gain * (values - values.mean())
    return np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)


def _unit(gray: np.ndarray) -> np.ndarray:
    """Return luma in [0, 1], float32."""
    return gray.astype(np.float32) / np.float32(255.0 if gray.dtype == np.uint8 else 1.0)
