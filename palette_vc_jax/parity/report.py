"""Compare two outputs, and format all comparisons as a table."""

from typing import Any, NamedTuple

import numpy as np

# Limits of relative L2 errors in float32: of a block, a whole network and the whole pipeline.
BLOCK, NETWORK, PIPELINE = 2e-5, 1e-4, 1e-3


class Row(NamedTuple):
    """One comparison."""

    name: str
    max_error: float
    relative: float  # L2 norm of the difference over that of PyTorch's output
    limit: float  # maximum of `relative`

    @property
    def passed(self) -> bool:
        """Return whether the relative error is within its limit; NaN is not."""
        return self.relative <= self.limit


def compare(name: str, ours: Any, theirs: Any, limit: float) -> Row:
    """Compare two outputs; the row fails if shapes differ, or one is not finite or constant."""
    ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
    comparable = ours.shape == theirs.shape and all(
        np.isfinite(x).all() and np.ptp(x) > 0.0 for x in (ours, theirs)
    )
    if not comparable:
        return Row(name, float("nan"), float("nan"), limit)
    difference = np.abs(ours - theirs)
    norm = np.linalg.norm(theirs)
    return Row(name, float(difference.max()), float(np.linalg.norm(difference) / norm), limit)


def compare_values(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Row:
    """Compare settings; the row counts those that differ and names the first."""
    different = sorted(k for k in ours | theirs if ours.get(k) != theirs.get(k))
    count = float(len(different))
    return Row(f"{name} ({different[0]})" if different else name, count, count, 0.0)


def table(rows: list[Row]) -> str:
    """Return rows as a text table."""
    lines = [f"{'component':<40}{'max error':>12}{'relative L2':>14}{'limit':>10}"]
    for row in rows:
        verdict = "pass" if row.passed else "FAIL"
        errors = f"{row.max_error:>12.2e}{row.relative:>14.2e}"
        limit = "none" if np.isinf(row.limit) else f"{row.limit:.0e}"
        lines.append(f"{row.name:<40}{errors}{limit:>10}  {verdict}")
    return "\n".join(lines)
