"""How near a film's colors come to the palette that was asked for.

The film's palette is that of its middle frame, by K-means, as `--palette image:` takes it.
"""

from pathlib import Path

import numpy as np

from palette_vc_jax.metrics.chunk import Chunk
from palette_vc_jax.metrics.color import palette_distance
from palette_vc_jax.palette.file import load_palette
from palette_vc_jax.palette.image import from_image
from palette_vc_jax.palette.palette import Palette


def frame_palette(frame: np.ndarray, source: str) -> Palette:
    """Take the palette of a frame `[H, W, 3]`, uint8 or float in [0, 1]."""
    return from_image(Chunk(frame[None]).codes[0], source)


def asked_palette(film: Path) -> Palette:
    """Read the palette file that sampling wrote beside a film.

    Raises ValueError if there is none.
    """
    stem = film if film.is_dir() else film.with_suffix("")
    path = Path(f"{stem}.palette.json")
    if not path.exists():
        raise ValueError("no palette file beside the film")
    return load_palette(path)


class PaletteDistance:
    """The distance of the palette asked for to the middle frame's own, in units of a*b*."""

    def __init__(self, asked: Palette, frames: int):
        self.asked, self.middle, self.seen = asked, frames // 2, 0
        self.distance = float("nan")

    def add(self, film: Chunk, truth: Chunk) -> None:
        if 0 <= self.middle - self.seen < len(film):
            found = frame_palette(film.frames[self.middle - self.seen], "film")
            self.distance = palette_distance(self.asked.colors, found.colors)
        self.seen += len(film)

    def value(self) -> float:
        return self.distance
