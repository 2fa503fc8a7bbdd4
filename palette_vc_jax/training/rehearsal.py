"""Compile a run's step for TPUs that are not there, and tell what it would need of them.

libtpu holds the real compiler: what it says of memory is what the slice would say. The time is an
estimate from the hardware's published rates, for no TPU has run this.
"""

import math
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from palette_vc_jax.models import functional
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import AXES, make_mesh
from palette_vc_jax.training import compiled
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
# What the compiler writes of a program, in this order: where values lie, the program, a summary.
PARTS = ("-buffer-assignment", "", "-memory-usage-report")
GRACE = 20.0  # seconds


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
    needed: int  # bytes: both, and results that take no argument's place
    flops: float
    moved: float  # bytes to and from memory, see `compiled.traffic`
    collectives: dict[str, tuple[int, int]]  # kind -> how many, bytes of their results
    bounds: dict[str, float]  # what limits -> seconds


def compile_step(run: Rehearsed, config: Any, devices: Sequence[Any]) -> Report:
    """Compile the step of `config` for `devices`, such as `topology_devices` gives.

    Waits until the compiler has found a place for every value, or that there is none; it may go on
    in a thread of its own then, which nobody needs (generating code takes far longer).

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
        lowered = step.lower(state, frozen, batch)
    memory, program = _compile(lowered)
    collectives = compiled.collectives(program)
    kind = devices[0].device_kind
    moved = compiled.traffic(program)
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
        memory[0],
        memory[1],
        sum(memory),
        flops,
        moved,
        collectives,
        bounds,
    )


def _compile(lowered: Any) -> tuple[tuple[int, int, int], compiled.Program]:
    """Give the bytes of arguments, temporaries and results, and the program, as compiled."""
    errors: list[Exception] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        told = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}

        def work() -> None:
            try:
                lowered.compile(compiler_options=told)
            except jax.errors.JaxRuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        files = {kind: f"*jit_step*after_optimizations{kind}.txt" for kind in PARTS}
        while thread.is_alive() and not list(Path(folder).glob(files[PARTS[-1]])):
            thread.join(0.2)
        thread.join(GRACE)  # whether it fits is said after the summary
        if errors:
            raise MemoryError(_in_short(str(errors[0]))) from None
        texts = [next(Path(folder).glob(files[kind])).read_text() for kind in PARTS[:2]]
    return compiled.allocations(texts[0]), compiled.parse(texts[1])


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
        f"  memory traffic     {report.moved / 1e9:.0f} GB, values written and read once",
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
            "  The program itself, about 1 GiB at full size, is not counted; the compiler keeps "
            "room for it.",
        ]
    return "\n".join(lines)


def _in_short(message: str) -> str:
    """Keep the compiler's first lines, which name the bytes wanted and held."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]
