"""Measure how close a film's colors are to the requested palette.

The film's palette is that of its middle frame, by K-means as for `--palette image:`.
"""

import numpy as np

from palette_vc_jax.metrics.chunk import Chunk
from palette_vc_jax.metrics.color import palette_distance
from palette_vc_jax.palette.image import from_image
from palette_vc_jax.palette.palette import Palette

ADHERENCE = "palette_distance"  # name of the metric


def frame_palette(frame: np.ndarray, source: str) -> Palette:
    """Return the palette of a frame `[H, W, 3]`, uint8 or float in [0, 1]."""
    return from_image(Chunk(frame[None]).codes[0], source)


class PaletteDistance:
    """The distance between the requested palette and that of the middle frame, in a*b* units."""

    def __init__(self, requested: Palette, frames: int):
        self.requested, self.middle, self.seen = requested, frames // 2, 0
        self.distance = float("nan")

    def update(self, film: Chunk, truth: Chunk) -> None:
        if 0 <= self.middle - self.seen < len(film):
            found = frame_palette(film.frames[self.middle - self.seen], "film")
            self.distance = palette_distance(self.requested.colors, found.colors)
        self.seen += len(film)

    def compute(self) -> float:
        return self.distance
