"""Results as tables and as JSON."""

import math
from typing import Any

import numpy as np

from palette_vc_jax.metrics.evaluate import ADHERENCE, Results, interval
from palette_vc_jax.metrics.meters import METRICS
from palette_vc_jax.metrics.pooled import POOLED

TITLES = {name: metric.title for name, metric in METRICS.items()}
TITLES |= {ADHERENCE: "a*b* distance to the palette asked for"}
TITLES |= {name: metric.title for name, metric in POOLED.items()}
BETTER = {name: metric.better for name, metric in METRICS.items()} | {ADHERENCE: "low"}
BETTER |= dict.fromkeys(POOLED, "low")


def mean(results: Results, row: str, name: str) -> float:
    """Give a row's value: the mean over its clips that have one, or the pooled one; nan if none."""
    if name in POOLED:
        return results.pooled[row].get(name, math.nan)
    values = _values(results, row, name)
    return float(np.mean(values)) if values else math.nan


def text_table(results: Results, names: list[str]) -> str:
    """Lay out all metrics, a line each: the mean over clips with its interval, and what is missing.

    `names`: those that were asked for, in their order.
    """
    lines = [["", "better", *results.clips]]
    for name in names:
        cells = [_cell(results, row, name) for row in results.clips]
        lines.append([_title(results, name), BETTER[name], *cells])
    text = aligned(lines, left=2)
    reasons: dict[str, list[str]] = {}
    for where, why in results.gaps.items():
        reasons.setdefault(why, []).append(where)
    for why, places in reasons.items():
        some = "; ".join(places[:3]) + (f"; and {len(places) - 3} more" if len(places) > 3 else "")
        text.append(f"- {some}: {why}")
    return "\n".join(text)


def to_json(results: Results, names: list[str]) -> dict[str, Any]:
    """Give results as plain JSON values; infinite ones as the string 'inf'."""

    def plain(value: float) -> float | str:
        return value if math.isfinite(value) else str(value)

    def row(name: str) -> dict[str, Any]:
        clips = results.clips[name]
        means = {}
        for metric in names:
            values = _values(results, name, metric)
            if values:
                found = interval(values)
                means[metric] = {
                    "mean": plain(float(np.mean(values))),
                    "interval_95": found and list(found),
                    "clips": len(values),
                }
        return {
            "mean": means,
            "pooled": {key: plain(value) for key, value in results.pooled[name].items()},
            "clips": {
                clip: {key: plain(value) for key, value in values.items()}
                for clip, values in clips.items()
            },
        }

    rows = {name: row(name) for name in results.clips}
    return {"rows": rows, "pooled_items": results.counts, "gaps": results.gaps}


def aligned(lines: list[list[str]], left: int) -> list[str]:
    """Pad cells to columns, the first `left` to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def number(value: float) -> str:
    """Write a value with four digits or so; a dash stands for what is not a number."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    return f"{value:.{2 if abs(value) >= 10.0 else 4}f}"


def _title(results: Results, name: str) -> str:
    count = results.counts.get(name)
    return TITLES[name] if count is None else f"{TITLES[name]}, n = {count}"


def _cell(results: Results, row: str, name: str) -> str:
    value = number(mean(results, row, name))
    found = interval(_values(results, row, name))
    return f"{value} [{number(found[0])}, {number(found[1])}]" if found else value


def _values(results: Results, row: str, name: str) -> list[float]:
    return [values[name] for values in results.clips[row].values() if name in values]
