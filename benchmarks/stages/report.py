"""The results of a run: a JSON file, and tables to paste into docs/benchmarks.md."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.stages.plan import STAGES, Stage
from palette_vc_jax import atomic

PACKAGES = ("jax", "jaxlib", "flax", "torch", "diffusers")

Row = dict[str, Any]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the frameworks that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def new(command: str, toy: bool) -> dict[str, Any]:
    """Begin the results of a run: when, how and with what."""
    today = datetime.datetime.now(datetime.UTC)
    return {
        "command": command,
        "date": f"{today.day} {today:%B %Y}",
        "toy": toy,
        "versions": versions(),
        "machine": {},
        "stages": {},
    }


def merge(rows: list[Row], row: Row) -> None:
    """Add `row` to `rows`, to the row of the same name where there is one."""
    for known in rows:
        if known["name"] == row["name"]:
            known |= row
            return
    rows.append(dict(row))


def derive(rows: Iterable[Row], machine: Mapping[str, Any]) -> None:
    """Add rates to rows with times; FLOPs are those counted for the same number of frames."""
    rows = list(rows)
    counted = {row["frames"]: row["tflop"] for row in rows if "frames" in row and "tflop" in row}
    for row in rows:
        tflop = row.get("tflop", counted.get(row.get("frames")))
        if tflop and row.get("ms"):
            row["tflops"] = 1e3 * tflop / row["ms"]
            if machine.get("product_tflops"):
                row["share"] = row["tflops"] / machine["product_tflops"]


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write `accelerator.json` and `tables.md`, each atomically."""
    atomic.write_text(folder / "accelerator.json", json.dumps(results, indent=1) + "\n")
    tables = [table(results, name) for name in results["stages"]]
    atomic.write_text(folder / "tables.md", "\n".join(tables))


def table(results: Mapping[str, Any], name: str) -> str:
    """Lay out a stage in Markdown: where it was measured, its rows, what they mean."""
    stage, found = STAGES[name], results["stages"][name]
    lines = [f"### {stage.title}", _provenance(results, name), ""]
    if found["status"] != "done":
        lines += [f"{found['status'].capitalize()}: {found['reason']}.", ""]
    if found["rows"]:
        lines += [*_rows(stage, found["rows"]), "", stage.note, ""]
    return "\n".join(lines)


def _provenance(results: Mapping[str, Any], name: str) -> str:
    machine = results["machine"]
    memory = machine.get("memory_gib")
    device = machine["device"] + (f" ({memory:.0f} GiB for JAX)" if memory else "")
    packages = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    toy = " Toy sizes: the numbers say nothing." if results["toy"] else ""
    line = f"`{results['command'].format(stage=name)}`, {results['date']}, {device}, {packages}"
    if "product_tflops" in machine:
        side = machine["product_side"]
        line += f"; a bfloat16 product of {side} x {side}: {machine['product_tflops']:.4g} TFLOP/s"
    return f"{line}.{toy}"


def _rows(stage: Stage, rows: Iterable[Row]) -> list[str]:
    headings = ["case", *(column.heading for column in stage.columns)]
    lines = [_line(headings), _line(["---", *["---:"] * len(stage.columns)])]
    for row in rows:
        cells = [_cell(row.get(column.key), column.form) for column in stage.columns]
        why = [row[key] for key in ("skipped", "error") if key in row]
        lines.append(_line([": ".join([row["name"], *why]), *cells]))
    return lines


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
