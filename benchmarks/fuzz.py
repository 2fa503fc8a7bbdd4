"""Try thousands of damaged inputs, print a table, and keep those that fail.

    python benchmarks/fuzz.py --count 3000 --seed 0

Inputs are those of `tests/fuzz/inputs.py`: films, pictures, palettes, configs, weights and others
with changed bytes or values. Each is read by the function or command that a user's file reaches.
It has to be read, or refused in one line.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import cli
from tests.fuzz import campaign
from tests.fuzz.inputs import KINDS, make

RARE = 20  # for so many inputs, one goes through the whole command


def main(argv: list[str] | None = None) -> None:
    """Try inputs of all kinds in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--count", type=int, default=3000, help="inputs")
    add("--seed", type=int, default=0, help="seed of the first input of each kind")
    add("--kinds", default=",".join(KINDS), help="kinds, separated by commas")
    add("--failures", type=Path, default=Path("runs/fuzz"), help="folder for inputs that fail")
    options = parser.parse_args(argv)
    kinds = options.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"kind {unknown[0]!r} is not known; use some of {', '.join(KINDS)}.")
    tried: Counter[tuple[str, str]] = Counter()
    bar = cli.progress(None, "trying", "input", options.count)
    for outcome in campaign.run(cases(kinds, options.count, options.seed)):
        fine = outcome.result in campaign.FINE
        tried[outcome.kind, outcome.result if fine else "failures"] += 1
        if not fine:
            print(f"{outcome.kind} {outcome.seed}: {outcome.result}", flush=True)
            given = make(outcome.kind, outcome.seed)
            folder = options.failures / f"{given.kind}-{given.seed}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / given.name).write_bytes(given.data)
        bar.update()
    bar.close()
    print(f"\n{'kind':<10}{'tried':>8}{'ok':>8}{'refused':>8}{'failures':>10}")
    for kind in kinds:
        found = [tried[kind, result] for result in (*campaign.FINE, "failures")]
        print(f"{kind:<10}{sum(found):>8}{found[0]:>8}{found[1]:>8}{found[2]:>10}")
    if any(count for (_, result), count in tried.items() if result == "failures"):
        print(f"inputs that fail: {options.failures}")
        sys.exit(cli.FAILURE)


def cases(kinds: list[str], count: int, seed: int) -> list[tuple[str, int]]:
    """Return kinds and seeds: half of the inputs are films; `command` is rare."""
    often = [kind for kind in kinds if kind not in ("film", "command")]
    found = []
    for number in range(count):
        kind = often[number // 2 % len(often)] if number % 2 and often else "film"
        if number % RARE == 0:
            kind = "command"
        found.append((kind if kind in kinds else kinds[number % len(kinds)], seed + number))
    return found


if __name__ == "__main__":
    cli.run(main)
