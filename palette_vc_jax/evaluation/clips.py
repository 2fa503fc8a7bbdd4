"""The clips of an evaluation: match films by name, and read them in parallel, chunk by chunk.

Rows are the truth itself, its gray copy, and the outputs. The first two are baselines for the
others.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from palette_vc_jax.evaluation import films
from palette_vc_jax.metrics.chunk import Chunk, FeatureNetwork, gray_copy
from palette_vc_jax.metrics.warp import read_flow
from palette_vc_jax.palette.file import load_palette
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.resize import resize
from palette_vc_jax.video.rgb import count_frames, read_rgb, shown_size

TRUTH, GRAY = "truth", "gray"  # names of rows
CHUNK_PIXELS = 2**20  # maximum pixels of a row's frames in memory
CHUNK_FRAMES = 16


class Clip(NamedTuple):
    """A film in all its rows."""

    name: str
    truth: Film
    outputs: dict[str, Film]  # row -> film
    frames: int


def find_clips(
    reference: dict[str, Path], outputs: Mapping[str, dict[str, Path]], resized: bool = False
) -> list[Clip]:
    """Match films by name, and check that they can be compared.

    Args:
        reference: the truth, from `films.find_films`.
        outputs: row -> its films, from `films.find_films`.
        resized: accept outputs of other sizes.

    Raises:
        ValueError: if films are missing, or differ from the reference in their number of frames or
            in size.
    """
    for row in outputs:
        if row in (TRUTH, GRAY):
            raise ValueError(f"{row!r} is the name of a row; give the output another name.")
    pairs = {row: films.pair(reference, given, row) for row, given in outputs.items()}
    clips = []
    for name, path in reference.items():
        truth = open_film(path)
        clip = Clip(
            name,
            truth,
            {row: open_film(paths[name]) for row, paths in pairs.items()},
            count_frames(truth),
        )
        for film in clip.outputs.values():
            _check_comparable(film, clip, resized)
        clips.append(clip)
    return clips


def read_chunks(
    clip: Clip, networks: Mapping[str, FeatureNetwork], flow: Path | None
) -> Iterator[tuple[str, Chunk, Chunk]]:
    """Yield row, chunk and the truth's chunk, for all rows in parallel.

    Args:
        clip: from `find_clips`.
        networks: networks that views of the chunks need.
        flow: folder of the clips' flow (`warp.read_flow`); computed if None.

    Raises:
        ValueError: if a film cannot be read to its end.
    """
    height, width = shown_size(clip.truth)
    room = max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (height * width)))
    streams = {TRUTH: read_rgb(clip.truth)}
    streams |= {row: read_rgb(film) for row, film in clip.outputs.items()}
    before: dict[str, np.ndarray] = {}
    done = 0
    while done < clip.frames:
        count, first = min(room, clip.frames - done), max(done - 1, 0)
        done += count
        truth, flow_of = None, None
        if flow is not None:
            flow_of = lambda n, first=first: read_flow(flow / clip.name, first + n)  # noqa: E731
        for row, stream in streams.items():
            frames = _take(stream, count, clip, row, (height, width))
            chunk = Chunk(frames, before.get(row), clip.truth.matrix, flow_of, networks, room)
            before[row] = frames[-1]
            truth = truth or chunk
            yield row, chunk, truth
            if row == TRUTH:
                yield GRAY, gray_copy(chunk), truth


def requested_palette(film: Path) -> Palette:
    """Read the palette file that sampling wrote next to a film.

    Raises:
        ValueError: if there is none.
    """
    stem = film if film.is_dir() else film.with_suffix("")
    path = Path(f"{stem}.palette.json")
    if not path.exists():
        raise ValueError("no palette file next to the film")
    return load_palette(path)


def _check_comparable(film: Film, clip: Clip, resized: bool) -> None:
    path = clip.truth.path
    if count_frames(film) != clip.frames:
        raise ValueError(
            f"{film.path}: {count_frames(film)} frames, but {path} has {clip.frames}; give films "
            "of the same frames."
        )
    (height, width), (true_height, true_width) = shown_size(film), shown_size(clip.truth)
    if (height, width) != (true_height, true_width) and not resized:
        raise ValueError(
            f"{film.path}: {width}x{height} pixels, but {path} has {true_width}x{true_height}; "
            "give films of the same size, or --resize."
        )


def _take(
    stream: Iterator[np.ndarray], count: int, clip: Clip, row: str, size: tuple[int, int]
) -> np.ndarray:
    frames = list(itertools.islice(stream, count))
    if len(frames) < count:
        path = clip.outputs.get(row, clip.truth).path
        raise ValueError(
            f"{path}: only some of its {clip.frames} frames can be decoded; it ends early or is "
            "damaged: give a complete film."
        )
    if frames[0].shape[:2] != size:
        frames = [np.rint(resize(frame, *size)).astype(np.uint8) for frame in frames]
    return np.stack(frames)
