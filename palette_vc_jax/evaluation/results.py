"""The values of an evaluation: by row, clip and metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palette_vc_jax.metrics.pooled import POOLED


@dataclass
class Results:
    """All values, and the reasons for missing ones."""

    clips: dict[str, dict[str, dict[str, float]]]  # row -> clip -> metric -> value
    pooled: dict[str, dict[str, float]]  # row -> metric -> value over all clips
    metrics: tuple[str, ...] = ()  # requested metrics, in the order of the tables
    counts: dict[str, int] = field(default_factory=dict)  # pooled metric -> frames or videos
    gaps: dict[str, str] = field(default_factory=dict)  # metric, or 'row, clip, metric' -> reason
    about: dict[str, Any] = field(default_factory=dict)  # how it was measured, as JSON values

    def values(self, row: str, metric: str) -> list[float]:
        """Return a row's values of a metric, for the clips that have one."""
        return [values[metric] for values in self.clips[row].values() if metric in values]

    def mean(self, row: str, metric: str) -> float:
        """Return a row's value: the mean over clips, or the pooled value; nan if there is none."""
        if metric in POOLED:
            return self.pooled[row].get(metric, math.nan)
        values = self.values(row, metric)
        return float(np.mean(values)) if values else math.nan


def interval(
    values: Sequence[float], share: float = 0.95, draws: int = 1000
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean over clips.

    Args:
        values: one value per clip.
        share: share of the resampled means within the interval.
        draws: number of resamples of the clips, drawn with a fixed seed.

    Returns:
        Percentiles of the resampled means; None if there are fewer than two values, or infinite
        values.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    chosen = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
