"""Measure outputs beside the truth: every film of every row, streamed in chunks.

Rows are the truth itself, its grey copy, and the outputs; without the first two nobody can tell
what a number is worth.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from palette_vc_jax import cli
from palette_vc_jax.metrics import films
from palette_vc_jax.metrics.adherence import PaletteDistance, asked_palette
from palette_vc_jax.metrics.chunk import Chunk, Network, grey
from palette_vc_jax.metrics.meters import METRICS, Meter
from palette_vc_jax.metrics.pooled import POOLED, Pool
from palette_vc_jax.metrics.warp import read_flow
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.resize import resize
from palette_vc_jax.video.rgb import count_frames, read_rgb, shown_size

TRUTH, GREY = "truth", "grey"
ADHERENCE = "palette_distance"
CHUNK_PIXELS = 2**20  # of a row's frames held at once
CHUNK_FRAMES = 16


class Clip(NamedTuple):
    """A film in all its rows."""

    name: str
    truth: Film
    outputs: dict[str, Film]  # row -> film
    frames: int


@dataclass
class Results:
    """All values, and why some are missing."""

    clips: dict[str, dict[str, dict[str, float]]]  # row -> clip -> metric -> value
    pooled: dict[str, dict[str, float]]  # row -> metric -> value over all clips
    counts: dict[str, int] = field(default_factory=dict)  # pooled metric -> frames or videos
    gaps: dict[str, str] = field(default_factory=dict)  # metric, or 'row, clip, metric' -> why


def find_clips(
    reference: dict[str, Path], outputs: Mapping[str, dict[str, Path]], resized: bool = False
) -> list[Clip]:
    """Match films by name and check that they can be compared, before anything is computed.

    Args:
        reference: the truth, from `films.find_films`.
        outputs: the same of each row.
        resized: outputs of other sizes are accepted.

    Raises ValueError for films that are missing, or differ from the reference in their number of
    frames or their size.
    """
    for row in outputs:
        if row in (TRUTH, GREY):
            raise ValueError(f"an output cannot be called {row!r}, as a row is; use another name.")
    pairs = {row: films.pair(reference, given, row) for row, given in outputs.items()}
    clips = []
    for name, path in reference.items():
        truth = open_film(path)
        count, (height, width) = count_frames(truth), shown_size(truth)
        given = {row: open_film(paths[name]) for row, paths in pairs.items()}
        for film in given.values():
            if count_frames(film) != count:
                raise ValueError(
                    f"{film.path}: {count_frames(film)} frames, but {path} has {count}; give "
                    "films of the same frames."
                )
            rows, columns = shown_size(film)
            if (rows, columns) != (height, width) and not resized:
                raise ValueError(
                    f"{film.path}: {columns}x{rows} pixels, but {path} has {width}x{height}; give "
                    "films of one size, or --resize."
                )
        clips.append(Clip(name, truth, given, count))
    return clips


def evaluate(
    clips: Sequence[Clip],
    names: Sequence[str],
    networks: Mapping[str, Network],
    flows: Path | None = None,
) -> Results:
    """Measure all rows of all clips.

    Args:
        clips: from `find_clips`.
        names: keys of `METRICS` and `POOLED`, or `ADHERENCE`.
        networks: all that the metrics named need.
        flows: folder of the clips' flow (`warp.read_flow`); computed if not given.

    A clip of which a film cannot be read to its end is left out of all rows, and named as a gap.
    Raises ValueError if that leaves none.
    """
    rows = [TRUTH, GREY, *clips[0].outputs]
    results = Results({row: {} for row in rows}, {row: {} for row in rows})
    pooled = [name for name in names if name in POOLED]
    pools = {name: {row: Pool(POOLED[name], networks) for row in rows} for name in pooled}
    total = sum(clip.frames for clip in clips) * len(rows)
    with cli.progress(None, "measuring", "frame", total) as bar:
        for clip in clips:
            every = [pool for of_rows in pools.values() for pool in of_rows.values()]
            for pool in every:
                pool.begin_clip()
            meters = {row: _meters(row, clip, names) for row in rows}
            reached = bar.n + clip.frames * len(rows)
            try:
                for row, chunk, truth in _chunks(clip, networks, flows):
                    _add(meters[row], chunk, truth)
                    for of_rows in pools.values():
                        of_rows[row].add(chunk)
                    bar.update(len(chunk))
            except ValueError as error:
                for pool in every:
                    pool.forget_clip()
                results.gaps[clip.name] = str(error)
                bar.update(reached - bar.n)
                continue
            for name, of_rows in pools.items():
                try:
                    for pool in of_rows.values():
                        pool.end_clip()
                except ValueError as error:
                    results.gaps[f"{clip.name}, {name}"] = str(error)
            for row in rows:
                results.clips[row][clip.name] = _values(meters[row], row, clip, results.gaps)
    if not results.clips[TRUTH]:
        raise ValueError(results.gaps[clips[-1].name])
    for name, of_rows in pools.items():
        results.counts[name] = of_rows[TRUTH].count
        for row, pool in of_rows.items():
            try:
                results.pooled[row][name] = pool.distance(of_rows[TRUTH])
            except ValueError as error:
                results.gaps[name] = str(error)
    return results


class Gap(NamedTuple):
    """Stands for a meter where a film cannot be measured, and says why."""

    reason: str

    def add(self, film: Chunk, truth: Chunk) -> None:
        """Take no notice."""

    def value(self) -> float:
        """Raise ValueError with the reason."""
        raise ValueError(self.reason)


def _add(meters: dict[str, Meter], chunk: Chunk, truth: Chunk) -> None:
    for name, meter in meters.items():
        try:
            meter.add(chunk, truth)
        except ValueError as error:  # such as pictures too small for the metric
            meters[name] = Gap(str(error))


def _meters(row: str, clip: Clip, names: Sequence[str]) -> dict[str, Meter]:
    meters: dict[str, Meter] = {n: METRICS[n].meter() for n in names if n in METRICS}
    if ADHERENCE in names and row in clip.outputs:
        try:
            asked = asked_palette(clip.outputs[row].path)
            meters[ADHERENCE] = PaletteDistance(asked, clip.frames)
        except ValueError as error:
            meters[ADHERENCE] = Gap(str(error))
    return meters


def _values(
    meters: Mapping[str, Meter], row: str, clip: Clip, gaps: dict[str, str]
) -> dict[str, float]:
    values = {}
    for name, meter in meters.items():
        try:
            value = meter.value()
            if np.isnan(value):
                raise ValueError("not a number")
            values[name] = value
        except ValueError as error:
            gaps[f"{row}, {clip.name}, {name}"] = str(error)
    return values


def _chunks(
    clip: Clip, networks: Mapping[str, Network], flows: Path | None
) -> Iterator[tuple[str, Chunk, Chunk]]:
    """Yield the rows' chunks in step, each with the truth's."""
    height, width = shown_size(clip.truth)
    room = max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (height * width)))
    streams = {TRUTH: read_rgb(clip.truth)}
    streams |= {row: read_rgb(film) for row, film in clip.outputs.items()}
    before: dict[str, np.ndarray] = {}
    done = 0
    while done < clip.frames:
        count, first = min(room, clip.frames - done), max(done - 1, 0)
        done += count
        truth, flow = None, None
        if flows is not None:
            flow = lambda n, first=first: read_flow(flows / clip.name, first + n)  # noqa: E731
        for row, stream in streams.items():
            frames = _take(stream, count, clip, row, (height, width))
            chunk = Chunk(frames, before.get(row), clip.truth.matrix, flow, networks, room)
            before[row] = frames[-1]
            truth = truth or chunk
            yield row, chunk, truth
            if row == TRUTH:
                yield GREY, grey(chunk), truth


def _take(
    stream: Iterator[np.ndarray], count: int, clip: Clip, row: str, size: tuple[int, int]
) -> np.ndarray:
    frames = list(itertools.islice(stream, count))
    if len(frames) < count:
        path = clip.outputs.get(row, clip.truth).path
        raise ValueError(
            f"{path}: only some of its {clip.frames} frames can be decoded; it ends early or is "
            "damaged: give a whole film."
        )
    if frames[0].shape[:2] != size:
        frames = [np.rint(resize(frame, *size)).astype(np.uint8) for frame in frames]
    return np.stack(frames)


def interval(
    values: Sequence[float], share: float = 0.95, draws: int = 1000
) -> tuple[float, float] | None:
    """Give the bootstrap interval of the mean over clips; None for fewer than two clips.

    Percentiles of the means of `draws` resamples of the clips, always the same draws.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    chosen = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
