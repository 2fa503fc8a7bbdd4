"""Measure all rows of all clips, in chunks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from palette_vc_jax import cli
from palette_vc_jax.evaluation.clips import GRAY, TRUTH, Clip, read_chunks, requested_palette
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.metrics.adherence import ADHERENCE, PaletteDistance
from palette_vc_jax.metrics.chunk import Chunk, FeatureNetwork
from palette_vc_jax.metrics.meters import METRICS, Meter
from palette_vc_jax.metrics.pooled import POOLED, FeatureStats

Meters = dict[str, Meter]  # by metric
Stats = dict[str, dict[str, FeatureStats]]  # pooled metric -> row -> its features


class Unavailable(NamedTuple):
    """Replacement for the meter of a film that cannot be measured."""

    reason: str

    def update(self, film: Chunk, truth: Chunk) -> None:
        """Do nothing."""

    def compute(self) -> float:
        """Raise ValueError with the reason."""
        raise ValueError(self.reason)


def measure_clips(
    clips: Sequence[Clip],
    names: Sequence[str],
    networks: Mapping[str, FeatureNetwork],
    flow: Path | None = None,
) -> Results:
    """Measure all rows of all clips.

    If a film of a clip cannot be read to its end, the clip is omitted from all rows and listed as
    a gap.

    Args:
        clips: from `find_clips`.
        names: keys of `METRICS` and `POOLED`, or `ADHERENCE`.
        networks: networks that these metrics need.
        flow: folder of the clips' flow (`warp.read_flow`); computed if None.

    Raises:
        ValueError: if no clip can be measured.
    """
    rows = [TRUTH, GRAY, *clips[0].outputs]
    results = Results({row: {} for row in rows}, {row: {} for row in rows}, tuple(names))
    stats = {
        name: {row: FeatureStats(POOLED[name], networks) for row in rows}
        for name in names
        if name in POOLED
    }
    total = sum(clip.frames for clip in clips) * len(rows)
    with cli.progress(None, "measuring", "frame", total) as bar:
        for clip in clips:
            end = bar.n + clip.frames * len(rows)
            meters = {row: _make_meters(row, clip, names) for row in rows}
            _of_all(stats, FeatureStats.begin_clip)
            try:
                for row, chunk, truth in read_chunks(clip, networks, flow):
                    _update(meters[row], chunk, truth)
                    for of_rows in stats.values():
                        of_rows[row].update(chunk)
                    bar.update(len(chunk))
            except ValueError as error:
                _of_all(stats, FeatureStats.drop_clip)
                results.gaps[clip.name] = str(error)
                bar.update(end - bar.n)
                continue
            _end_clip(stats, clip, results.gaps)
            for row in rows:
                results.clips[row][clip.name] = _compute(meters[row], row, clip, results.gaps)
    if not results.clips[TRUTH]:
        raise ValueError(results.gaps[clips[-1].name])
    _compute_pooled(stats, results)
    return results


def _of_all(stats: Stats, call: Callable[[FeatureStats], None]) -> None:
    for of_rows in stats.values():
        for of_row in of_rows.values():
            call(of_row)


def _make_meters(row: str, clip: Clip, names: Sequence[str]) -> Meters:
    meters: Meters = {name: METRICS[name].meter() for name in names if name in METRICS}
    if ADHERENCE in names and row in clip.outputs:
        try:
            palette = requested_palette(clip.outputs[row].path)
            meters[ADHERENCE] = PaletteDistance(palette, clip.frames)
        except ValueError as error:
            meters[ADHERENCE] = Unavailable(str(error))
    return meters


def _update(meters: Meters, chunk: Chunk, truth: Chunk) -> None:
    for name, meter in meters.items():
        try:
            meter.update(chunk, truth)
        except ValueError as error:  # for instance, frames too small for the metric
            meters[name] = Unavailable(str(error))


def _compute(meters: Meters, row: str, clip: Clip, gaps: dict[str, str]) -> dict[str, float]:
    values = {}
    for name, meter in meters.items():
        try:
            value = meter.compute()
            if np.isnan(value):
                raise ValueError("not a number")
            values[name] = value
        except ValueError as error:
            gaps[f"{row}, {clip.name}, {name}"] = str(error)
    return values


def _end_clip(stats: Stats, clip: Clip, gaps: dict[str, str]) -> None:
    for name, of_rows in stats.items():
        try:
            for of_row in of_rows.values():
                of_row.end_clip()
        except ValueError as error:
            gaps[f"{clip.name}, {name}"] = str(error)


def _compute_pooled(stats: Stats, results: Results) -> None:
    for name, of_rows in stats.items():
        results.counts[name] = of_rows[TRUTH].count
        for row, of_row in of_rows.items():
            try:
                results.pooled[row][name] = of_row.compute(of_rows[TRUTH])
            except ValueError as error:
                results.gaps[name] = str(error)
