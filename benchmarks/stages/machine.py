"""What the run measures on: the device, and the rate of a large matrix product there."""

import platform
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.stages.device import GIB, median_ms
from benchmarks.stages.plan import Request

SIDE, TOY_SIDE = 8192, 128  # of the product's square matrices


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Describe the first device and time a bfloat16 product of random matrices on it."""
    device = jax.devices()[0]
    held = device.memory_stats() or {}
    found = {
        "name": request.case,
        "platform": device.platform,
        "device": device.device_kind if device.platform != "cpu" else f"CPU ({platform.machine()})",
        "memory_gib": held["bytes_limit"] / GIB if "bytes_limit" in held else None,
    }
    yield found
    if device.platform == "cpu" and not request.toy:
        return  # the run is refused; a product of this size would take seconds
    side = TOY_SIDE if request.toy else SIDE
    left, right = jax.random.normal(jax.random.key(0), (2, side, side), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    ms = median_ms(lambda: product(left, right), 2 if request.toy else 20, request.toy)
    yield {"name": request.case, "product_side": side, "product_tflops": 2e-9 * side**3 / ms}
