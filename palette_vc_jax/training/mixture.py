"""Fit the palette mixture to clips in color; training writes it into the model that it exports."""

import numpy as np

from palette_vc_jax import cli
from palette_vc_jax.data.sources import ClipSource
from palette_vc_jax.palette import gmm

FRAMES = 10  # a clip, as in the paper
PIXELS = 100_000  # of all frames; more make the fit slow, and do not change a mixture of 16


def training_pixels(source: ClipSource, seed: int) -> tuple[np.ndarray, int]:
    """Draw pixels `[N, 3]` uint8 from random frames of every clip; also count the frames."""
    rng = np.random.default_rng(seed)
    each = max(1, PIXELS // (FRAMES * len(source)))
    drawn, frames = [], 0
    for clip in cli.progress(range(len(source)), "reading clips", "clip"):
        length = source.length(clip)
        chosen = rng.choice(length, min(FRAMES, length), replace=False)
        for picture in source.read(clip, [int(frame) for frame in chosen]):
            pixels = picture.reshape(-1, 3)
            drawn.append(rng.choice(pixels, min(each, len(pixels)), replace=False))
            frames += 1
    return np.concatenate(drawn), frames


def fit(source: ClipSource, seed: int = 0, components: int = gmm.COMPONENTS) -> gmm.Mixture:
    """Fit a mixture to frames of every clip of `source`.

    Raises ValueError as reading clips does, and for clips with hardly any color.
    """
    pixels, frames = training_pixels(source, seed)
    return gmm.fit(pixels, components, seed, clips=len(source), frames=frames)
