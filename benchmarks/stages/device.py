"""How the stages measure JAX: weights drawn on the device, times, memory."""

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from palette_vc_jax.models import functional

GIB = 2**30
LEAST = 0.02  # seconds that a timed run of calls takes at least


def random_like(shapes: Mapping[str, Any], dtype: Any = None) -> functional.Params:
    """Draw weights on the device for a nested dict of shapes, so that values keep their size.

    Kernels are scaled by their inputs, norm scales are near 1, everything else near 0.

    Args:
        shapes: a nested dict of `jax.ShapeDtypeStruct`, or a flat one of dotted names.
        dtype: of all weights; None keeps that of the shapes.
    """
    flat = functional.flatten(shapes)
    sizes = [math.prod(leaf.shape) for leaf in flat.values()]
    # All are cut from one pool: drawing each shape anew would compile for a minute.
    pool = jax.random.normal(jax.random.key(0), (max(sizes, default=0) + len(sizes),))
    drawn = {}
    for start, (name, leaf) in enumerate(flat.items()):
        fan_in = math.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        offset = float(name.endswith("scale"))
        kind = jnp.dtype(dtype or leaf.dtype)
        drawn[name] = _cut(pool, start, fan_in**-0.5, offset, leaf.shape, kind)
    return functional.nest(drawn)


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def _cut(
    pool: jax.Array, start: int, scale: float, offset: float, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """Return numbers of the pool from `start` on."""
    values = jax.lax.dynamic_slice(pool, (start,), (math.prod(shape),))
    return (offset + scale * values).reshape(shape).astype(dtype)


def median_ms(call: Callable[[], Any], repeats: int, toy: bool) -> float:
    """Time `call` in ms: the median of `repeats` runs, each of as many calls as take `LEAST`.

    The calls of a run are dispatched one after the other and waited for together, so that short
    ones are not timed by the host. A toy's runs have one call.
    """

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            result = call()
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / count

    run(1)  # compiles, or loads what was compiled
    count = 1 if toy else max(1, math.ceil(LEAST / run(1)))
    return 1e3 * statistics.median(run(count) for _ in range(repeats))


def peak_gib() -> float | None:
    """Return the most memory that this process held on its device; None where it is not known."""
    held = jax.local_devices()[0].memory_stats()
    return held["peak_bytes_in_use"] / GIB if held else None


def compiled_gib(compiled: Any) -> float | None:
    """Return what the compiler reports that a program holds; None where it reports nothing."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    size = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return (size - memory.alias_size_in_bytes) / GIB
