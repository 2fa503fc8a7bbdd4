"""Print what a full-size training step takes of TPUs and GPUs that are not here.

    JAX_PLATFORMS=cpu python benchmarks/step_memory.py [CASE ...]

compiles the step of `configs/davis.py` for each of `CASES` with the real compilers (`make test`
installs them), each in a process of its own, and prints a table. A case takes five to ten minutes
on two cores, and 10 GB of this machine's memory.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.compile_cases import choose, compile_alone
from palette_vc_jax import cli

GIB = 2**30


HEAD = """\
| hardware | trained | frames | windows a step (mesh) | arguments, GiB | temporaries, GiB | \
needed, GiB | fits | TFLOP | collectives, GB | bound on a step, s | minutes to compile |
| --- | --- | ---: | --- | ---: | ---: | ---: | --- | ---: | ---: | --- | ---: |"""


class Case(NamedTuple):
    """Hardware, the frames of a window, windows a step, and how they are split and trained."""

    topology: str
    frames: int
    batch: int
    split_frames: int = 1
    data: int = 1
    rank: int = 0  # of LoRA, with the palette layer; 0 trains everything


CASES = {
    "v5e": Case("v5e:4x4", 14, 16),
    "h100": Case("h100:8", 14, 8),
    "rtx4090-lora": Case("rtx4090:1", 14, 1, rank=16),
    "v5p": Case("v5p:2x2x2", 25, 8),
    "v6e": Case("v6e:4x4", 25, 16),
    "a100-80": Case("a100-80:8", 14, 8),
    "h100-one": Case("h100:1", 14, 1),
    "v5e-frames": Case("v5e:4x4", 14, 8, 2, 2),
}


def measure(case: Case) -> dict[str, Any]:
    """Compile one case in this process."""
    from palette_vc_jax.training import tasks
    from palette_vc_jax.training.aot.report import compile_step, fits, table
    from palette_vc_jax.training.aot.targets import topology_devices
    from palette_vc_jax.training.config import load, read

    config = load("davis")
    config.batch_size, config.data.window = case.batch, case.frames
    config.mesh.frames, config.mesh.data = case.split_frames, case.data
    if case.rank:
        config.trained, config.lora.rank = ("palette",), case.rank
    start = time.time()
    run, devices = read(config), topology_devices(case.topology)
    report = compile_step(tasks.abstract_run(run), run, devices)
    print(table(report), file=sys.stderr)
    return report._asdict() | {
        "fits": fits(report),
        "seconds": time.time() - start,
    }


def row(case: Case, found: dict[str, Any]) -> str:
    """Lay out one case as a line of the table."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items() if size > 1)
    sent = sum(size for _, size in found["collectives"].values())
    bounds = found["bounds"]
    limit = max(bounds, key=bounds.get)
    cells = [
        case.topology,
        f"LoRA, rank {case.rank}" if case.rank else "all",
        str(case.frames),
        f"{case.batch} ({mesh or 'one device'})",
        f"{found['arguments'] / GIB:.2f}",
        f"{found['temporaries'] / GIB:.2f}",
        f"{found['needed'] / GIB:.2f}",
        "yes" if found["fits"] else "no",
        f"{found['flops'] / 1e12:.0f}",
        f"{sent / 1e9:.1f}",
        f"{bounds[limit]:.2f} ({limit})",
        f"{found['seconds'] / 60:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Compile the requested cases, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = choose(CASES, options.cases)
    if options.child:
        print(json.dumps(measure(CASES[names[0]])), flush=True)
        os._exit(0)  # the compiler goes on in a thread that cannot be stopped
    print(HEAD, flush=True)
    for name in names:
        found = compile_alone(__file__, name)
        failed = f"| {CASES[name].topology} | does not compile |"
        print(row(CASES[name], found) if found else failed, flush=True)


if __name__ == "__main__":
    cli.run(main)
