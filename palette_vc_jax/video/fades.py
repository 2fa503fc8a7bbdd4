"""Find fades from and to black or white: frames that show one picture more and more dimly."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from palette_vc_jax.video.shrink import shrink

LONGEST = 240  # frames of a fade
SHORTEST = 4  # frames; fewer are a flash or a cut
ROWS = 24  # rows of the frames that are compared
BLANK = 0.012  # standard deviation of Y' below which a frame shows nothing
NEAR = 0.12  # how far the mean Y' of a blank frame is from black or white, at most
FALL = 0.97  # a frame with less than this share of the contrast before it is not in the fade
SETTLED = 4  # frames without growing contrast after which a picture is lit
GROWTH = 1.01
ALIKE = 0.45  # correlation of a frame with the lit frame, if it has ...
VISIBLE = 0.2  # ... this share of its contrast
LEAST_GAIN = 0.1  # a frame with less light is noise, which is not amplified more
LEVEL = 0.06  # how far the mean may be from that of the lit frame, faded


class Fade(NamedTuple):
    """A fade over the frames `first` to `last`: Y' = gain Y'_lit + (1 - gain) level."""

    first: int
    last: int
    gains: tuple[float, ...]  # of each frame, in [0, 1]
    level: float  # Y' of the blank frame: about 0 for black, 1 for white


class Light(NamedTuple):
    """How much light a frame has: Y' = gain Y'_lit + (1 - gain) level."""

    gain: float = 1.0
    level: float = 0.0

    def lit(self, gray: np.ndarray) -> np.ndarray:
        """Return Y' `[...]` as it was before the fade, in [0, 1]."""
        if self.gain == 1.0:
            return gray
        values = (gray - (1.0 - self.gain) * self.level) / self.gain
        return np.clip(values, 0.0, 1.0).astype(np.float32)

    def dim(self, lit: np.ndarray) -> np.ndarray:
        """Return Y' or RGB `[...]` in the fade from that of the lit frame."""
        return np.float32(self.gain) * lit + np.float32((1.0 - self.gain) * self.level)


FULL = Light()


def lights(fades: Sequence[Fade]) -> dict[int, Light]:
    """Return the light of each frame of the fades; all other frames have `FULL`."""
    return {
        frame: Light(max(gain, LEAST_GAIN), fade.level)
        for fade in fades
        for frame, gain in enumerate(fade.gains, start=fade.first)
    }


class FadeFinder:
    """Find fades in a stream of frames; memory holds the frames of one fade."""

    def __init__(self) -> None:
        self._seen: deque[np.ndarray] = deque(maxlen=LONGEST + SETTLED + 1)
        self._growing: list[np.ndarray] | None = None  # frames since the last blank one
        self._top, self._since = 0.0, 0  # the highest contrast since then, and its age
        self._count = 0
        self._fades: list[Fade] = []
        self._blanks: list[tuple[int, int]] = []  # runs of blank frames: first, last

    def add(self, gray: np.ndarray) -> None:
        """Add the next frame, Y' `[h, w]` in [0, 1]."""
        small = shrink(gray, ROWS)
        index, self._count = self._count, self._count + 1
        self._seen.append(small)
        if _blank(small):
            follows = bool(self._blanks) and self._blanks[-1][1] == index - 1
            if follows:
                self._blanks[-1] = self._blanks[-1][0], index
            else:
                self._end()
                self._add_fade_out(index)
                self._blanks.append((index, index))
            self._growing, self._top, self._since = [small], 0.0, 0
        elif self._growing is not None:
            self._growing.append(small)
            contrast = float(small.std())
            if contrast > GROWTH * self._top:
                self._top, self._since = contrast, 0
            else:
                self._since += 1
            if self._since >= SETTLED or len(self._growing) > LONGEST:
                self._end()

    def finish(self) -> tuple[list[Fade], list[tuple[int, int]]]:
        """Return the fades, and the runs of blank frames (first, last), after the last frame."""
        self._end()
        return sorted(self._fades), self._blanks

    def _end(self) -> None:
        """End the frames since the last blank one: they are a fade in, or not."""
        if self._growing is not None and len(self._growing) > SHORTEST:
            gains = fade_gains(self._growing)
            if gains is not None:
                first = self._blanks[-1][1]
                level = float(self._growing[0].mean())
                self._fades.append(Fade(first, first + len(gains) - 1, tuple(gains), level))
        self._growing = None

    def _add_fade_out(self, index: int) -> None:
        """Test whether the frames up to the blank frame `index` are a fade out."""
        frames = list(self._seen)[::-1]
        gains = fade_gains(frames)
        if gains is not None:
            first = index - len(gains) + 1
            level = float(frames[0].mean())
            self._fades.append(Fade(first, index, tuple(gains[::-1]), level))


def fade_gains(frames: Sequence[np.ndarray]) -> list[float] | None:
    """Return the gains of the frames that fade in, or None if they are not a fade.

    Args:
        frames: small frames `[h, w]` in [0, 1]; the first is blank.
    """
    lit, top = 0, float(frames[0].std())
    for index in range(1, len(frames)):
        contrast = float(frames[index].std())
        if contrast < FALL * float(frames[index - 1].std()) or index - lit > SETTLED:
            break
        if contrast > GROWTH * top:
            lit, top = index, contrast
    if lit < SHORTEST or top < 3.0 * BLANK:
        return None
    level = float(frames[0].mean())
    full = frames[lit]
    gains = [min(1.0, float(frame.std()) / top) for frame in frames[:lit]]
    for frame, gain in zip(frames, gains, strict=False):
        if abs(frame.mean() - gain * full.mean() - (1.0 - gain) * level) > LEVEL:
            return None
        if gain > VISIBLE and np.corrcoef(frame.ravel(), full.ravel())[0, 1] < ALIKE:
            return None
    if sum(VISIBLE < gain < 0.9 for gain in gains) < 2:
        return None  # a cut from black
    return [round(gain, 4) for gain in gains]


def _blank(small: np.ndarray) -> bool:
    mean = float(small.mean())
    return float(small.std()) < BLANK and min(mean, 1.0 - mean) < NEAR
