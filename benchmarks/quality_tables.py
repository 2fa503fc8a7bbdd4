"""Tables of `demo_quality.py`: from the scores of single films to rows, clips and targets."""

import math
from typing import Any, NamedTuple

import numpy as np

COLUMNS = {  # key of a score: heading
    "correlation": "(a) correlation given luma",
    "colorfulness": "(b) colorfulness / truth",
    "histogram": "(c) histogram distance",
    "asked": "(d) to the requested palette",
    "others": "(d) to the others",
    "cdc": "(e) CDC of a\\*b\\*",
    "error": "(f) chroma error",
}
NOTES = """\
(a) Pearson correlation of a\\*b\\* with the truth after the mean within 16 luma bins a frame is
removed from both; (b) Hasler-Suesstrunk colorfulness over the truth's; (c) Jensen-Shannon distance
of 32 x 32 a\\*b\\* histograms to the truth's, 0 to 1; (d) a\\*b\\* distance of the middle frame's
own K-means colors, paired one to one, to the requested palette, and in the mean to the palettes of
all other clips; (e) color distribution consistency of a\\* and b\\*, lower is
steadier; (f) mean a\\*b\\* distance to the truth. A clip's value is the mean over seeds; (b) is
the median over clips, all else the mean."""


class Record(NamedTuple):
    """The scores, by the keys of `COLUMNS`, of one film; `row` is a palette or a baseline."""

    clip: str
    row: str
    seed: int
    scores: dict[str, float]


def by_clip(records: list[Record], row: str, key: str) -> np.ndarray:
    """Return a score of each clip, the mean over seeds, in the records' order of clips."""
    values: dict[str, list[float]] = {}
    for record in records:
        if record.row == row:
            values.setdefault(record.clip, []).append(record.scores.get(key, math.nan))
    return np.array([np.mean(v) for v in values.values()])


def markdown(head: list[str], rows: list[list[Any]]) -> str:
    """Lay out a table; a dash stands for what is not a number."""

    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        digits = 1 if abs(value) >= 10.0 else 3 if abs(value) >= 0.1 else 4
        return "-" if math.isnan(value) else f"{value:.{digits}f}"

    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    lines += [[text(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def row_table(records: list[Record]) -> str:
    """Tabulate all rows over clips and seeds."""
    rows = list(dict.fromkeys(record.row for record in records))

    def over_clips(row: str, key: str) -> float:
        average = np.median if key == "colorfulness" else np.mean
        return float(average(by_clip(records, row, key)))

    return markdown(
        ["palette", *COLUMNS.values()],
        [[row, *(over_clips(row, key) for key in COLUMNS)] for row in rows],
    )


def clip_table(records: list[Record]) -> str:
    """Tabulate the clips under their true palette, beside what the targets compare with."""
    beside = {"(c) of gray": ("gray", "histogram"), "(c) of tint": ("tint", "histogram")}
    beside |= {"(e) of the truth": ("truth", "cdc")}
    columns = [by_clip(records, "image", key) for key in COLUMNS]
    columns += [by_clip(records, *of) for of in beside.values()]
    names = dict.fromkeys(record.clip for record in records)
    return markdown(
        ["clip", *COLUMNS.values(), *beside],
        [[name, *values] for name, *values in zip(names, *columns, strict=True)],
    )


def targets(records: list[Record]) -> list[tuple[str, str, bool]]:
    """List what is to be reached: the target, the measure, reached or not.

    "8 of 10 clips" is four fifths, rounded up, where there are not ten.
    """
    image = {key: by_clip(records, "image", key) for key in COLUMNS}
    auto = {key: by_clip(records, "auto", key) for key in COLUMNS}
    clips = len(image["asked"])
    most = math.ceil(0.8 * clips)
    positive = int((image["correlation"] > 0.0).sum())
    plain = [by_clip(records, row, "histogram") for row in ("gray", "tint")]
    closer = int((image["histogram"] < np.minimum(*plain)).sum())
    nearer = int((image["asked"] < image["others"]).sum())
    ratio = image["cdc"].mean() / max(by_clip(records, "truth", "cdc").mean(), 1e-9)
    lookup, gray = (by_clip(records, row, "error").mean() for row in ("lookup", "gray"))
    colorful, automatic = (np.median(row["colorfulness"]) for row in (image, auto))

    def least(what: str, value: float, bound: float) -> tuple[str, str, bool]:
        return f"{what} at least {bound:.2f}", f"{value:.3f}", bool(value >= bound)

    def below(what: str, value: float, bound: float) -> tuple[str, str, bool]:
        return f"{what} {bound:.1f}", f"{value:.1f}", bool(value < bound)

    def between(what: str, value: float, low: float, high: float) -> tuple[str, str, bool]:
        return f"{what} {low} to {high}", f"{value:.2f}", bool(low <= value <= high)

    def count(what: str, value: int) -> tuple[str, str, bool]:
        return what, f"{value} of {clips}", value >= most

    return [
        least("true palette: (a)", image["correlation"].mean(), 0.40),
        count(f"true palette: (a) positive on {most} clips", positive),
        between("true palette: (b)", colorful, 0.6, 1.3),
        count(f"true palette: (c) below gray and tint on {most} clips", closer),
        count(f"true palette: (d) nearer its palette on {most} clips", nearer),
        ("true palette: (e) at most 1.5 times the truth's", f"{ratio:.2f}", bool(ratio <= 1.5)),
        below("true palette: (f) below lookup's", image["error"].mean(), lookup),
        least("auto: (a)", auto["correlation"].mean(), 0.20),
        between("auto: (b)", automatic, 0.5, 1.1),
        below("auto: (f) below gray's", auto["error"].mean(), gray),
    ]


def target_table(records: list[Record]) -> str:
    """Tabulate the targets."""
    rows = [[t, measured, "yes" if done else "**no**"] for t, measured, done in targets(records)]
    return markdown(["target", "measured", "reached"], rows)
