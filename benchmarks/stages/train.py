"""The training step of configs/davis.py on one device: time, and memory as compiled and as run."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.stages import sizes
from benchmarks.stages.device import compiled_gib, median_ms, peak_gib, random_like
from benchmarks.stages.plan import TRAIN, Request
from palette_vc_jax.models.config import to_dict
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training import tasks
from palette_vc_jax.training.aot.flops import step_flops
from palette_vc_jax.training.config import RunConfig, load, read
from palette_vc_jax.training.step import PlacedStep, place_step

REPEATS = 3


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Compile and time the step with the keys of one case."""
    with tempfile.TemporaryDirectory() as folder:
        config = _config(request, Path(folder))
        run = tasks.abstract_run(config)
    mesh = make_mesh(config.mesh.sizes(), jax.devices()[:1])
    placed = place_step(run.loss, run.params, run.frozen, config, mesh)
    rows = placement.batch_sharding(mesh)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), run.batch
    )
    row = {"name": request.case}
    with jax.set_mesh(mesh):
        tflop = step_flops(placed.step, placed.state, placed.frozen, shapes) / 1e12
        start = time.perf_counter()
        compiled = placed.step.lower(placed.state, placed.frozen, shapes).compile()
        seconds = time.perf_counter() - start
        yield row | {
            "compile_s": seconds,
            "tflop": tflop,
            "step_tflop": tflop,
            "predicted_gib": compiled_gib(compiled),
        }
        ms = _time(compiled, placed, shapes, request.toy)
        yield row | {"ms": ms, "peak_gib": peak_gib()}


def _config(request: Request, folder: Path) -> RunConfig:
    """Return the config of a case; a toy's model is written to `folder`, as a config alone."""
    config = load("davis")
    size = sizes.choose(request.toy)
    config.batch_size = 1
    if request.toy:
        (folder / "config.json").write_text(json.dumps(to_dict(size.model)))
        config.init_from = str(folder)
        config.data.size = (size.height, size.width)
        config.data.window = size.frames[0]
        config.compute_dtype = "float32"
    config.update(TRAIN[request.case])
    return read(config)


def _time(compiled: Any, placed: PlacedStep, shapes: Any, toy: bool) -> float:
    """Time a step in ms, from random weights."""
    state = jax.tree.map(_zeros, placed.state)
    state["params"] = _put(random_like(placed.state["params"]), placed.state["params"])
    frozen = _put(random_like(placed.frozen), placed.frozen)
    batch = jax.tree.map(_values, shapes)

    def step() -> Any:
        nonlocal state
        state, metrics = compiled(state, frozen, batch)
        return metrics

    return median_ms(step, 1 if toy else REPEATS, toy)


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype, device=shape.sharding)


def _values(shape: jax.ShapeDtypeStruct) -> jax.Array:
    if shape.dtype == bool:
        return _zeros(shape)
    drawn = jax.random.normal(jax.random.key(len(shape.shape)), shape.shape, shape.dtype)
    return jax.device_put(drawn, shape.sharding)


def _put(tree: Any, shapes: Any) -> Any:
    return jax.tree.map(lambda leaf, shape: jax.device_put(leaf, shape.sharding), tree, shapes)
