"""Print the device memory that sampling needs at full size, on hardware that is not here.

    JAX_PLATFORMS=cpu python benchmarks/sampling_memory.py [CASE ...]

compiles the networks of SVD-XT for 25 frames of 1024x576 with the real compilers (`make test`
installs them), each stage in a process of its own, and prints a table. A stage needs its
temporaries and the weights on the device: those of all networks; with a small `--memory`, its own.
A stage takes about a minute or less on two cores.
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
SIZE = (576, 1024)
WINDOWS = 8
HEAD = """\
| hardware | settings | stage | weights, GiB | temporaries, GiB | both, GiB | fits | TFLOP | \
minutes to compile |
| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: |"""


class Case(NamedTuple):
    """Hardware, settings that are not the default, and the GiB that may be used."""

    topology: str
    settings: dict[str, int]
    limit: float
    alone: bool = False  # networks leave the device while others work


# Limits: the device's memory, less 1.5 GiB for the driver, the context and workspaces.
CASES = {
    "h100": Case("h100:1", {}, 78.1),
    "rtx4090": Case("rtx4090:1", {}, 22.4),
    "12gib": Case("rtx4090:1", {"decode_chunk": 6}, 10.5),
    "8gib": Case("rtx4090:1", {"decode_chunk": 6, "encode_batch": 4}, 6.8, alone=True),
    "v5e": Case("v5e:1x1", {"decode_chunk": 6, "encode_batch": 4}, 15.75),
    "v5e-8": Case("v5e:2x4", {"decode_chunk": 6, "encode_batch": 4}, 15.75),
}


def measure(case: Case, stage: str) -> dict[str, Any]:
    """Compile one stage in this process."""
    from palette_vc_jax.models import functional
    from palette_vc_jax.models.config import PRESETS
    from palette_vc_jax.models.store import NETWORKS
    from palette_vc_jax.sampling.colorize import default_settings
    from palette_vc_jax.sampling.memory_plan import NETWORK
    from palette_vc_jax.training.aot.sampling import compile_stage
    from palette_vc_jax.training.aot.targets import topology_devices

    config = PRESETS["svd_xt"]()
    weights = sum(
        2 * functional.count(functional.shapes(module, getattr(config, name)))  # bfloat16
        for name, module in NETWORKS.items()
        if not case.alone or name == NETWORK[stage]
    )
    settings = default_settings(config, **case.settings)
    start = time.time()
    try:
        found = compile_stage(
            stage, config, settings, SIZE, topology_devices(case.topology), WINDOWS
        )
        result = {"temporaries": found.needed - found.arguments, "flops": found.flops}
    except MemoryError as error:
        print(error, file=sys.stderr)
        result = {}
    return result | {"weights": weights, "seconds": time.time() - start}


def row(name: str, stage: str, found: dict[str, Any]) -> str:
    """Lay out one stage as a line of the table."""
    case = CASES[name]
    given = [f"{key} {value}" for key, value in case.settings.items()]
    settings = ", ".join([*given, *["one network at a time"] * case.alone]) or "default"
    cells = [case.topology, settings, stage, f"{found['weights'] / GIB:.2f}"]
    if "flops" in found:
        both = (found["weights"] + found["temporaries"]) / GIB
        cells += [f"{found['temporaries'] / GIB:.2f}", f"{both:.2f}"]
        cells += ["yes" if both <= case.limit else "no", f"{found['flops'] / 1e12:.0f}"]
    else:
        cells += ["", "", "no", ""]
    return "| " + " | ".join([*cells, f"{found['seconds'] / 60:.0f}"]) + " |"


def main() -> None:
    """Compile the requested cases, one after the other."""
    from palette_vc_jax.training.aot.sampling import STAGES

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--stage", choices=STAGES, help="one stage; default: all")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = choose(CASES, options.cases)
    if options.child:
        print(json.dumps(measure(CASES[names[0]], options.stage)), flush=True)
        os._exit(0)  # the compiler goes on in a thread that cannot be stopped
    print(HEAD, flush=True)
    for name in names:
        for stage in [options.stage] if options.stage else STAGES:
            found = compile_alone(__file__, "--stage", stage, name)
            failed = f"| {CASES[name].topology} | {stage} does not compile |"
            print(row(name, stage, found) if found else failed, flush=True)


if __name__ == "__main__":
    cli.run(main)
