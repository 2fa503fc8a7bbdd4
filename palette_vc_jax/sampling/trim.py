"""Trim the colors of a finished film without a model: its luma, sound and times stay."""

import json
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax import __version__, atomic
from palette_vc_jax.sampling.side_files import check_side_files
from palette_vc_jax.video import color
from palette_vc_jax.video.chroma import read_colored
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.neutral import Neutral, check_neutral, neutralize
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.shots import find_shots
from palette_vc_jax.video.shrink import shrink
from palette_vc_jax.video.write import FilmWriter, check_output, check_times

LONGEST = 25  # frames that chroma is averaged over, which are held in memory
SIMILAR = 0.08  # difference of Y' at which a pixel of another frame counts exp(-1)
COLORED = 1 / 512  # chroma of half a code of 8 bits: less is gray
ROWS = 112  # rows of the frames that cuts are looked for in
KIND = "trim.json"

Progress = Callable[[int, int | None], Any]
Colored = tuple[Frame, np.ndarray]  # a frame, and its chroma [H, W, 2]


@dataclass(frozen=True)
class TrimSettings:
    """How the colors of a film are changed; the defaults change nothing.

    Raises:
        ValueError: if a value is out of range.
    """

    saturation: float = 1.0  # factor of chroma, which then stays in the gamut
    strength: float = 1.0  # opacity of the colors over the gray film, 0 to 1
    smooth: int = 1  # frames that chroma is averaged over, an odd number
    neutral_dark: float = 0.0  # see `neutral.Neutral`
    neutral_bright: float = 1.0

    def __post_init__(self) -> None:
        check_neutral(self.neutral)
        if not 0.0 <= self.saturation <= 10.0:
            raise ValueError(f"saturation {self.saturation}; give a number from 0 to 10.")
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}; give a number from 0 to 1.")
        if not (1 <= self.smooth <= LONGEST and self.smooth % 2):
            raise ValueError(f"smooth {self.smooth}; give an odd number from 1 to {LONGEST}.")

    @property
    def neutral(self) -> Neutral:
        """Return the lumas at which chroma fades out."""
        return Neutral(self.neutral_dark, self.neutral_bright)


class _Survey(NamedTuple):
    """What the first pass over a film finds."""

    shots: list[tuple[int, int]]
    longest_gap: Fraction  # seconds


def trim_film(
    film: Film | str | Path,
    output: str | Path,
    settings: TrimSettings,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Path:
    """Change the colors of a film, and write it with its own luma, sound and times.

    Warn if the film is gray, so that there is nothing to change.

    Args:
        film: a film in color, from `open_film`, or its path.
        output: as for `color_film`.
        settings: what is changed.
        progress: called with the frames written, and the number of frames that the film declares.
        overwrite: replace an output that exists, and its record.

    Returns:
        The record of the settings, which is written next to the output.

    Raises:
        ValueError: as `check_output`, `check_times` and `check_side_files`; if the settings change
            nothing, or if the film cannot be read.
    """
    film = film if isinstance(film, Film) else open_film(film)
    output = Path(output)
    if settings == TrimSettings():
        raise ValueError(
            f"{film.path}: nothing to change; give --saturation, --strength, --smooth, "
            "--neutral_dark or --neutral_bright."
        )
    check_output(output, film)
    record = record_file(output)
    check_side_files(output, [record], [film.path, *film.files], overwrite)
    survey = _survey(film)
    check_times(output, film, survey.longest_gap)
    frames = smoothed(read_colored(film), film, survey.shots, settings.smooth)
    gray = True
    with FilmWriter(output, film) as writer:
        for frame, chroma in frames:
            gray = gray and np.abs(chroma).max() < COLORED
            writer.write(frame, trimmed(color.gray(frame.luma, film), chroma, film, settings))
            if progress is not None:
                progress(frame.index + 1, film.frames)
    if gray:
        warnings.warn(
            f"{film.path}: the film is gray, it has no color to change; color it first.",
            stacklevel=2,
        )
    values = {"input": str(film.path), "output": output.name, "version": __version__}
    atomic.write_text(record, json.dumps(values | {"trim": asdict(settings)}, indent=2) + "\n")
    return record


def trimmed(gray: np.ndarray, chroma: np.ndarray, film: Film, settings: TrimSettings) -> np.ndarray:
    """Return the chroma `[H, W, 2]` of one frame with Y' `[H, W]`, changed by `settings`."""
    if settings.saturation != 1.0:
        chroma = color.limit_gamut(gray, np.float32(settings.saturation) * chroma, film.matrix)
    return np.float32(settings.strength) * neutralize(gray, chroma, settings.neutral)


def smoothed(
    frames: Iterable[Colored], film: Film, shots: Sequence[tuple[int, int]], count: int
) -> Iterator[Colored]:
    """Average the chroma of `count` frames around each frame, within its shot.

    A pixel of another frame counts as much as its luma is similar, so that colors do not smear
    over things that move. Memory holds `count` frames.
    """
    radius = count // 2
    if not radius:
        yield from frames
        return
    stream = iter(frames)
    for start, stop in shots:
        window: deque[tuple[Frame, np.ndarray, np.ndarray]] = deque()  # frame, Y', chroma
        read = start
        for index in range(start, stop):
            while read < min(stop, index + radius + 1):
                frame, chroma = next(stream)
                window.append((frame, color.gray(frame.luma, film), chroma))
                read += 1
            while window[0][0].index < index - radius:
                window.popleft()
            (own,) = [entry for entry in window if entry[0].index == index]
            yield own[0], _mean(own[1], window)


def _mean(gray: np.ndarray, window: Iterable[tuple[Frame, np.ndarray, np.ndarray]]) -> np.ndarray:
    total = np.zeros((*gray.shape, 2), np.float32)
    weights = np.zeros((*gray.shape, 1), np.float32)
    for _, other, chroma in window:
        weight = np.exp(-np.square((other - gray) / np.float32(SIMILAR)))[..., None]
        total += weight * chroma
        weights += weight
    return total / weights


def _survey(film: Film) -> _Survey:
    """Read a film's luma, and return its shots and the longest time between two frames."""
    times = [0, 0]  # of the last frame, and the longest gap

    def small() -> Iterator[np.ndarray]:
        for frame in read_frames(film):
            times[:] = frame.pts, max(times[1], frame.pts - times[0])
            yield shrink(color.gray(frame.luma, film), ROWS)

    shots = find_shots(small())
    return _Survey(shots, times[1] * film.time_base)


def record_file(output: Path) -> Path:
    """Return the path of the record next to a film."""
    stem = output.with_suffix("") if output.suffix else output
    return Path(f"{stem}.{KIND}")
