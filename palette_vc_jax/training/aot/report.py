"""Compile a program for TPUs or GPUs that are not there, and report what it would need.

The compilers are the real ones: the memory they assign is what the hardware would need. The
time is an estimate from the hardware's published rates; nothing of it is measured.
"""

import math
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from palette_vc_jax.models import functional
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import AXES, make_mesh
from palette_vc_jax.training import checks
from palette_vc_jax.training.aot import hlo, targets
from palette_vc_jax.training.aot.flops import peak_flops, step_flops
from palette_vc_jax.training.config import RunConfig
from palette_vc_jax.training.step import Loss, place_step

GIB = 2**30
# What the compiler writes of a program, in this order: where values lie, the program, a summary.
PARTS = ("-buffer-assignment", "", "-memory-usage-report")
GRACE = 20.0  # seconds after the summary, in which the TPU compiler refuses what does not fit
COMPILER = "compiler"  # name of the thread that compiles
PREALLOCATED = 0.75  # of a GPU's memory, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise


class AbstractRun(NamedTuple):
    """A run without data and weights: the loss, and the shapes of its arguments."""

    loss: Loss
    params: Any
    frozen: Any
    batch: Any


class Report(NamedTuple):
    """What a program takes, such as a step of training; bytes, FLOPs, seconds are a device's."""

    kind: str
    mesh: dict[str, int]
    parameters: int
    arguments: int  # bytes, such as state, frozen weights and batch
    temporaries: int  # bytes
    needed: int  # bytes: both, and results that take no argument's place
    flops: float
    moved: float  # bytes to and from memory, see `hlo.traffic`
    collectives: dict[str, tuple[int, int]]  # kind -> how many, bytes of their results
    bounds: dict[str, float]  # what limits -> seconds
    room: int | None  # bytes that a program may use; None: the compiler has judged that it fits


def compile_step(run: AbstractRun, config: RunConfig, devices: Sequence[Any]) -> Report:
    """Compile the step of `config` for `devices`, which `targets.topology_devices` returns.

    Waits until the compiler has found a place for every value, or that there is none. It may go on
    in a thread of its own then, which nobody needs: generating code takes far longer.

    Raises:
        ValueError: the mesh has another number of devices, or batches do not divide over it.
        MemoryError: the TPU compiler finds that the step does not fit, in its words. The GPU
            compiler does not check; see `fits`.
    """
    mesh = make_mesh(config.mesh.sizes(), devices)
    checks.check_mesh(config, mesh)
    step, _, state, frozen = place_step(run.loss, run.params, run.frozen, config, mesh)
    rows = placement.batch_sharding(mesh)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), run.batch)
    return compile_program(step, (state, frozen, batch), mesh, functional.count(run.params))


def compile_program(
    program: Any, arguments: tuple[Any, ...], mesh: Mesh, parameters: int
) -> Report:
    """Compile a jitted function for the devices of a mesh.

    Args:
        program: the jitted function.
        arguments: the shapes of its arguments, with their shardings.
        mesh: of devices that `targets.topology_devices` returned.
        parameters: the number of parameters, for the report.

    Raises MemoryError as `compile_step`, which also says how long this waits.
    """
    devices = list(mesh.devices.flat)
    with jax.set_mesh(mesh):
        flops = step_flops(program, *arguments) / len(devices)
        lowered = program.lower(*arguments)
    name = program.__wrapped__.__name__
    memory, compiled = _compile(lowered, name, targets.OPTIONS.get(devices[0].platform, {}))
    collectives = hlo.collectives(compiled)
    kind = devices[0].device_kind
    moved = hlo.traffic(compiled)
    sent = sum(size for _, size in collectives.values())
    bounds = {}
    if kind in targets.RATES:
        bandwidth, links = targets.RATES[kind]
        bounds = {
            "products": flops / (peak_flops(devices) / len(devices)),
            "memory": moved / bandwidth,
            "links": sent / links,
        }
    return Report(
        kind,
        {axis: mesh.shape[axis] for axis in AXES},
        parameters,
        memory[0],
        memory[1],
        sum(memory),
        flops,
        moved,
        collectives,
        bounds,
        targets.ROOM.get(kind),
    )


def fits(report: Report) -> bool:
    """Return whether a device has the bytes that the step needs."""
    return report.room is None or report.needed <= report.room


def _compile(
    lowered: Any, name: str, options: dict[str, Any]
) -> tuple[tuple[int, int, int], hlo.Program]:
    """Return the bytes of arguments, temporaries and results, and the program, as compiled.

    `name` is that of the function, from which the compiler makes the names of its files.
    """
    errors: list[Exception] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = options | {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}

        def work() -> None:
            try:
                lowered.compile(compiler_options=options)
            except jax.errors.JaxRuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=work, name=COMPILER, daemon=True)
        thread.start()
        files = {kind: f"*jit_{name}*after_optimizations{kind}.txt" for kind in PARTS}
        while thread.is_alive() and not list(Path(folder).glob(files[PARTS[-1]])):
            thread.join(0.2)
        thread.join(GRACE)
        if errors and "RESOURCE_EXHAUSTED" in str(errors[0]):
            raise MemoryError(_in_short(str(errors[0]))) from None
        texts = [p.read_text() for kind in PARTS[:2] for p in Path(folder).glob(files[kind])]
        if len(texts) < 2:
            raise errors[0]
    return hlo.allocations(texts[0]), hlo.parse(texts[1])


def table(report: Report) -> str:
    """Lay a report out as text."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    lines = [
        f"{math.prod(report.mesh.values())} x {report.kind}, mesh {mesh}",
        f"trained parameters   {report.parameters:,}",
        "of each device:",
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
        ]
    return "\n".join(lines + _verdict(report))


def _verdict(report: Report) -> list[str]:
    if report.room is None:
        return [
            "fits: the compiler says so, and it keeps room for the program itself, about 1 GiB at "
            "full size, which is not counted."
        ]
    needed, room, reserved = (
        f"{size / GIB:.2f} GiB" for size in (report.needed, report.room, targets.RESERVED)
    )
    answer = "fits" if fits(report) else "does not fit"
    lines = [
        f"{answer}: {needed} of {room}, which is the device's memory less {reserved} for the "
        "driver, the CUDA context, kernels, NCCL and cuDNN's workspaces (an assumption).",
    ]
    share = report.needed / (report.room + targets.RESERVED)
    if fits(report) and share > PREALLOCATED:
        lines.append(
            f"  JAX takes {PREALLOCATED:.0%} of the memory by itself; set "
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={math.ceil(100 * share + 1) / 100:.2f} or more."
        )
    return lines


def _in_short(message: str) -> str:
    """Keep the compiler's first lines, which name the bytes wanted and held."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]
