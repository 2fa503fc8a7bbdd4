"""Measure everything that needs an accelerator, in one call that nobody has to watch.

    PYTHONPATH=. python benchmarks/accelerator.py --minutes 9 --output OUT

runs the stages in order, each with the time that is left, and writes OUT/accelerator.json and
OUT/tables.md (ready for docs/benchmarks.md) after every row, so that a call that is killed leaves
what was measured. What else the stages print goes to OUT/log.txt. A case that fails, or whose
library is missing, says why in one line; the next one runs. Nothing is downloaded.

`--toy` runs all of it at tiny sizes on any machine, a CPU included.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stages import process, report
from benchmarks.stages.plan import STAGES, Request
from palette_vc_jax import cli

ROOT = Path(__file__).resolve().parents[1]
LEAST, TOY_LEAST = 20.0, 1.0  # seconds; with less left, a case is not begun
PROBE = 120.0  # seconds at most to find the device; it counts against the budget


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--stages",
        default=",".join(STAGES),
        help="which, in order; STAGE:CASE measures one case, such as train:remat=none "
        "(default: %(default)s)",
    )
    add("--minutes", type=float, default=9.0, help="for all stages together (default: 9)")
    add("--output", type=Path, required=True, help="folder for tables, JSON, log and weights")
    add("--toy", action="store_true", help="tiny sizes, one or two repetitions, any device")
    demo = ROOT / "palette_vc_jax" / "demo"
    add("--model", type=Path, default=demo, help="model folder that `demo` trains on (bundled)")
    add("--cache", type=Path, help="latent cache that `demo` trains on: DATA_CACHE/train")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the stages; exit 1 if one of them measured nothing."""
    options = parse(argv)
    stages = _select(options.stages)
    if not options.minutes > 0:
        raise ValueError(f"--minutes {options.minutes:g}; give more than 0.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    deadline = time.monotonic() + 60 * options.minutes
    options.output.mkdir(parents=True, exist_ok=True)
    toy = " --toy" if options.toy else ""
    results = report.new(f"python benchmarks/accelerator.py{toy} --stages {{stage}}", options.toy)
    with (options.output / "log.txt").open("w") as log:
        results["machine"] = _machine(options, log)
        for name, cases in stages.items():
            _stage(name, cases, options, results, deadline, log)
            print(report.table(results, name), flush=True)
    failed = [name for name, found in results["stages"].items() if found["status"] == "failed"]
    if failed:
        sys.exit(cli.FAILURE)


def _select(given: str) -> dict[str, list[str]]:
    """Read `--stages`: the cases to measure of each stage, in order.

    Raises ValueError for a stage or a case that is not known.
    """
    chosen: dict[str, list[str]] = {}
    for word in given.split(","):
        name, _, case = word.partition(":")
        if name not in STAGES:
            raise ValueError(f"stage {name!r} is not known; use some of {','.join(STAGES)}.")
        if case and case not in STAGES[name].cases:
            known = ", ".join(STAGES[name].cases)
            raise ValueError(f"case {case!r} of stage {name!r} is not known; use one of {known}.")
        chosen.setdefault(name, []).extend([case] if case else STAGES[name].cases)
    return chosen


def _machine(options: argparse.Namespace, log: IO[str]) -> dict[str, Any]:
    """Describe what is measured on, and refuse to measure full sizes on a CPU."""
    request = Request("machine", "machine", options.toy, seconds=PROBE)
    found: dict[str, Any] = {}
    for row in process.measure(request, log):
        found |= row
    if "platform" not in found:
        raise OSError(f"JAX finds no device to measure: {found['error']}; see {log.name}.")
    if found["platform"] == "cpu" and not options.toy:
        raise ValueError("JAX finds no accelerator here; give --toy to try the stages on a CPU.")
    return found


def _stage(
    name: str,
    cases: list[str],
    options: argparse.Namespace,
    results: dict[str, Any],
    deadline: float,
    log: IO[str],
) -> None:
    """Measure some cases of a stage into `results`, which are written after each row."""
    began = time.monotonic()
    # What the file says of a stage if the run is killed.
    found = {"status": "unfinished", "reason": "the run was stopped", "rows": []}
    results["stages"][name] = found
    for case in cases:
        left = deadline - time.monotonic()
        if left < (TOY_LEAST if options.toy else LEAST):
            found["status"] = "unfinished" if found["rows"] else "skipped"
            found["reason"] = (
                f"{max(left, 0):.0f} s of {options.minutes:g} minutes were left for {case}"
            )
            print(f"{name}: {found['status']}, {found['reason']}.", file=sys.stderr, flush=True)
            report.write(results, options.output)
            return
        for row in process.measure(_request(name, case, options, results, left), log):
            report.merge(found["rows"], row)
            report.derive(found["rows"], results["machine"])
            report.write(results, options.output)
            if "error" in row:
                print(f"{name}: {row['name']}: {row['error']}", file=sys.stderr, flush=True)
    measured = [row for row in found["rows"] if "error" not in row and "skipped" not in row]
    found["seconds"] = round(time.monotonic() - began, 1)
    found |= {"status": "failed", "reason": "no case could be measured"}
    if measured:
        found |= {"status": "done", "reason": ""}
    report.write(results, options.output)


def _request(
    name: str, case: str, options: argparse.Namespace, results: dict[str, Any], left: float
) -> Request:
    return Request(
        name,
        case,
        options.toy,
        results["machine"]["platform"],
        left,
        str(options.output.resolve()),
        str(options.model.resolve()),
        str(options.cache.resolve()) if options.cache else "",
    )


if __name__ == "__main__":
    cli.run(main)
