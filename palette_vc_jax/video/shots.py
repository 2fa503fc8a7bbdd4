"""Find the cuts of a film from its luma."""

from collections.abc import Iterable

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

SHORTEST = 8  # frames of a shot; two cuts nearer than this are a flash or a splice
RATIO = 3.0  # a cut's change over the mean change of its neighbors
LEAST_CHANGE = 20.0  # of 255, mean over the picture, exposure evened out
CONTRAST = 0.2  # standard deviation to which pictures are brought
LEAST_CONTRAST = 0.04  # below, a picture is dark or blank, and its grain is not blown up


def find_shots(greys: Iterable[np.ndarray]) -> list[tuple[int, int]]:
    """Divide a film at its cuts.

    Args:
        greys: luma pictures [h, w] in order, uint8 or float in [0, 1], read once; small ones
            suffice. A cut is a change well above that of the frames around it (PySceneDetect's
            adaptive detector), so that pans and handheld shots are not cut up.

    Returns half-open ranges of frames, each beginning where the one before ends.

    Raises ValueError if there is no picture.
    """
    detector = AdaptiveDetector(
        adaptive_threshold=RATIO,
        min_scene_len=SHORTEST,
        min_content_val=LEAST_CHANGE,
        luma_only=True,
    )
    cuts, count = [], 0
    for count, grey in enumerate(greys, start=1):
        picture = cv2.cvtColor(_even(grey), cv2.COLOR_GRAY2BGR)
        found = detector.process_frame(FrameTimecode(count - 1, 24.0), picture)
        cuts += [cut.frame_num for cut in found]
    if not count:
        raise ValueError("no frames to find shots in; give a film of one frame or more.")
    cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(count - 1, 24.0))]
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < count}), count]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _even(grey: np.ndarray) -> np.ndarray:
    """Bring a picture to one mean and contrast, as bytes: flicker of old film is no cut."""
    values = grey.astype(np.float32) / (255.0 if grey.dtype == np.uint8 else 1.0)
    gain = CONTRAST / max(float(values.std()), LEAST_CONTRAST)
    values = 0.5 + gain * (values - values.mean())
    return np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
