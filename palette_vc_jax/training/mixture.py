"""Fit the palette mixture to clips in color; training writes it into the model that it exports."""

from typing import NamedTuple

import numpy as np

from palette_vc_jax import cli
from palette_vc_jax.data.sources import ClipSource
from palette_vc_jax.palette import gmm
from palette_vc_jax.pixels import colorfulness

FRAMES = 10  # a clip, as in the paper
PIXELS = 100_000  # of all frames; more make the fit slow, and do not change a mixture of 16


class Drawn(NamedTuple):
    """What was drawn from clips."""

    pixels: np.ndarray  # [N, 3] uint8
    frames: int
    colorfulness: float  # mean of the frames


def training_pixels(source: ClipSource, seed: int) -> Drawn:
    """Draw pixels from random frames of every clip, and measure how colorful the frames are."""
    rng = np.random.default_rng(seed)
    each = max(1, PIXELS // (FRAMES * len(source)))
    drawn, colorful = [], []
    for clip in cli.progress(range(len(source)), "reading clips", "clip"):
        length = source.length(clip)
        chosen = rng.choice(length, min(FRAMES, length), replace=False)
        for picture in source.read(clip, [int(frame) for frame in chosen]):
            pixels = picture.reshape(-1, 3)
            drawn.append(rng.choice(pixels, min(each, len(pixels)), replace=False))
            colorful.append(colorfulness(picture[None] / np.float32(255.0))[0])
    return Drawn(np.concatenate(drawn), len(colorful), float(np.mean(colorful)))


def fit(source: ClipSource, seed: int = 0, components: int = gmm.COMPONENTS) -> gmm.Mixture:
    """Fit a mixture to frames of every clip of `source`.

    Raises ValueError as reading clips does, and for clips with hardly any color.
    """
    pixels, frames, colorful = training_pixels(source, seed)
    facts = {"clips": len(source), "frames": frames, "colorfulness": round(colorful, 2)}
    return gmm.fit(pixels, components, seed, **facts)
