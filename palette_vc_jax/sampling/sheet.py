"""The image written next to a film: a few of its frames, gray above and colored below."""

from pathlib import Path

import numpy as np
from PIL import Image

from palette_vc_jax import atomic
from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, orient
from palette_vc_jax.video.resize import resize
from palette_vc_jax.video.shrink import limited_size

COLUMNS = 4
WIDTH = 320  # pixels of a frame at most
GAP = 4  # white pixels between frames


class SideBySide:
    """Collect `COLUMNS` small frames of a film while it is written.

    Args:
        frames: number of frames in the film; evenly spaced ones are kept.
        film: the film, for its color matrix and its orientation.
    """

    def __init__(self, frames: int, film: Film):
        columns = min(COLUMNS, frames)
        self._wanted = {(2 * i + 1) * frames // (2 * columns) for i in range(columns)}
        self._film = film
        self._columns: list[np.ndarray] = []

    def add(self, index: int, gray: np.ndarray, chroma: np.ndarray) -> None:
        """Keep frame `index` if it is one of the evenly spaced frames.

        Args:
            index: number of the frame.
            gray: Y' `[H, W]` in [0, 1].
            chroma: (Cb, Cr) `[H, W, 2]` in [-0.5, 0.5].
        """
        if index not in self._wanted:
            return
        gray, chroma = (
            orient(gray, self._film.orientation),
            orient(chroma, self._film.orientation),
        )
        height, width = gray.shape
        height, width = limited_size(height, width, WIDTH)
        gray, chroma = resize(gray, height, width), resize(chroma, height, width)
        pair = [color.ycc_to_rgb(gray, c, self._film.matrix) for c in (0.0 * chroma, chroma)]
        gap = np.ones((GAP, width, 3), np.float32)
        self._columns.append(np.concatenate([pair[0], gap, pair[1]]))

    def save(self, path: Path) -> None:
        """Write the image as PNG."""
        gap = np.ones((self._columns[0].shape[0], GAP, 3), np.float32)
        row = [part for column in self._columns for part in (column, gap)][:-1]
        pixels = np.clip(np.concatenate(row, axis=1), 0.0, 1.0)
        with atomic.file(path) as partial:
            Image.fromarray(np.rint(255.0 * pixels).astype(np.uint8)).save(partial)
