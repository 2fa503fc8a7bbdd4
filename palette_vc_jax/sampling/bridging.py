"""Bridge dissolves: mix the colors of both shots as their pictures are mixed."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from palette_vc_jax.video.dissolves import Dissolve


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
