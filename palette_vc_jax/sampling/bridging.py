"""Bridge transitions: mix both shots' colors in a dissolve, and light keyframes in a fade."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from palette_vc_jax.sampling.keyframes import Keyframe
from palette_vc_jax.video.dissolves import Dissolve
from palette_vc_jax.video.fades import FULL, Light


def bridge(images: Iterable[np.ndarray], dissolves: Sequence[Dissolve]) -> Iterator[np.ndarray]:
    """Replace the model's colors in dissolves, where it sees two pictures at once.

    The colors of the last whole frame of the first shot and of the first whole frame of the second
    are mixed by the weights of the dissolve. Memory holds these two frames.

    Args:
        images: the model's RGB `[h, w, 3]` of each frame of the film; only its chroma is used.
        dissolves: of the film, in order.
    """
    ahead, frames = iter(dissolves), enumerate(images)
    dissolve = next(ahead, None)
    before = None
    for index, image in frames:
        if dissolve is None or before is None or index < dissolve.first:
            before = image
            yield image
            continue
        while index <= dissolve.last:
            index, image = next(frames)
        for weight in dissolve.weights:
            yield np.float32(1.0 - weight) * before + np.float32(weight) * image
        yield image
        before, dissolve = image, next(ahead, None)


def lit_keyframes(keyframes: Sequence[Keyframe], lights: Mapping[int, Light]) -> list[Keyframe]:
    """Return keyframes with the images of faded frames as bright as the model sees the frames."""
    return [_lit(key, lights.get(key.frame, FULL)) for key in keyframes]


def _lit(key: Keyframe, light: Light) -> Keyframe:
    if light == FULL:
        return key
    return replace(key, image=np.rint(255.0 * light.lit(key.image / 255.0)).astype(np.uint8))
