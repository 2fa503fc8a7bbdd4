"""Bridge transitions: mix both shots' colors in dissolves and wipes, light keyframes in fades."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from palette_vc_jax.sampling.keyframes import Keyframe
from palette_vc_jax.video.dissolves import Dissolve
from palette_vc_jax.video.fades import FULL, Light
from palette_vc_jax.video.wipes import Wipe


def bridge(
    images: Iterable[np.ndarray], transitions: Iterable[Dissolve | Wipe]
) -> Iterator[np.ndarray]:
    """Replace the model's colors in dissolves and wipes, where it sees two pictures at once.

    The colors of the last whole frame of the first shot and of the first whole frame of the second
    are mixed by the shares of the transition. Memory holds these two frames.

    Args:
        images: the model's RGB `[h, w, 3]` of each frame of the film; only its chroma is used.
        transitions: of the film; a whole frame is between two of them.
    """
    ahead, frames = iter(sorted(transitions, key=lambda one: one.first)), enumerate(images)
    transition = next(ahead, None)
    before = None
    for index, image in frames:
        if transition is None or before is None or index < transition.first:
            before = image
            yield image
            continue
        while index <= transition.last:
            index, image = next(frames)
        for share in transition.shares(*image.shape[:2]):
            yield (1.0 - share) * before + share * image
        yield image
        before, transition = image, next(ahead, None)


def lit_keyframes(keyframes: Sequence[Keyframe], lights: Mapping[int, Light]) -> list[Keyframe]:
    """Return keyframes with the images of faded frames as bright as the model sees the frames."""
    return [_lit(key, lights.get(key.frame, FULL)) for key in keyframes]


def _lit(key: Keyframe, light: Light) -> Keyframe:
    if light == FULL:
        return key
    return replace(key, image=np.rint(255.0 * light.lit(key.image / 255.0)).astype(np.uint8))
