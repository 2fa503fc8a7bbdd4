"""Find the cuts of a film from its luma."""

from collections.abc import Iterable

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

MIN_FRAMES = 8  # frames of a shot; two cuts closer than this are a flash or a splice
RATIO = 3.0  # ratio of the change at a cut to the mean change of its neighbors
MIN_CHANGE = 20.0  # mean change of a pixel at a cut, in 8-bit codes of normalized frames
CONTRAST = 0.2  # standard deviation of a normalized frame
MIN_CONTRAST = 0.04  # a frame below this is dark or blank, and its grain must not be amplified


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
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < count}), count]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _normalize(gray: np.ndarray) -> np.ndarray:
    """Return a frame at a fixed mean and contrast, uint8, so that flicker is not a cut."""
    values = gray.astype(np.float32) / (255.0 if gray.dtype == np.uint8 else 1.0)
    gain = CONTRAST / max(float(values.std()), MIN_CONTRAST)
    values = 0.5 + gain * (values - values.mean())
    return np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
