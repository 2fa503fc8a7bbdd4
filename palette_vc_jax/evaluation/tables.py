"""Format results as tables and as JSON."""

import math
from typing import Any

import numpy as np

from palette_vc_jax.cli import escaped
from palette_vc_jax.evaluation.results import Results, interval
from palette_vc_jax.metrics.adherence import ADHERENCE
from palette_vc_jax.metrics.meters import METRICS
from palette_vc_jax.metrics.pooled import POOLED

# All metrics, in the order of the table.
TITLES = {name: metric.title for name, metric in METRICS.items()}
TITLES |= {ADHERENCE: "a*b* distance to the requested palette"}
TITLES |= {name: metric.title for name, metric in POOLED.items()}
BETTER = {name: metric.better for name, metric in METRICS.items()} | {ADHERENCE: "low"}
BETTER |= dict.fromkeys(POOLED, "low")
EXAMPLES = 3  # gaps listed under one reason


def text_table(results: Results) -> str:
    """Return a table with one metric per line, followed by the missing values.

    A cell is the mean over clips with its bootstrap interval.
    """
    lines = [["", "better", *map(escaped, results.clips)]]
    for name in results.metrics:
        cells = [_cell(results, row, name) for row in results.clips]
        lines.append([_title(results, name), BETTER[name], *cells])
    text = aligned(lines, left=2)
    reasons: dict[str, list[str]] = {}
    for where, why in results.gaps.items():
        reasons.setdefault(why, []).append(where)
    for why, gaps in reasons.items():
        more = len(gaps) - EXAMPLES
        some = "; ".join(gaps[:EXAMPLES]) + (f"; and {more} more" if more > 0 else "")
        text.append(escaped(f"- {some}: {why}"))
    return "\n".join(text)


def to_json(results: Results) -> dict[str, Any]:
    """Return results as plain JSON values, infinite values as the string 'inf'."""

    def row(name: str) -> dict[str, Any]:
        return {
            "mean": _means(results, name),
            "pooled": {key: _plain(value) for key, value in results.pooled[name].items()},
            "clips": {
                clip: {key: _plain(value) for key, value in values.items()}
                for clip, values in results.clips[name].items()
            },
        }

    rows = {name: row(name) for name in results.clips}
    return results.about | {"rows": rows, "pooled_items": results.counts, "gaps": results.gaps}


def aligned(lines: list[list[str]], left: int) -> list[str]:
    """Pad cells to columns; the first `left` columns are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def number(value: float) -> str:
    """Format a value with about four digits; a dash stands for nan."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    return f"{value:.{2 if abs(value) >= 10.0 else 4}f}"


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _means(results: Results, row: str) -> dict[str, Any]:
    means = {}
    for metric in results.metrics:
        values = results.values(row, metric)
        if values:
            found = interval(values)
            means[metric] = {
                "mean": _plain(float(np.mean(values))),
                "interval_95": found and list(found),
                "clips": len(values),
            }
    return means


def _title(results: Results, name: str) -> str:
    count = results.counts.get(name)
    return TITLES[name] if count is None else f"{TITLES[name]}, n = {count}"


def _cell(results: Results, row: str, name: str) -> str:
    value = number(results.mean(row, name))
    found = interval(results.values(row, name))
    return f"{value} [{number(found[0])}, {number(found[1])}]" if found else value
