"""Compile a run's step for TPUs that are not there, and tell what it would need of them.

libtpu holds the real compiler: what it says of memory is what the slice would say. The time is an
estimate from the hardware's published rates, for no TPU has run this.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from palette_vc_jax.models import functional
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import AXES, make_mesh
from palette_vc_jax.training.flops import peak_flops, step_flops
from palette_vc_jax.training.step import Loss, place_step

GIB = 2**30
# device_kind -> bytes/s of memory, and of all links between chips (cloud.google.com/tpu/docs).
RATES = {
    "TPU v4": (1228e9, 300e9),
    "TPU v5 lite": (819e9, 200e9),
    "TPU v5": (2765e9, 600e9),
    "TPU v6 lite": (1640e9, 448e9),
}
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# An instruction's result, such as `bf16[14,16]{1,0}`, or several in brackets, before its name.
_INSTRUCTION = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(")
_ARRAY = re.compile(r"([a-z]+)(\d+)?\[([\d,]*)\]")


class Rehearsed(NamedTuple):
    """A run without its data and weights: the loss, and shapes of what it takes."""

    loss: Loss
    params: Any
    frozen: Any
    batch: Any


class Report(NamedTuple):
    """What one step takes; bytes, FLOPs and seconds are a device's."""

    kind: str
    mesh: dict[str, int]
    parameters: int
    arguments: int  # bytes: state, frozen weights and batch
    temporaries: int  # bytes
    needed: int  # bytes: both, the program, and results that take no argument's place
    flops: float
    moved: float  # bytes to and from memory, as XLA counts them: a loop's body once
    collectives: dict[str, tuple[int, int]]  # kind -> how many, bytes of their results
    bounds: dict[str, float]  # what limits -> seconds


def compile_step(run: Rehearsed, config: Any, devices: Sequence[Any]) -> Report:
    """Compile the step of `config` for `devices`, such as `topology_devices` gives.

    Raises ValueError for a mesh of another number of devices, and MemoryError in the compiler's
    words if the step does not fit the memory.
    """
    mesh = make_mesh(config.mesh, devices)
    placement.local_rows(mesh, config.batch_size)
    step, _, state, frozen = place_step(run.loss, run.params, run.frozen, config, mesh)
    rows = placement.batch_sharding(mesh)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), run.batch)
    with jax.set_mesh(mesh):
        flops = step_flops(step, state, frozen, batch) / len(devices)
        try:
            compiled = step.lower(state, frozen, batch).compile()
        except jax.errors.JaxRuntimeError as error:
            raise MemoryError(_in_short(str(error))) from None
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    collectives = count_collectives(compiled.as_text())
    kind = devices[0].device_kind
    moved = float(cost.get("bytes accessed", math.nan))
    sent = sum(size for _, size in collectives.values())
    bounds = {}
    if kind in RATES:
        bandwidth, links = RATES[kind]
        bounds = {
            "products": flops / (peak_flops(devices) / len(devices)),
            "memory": moved / bandwidth,
            "links": sent / links,
        }
    return Report(
        kind,
        {axis: mesh.shape[axis] for axis in AXES},
        functional.count(run.params),
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        flops,
        moved,
        collectives,
        bounds,
    )


def count_collectives(text: str) -> dict[str, tuple[int, int]]:
    """Count a compiled program's collectives and the bytes of their results."""
    found = dict.fromkeys(COLLECTIVES, (0, 0))
    for result, kind, starts in _INSTRUCTION.findall(text):
        sizes = [_bytes(array) for array in _ARRAY.findall(result) if array[2]]
        if starts and kind != "all-reduce":  # gives its operands first, then its results
            sizes = sizes[len(sizes) // 2 :]
        count, size = found[kind]
        found[kind] = count + 1, size + sum(sizes)
    return found


def _bytes(array: tuple[str, str, str]) -> int:
    kind, bits, shape = array
    size = int(bits) // 8 if bits else 1  # pred has none
    return size * math.prod(int(length) for length in shape.split(",") if length)


def table(report: Report) -> str:
    """Lay a report out as text."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    lines = [
        f"{math.prod(report.mesh.values())} x {report.kind}, mesh {mesh}",
        f"trained parameters   {report.parameters:,}",
        "of each chip:",
        f"  arguments          {report.arguments / GIB:.2f} GiB",
        f"  temporaries        {report.temporaries / GIB:.2f} GiB",
        f"  needed in all      {report.needed / GIB:.2f} GiB",
        f"  products           {report.flops / 1e12:.1f} TFLOP",
        f"  memory traffic     {report.moved / 1e9:.0f} GB, loops' bodies once",
    ]
    for kind, (count, size) in report.collectives.items():
        if count:
            lines.append(f"  {kind:<19}{count} of {size / 1e9:.2f} GB together")
    if report.bounds:
        limit = max(report.bounds, key=report.bounds.get)
        parts = ", ".join(f"{name} {value:.2f} s" for name, value in report.bounds.items())
        lines += [
            f"a step takes at least {report.bounds[limit]:.2f} s, limited by {limit} ({parts}):",
            "  an estimate at the published rates, everything overlapping; not measured.",
        ]
    return "\n".join(lines)


def _in_short(message: str) -> str:
    """Keep the compiler's first lines, which name the bytes wanted and held."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]
