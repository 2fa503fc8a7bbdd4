"""How many floating-point operations a step takes, and how many a device can do.

XLA's own count (`cost_analysis`) takes the body of a loop once, however often it runs, and fused
kernels as nothing: attention in chunks and accumulated gradients would be missing. So the traced
step is counted here: matrix products and convolutions, 2 operations a multiplication. Operations
element by element are left out, as is usual; what is computed again in the backward pass counts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.extend import core

# Peaks in bfloat16 with float32 sums, FLOP/s a JAX device, without sparsity.
_CLOUD = "cloud.google.com/tpu/docs, system architecture"
_JAX = "jax/_src/pallas/mosaic/tpu_info.py"
_DATASHEET = "NVIDIA data sheet"
_WHITEPAPER = "NVIDIA architecture white paper"
PEAKS: dict[str, tuple[float, str]] = {  # device_kind -> peak, source
    "TPU v2": (23e12, _JAX),  # a device is one of the chip's two cores
    "TPU v3": (61.5e12, _CLOUD),  # likewise
    "TPU v4": (275e12, _CLOUD),
    "TPU v5 lite": (197e12, _CLOUD),
    "TPU v5e": (197e12, _CLOUD),
    "TPU v5": (459e12, _CLOUD),
    "TPU v5p": (459e12, _CLOUD),
    "TPU v6 lite": (918e12, _CLOUD),
    "TPU v6e": (918e12, _CLOUD),
    "TPU7x": (1155e12, _JAX),  # a device is one of the chip's two cores
    "NVIDIA A10": (125e12, _DATASHEET),
    "NVIDIA A10G": (70e12, _DATASHEET),
    "NVIDIA A100-PCIE-40GB": (312e12, _DATASHEET),
    "NVIDIA A100-SXM4-40GB": (312e12, _DATASHEET),
    "NVIDIA A100 80GB PCIe": (312e12, _DATASHEET),
    "NVIDIA A100-SXM4-80GB": (312e12, _DATASHEET),
    "NVIDIA L4": (121e12, _DATASHEET),
    "NVIDIA L40S": (362e12, _DATASHEET),
    "NVIDIA H100 PCIe": (756e12, _DATASHEET),
    "NVIDIA H100 NVL": (835e12, _DATASHEET),
    "NVIDIA H100 80GB HBM3": (989e12, _DATASHEET),
    "NVIDIA H200": (989e12, _DATASHEET),
    "NVIDIA GeForce RTX 3090": (71e12, _WHITEPAPER),
    "NVIDIA GeForce RTX 4090": (165.2e12, _WHITEPAPER),
}


def peak_flops(devices: Sequence[Any]) -> float | None:
    """Add up what `devices` can do, FLOP/s in bfloat16; None where a kind is not known."""
    peaks = [PEAKS.get(device.device_kind) for device in devices]
    return None if None in peaks else sum(peak for peak, _ in peaks)


def step_flops(step: Callable, *args: Any) -> float:
    """Count the operations of one call of a jitted function, over all devices.

    Nothing is compiled, and the trace serves the call with the same shapes as well.
    """
    return _count(step.trace(*args).jaxpr.jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    for prefix, count in COUNTED.items():
        if name.startswith(prefix):
            return count(equation)
    inner = [_count(part) for part in _parts(params)]
    if name == "cond":
        return max(inner)
    return sum(inner) * _repeats(name, params)


def _repeats(name: str, params: dict[str, Any]) -> int:
    """Return how often an equation runs its parts; a loop of unknown length counts once."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":  # it holds one shard's work
        axes = next(params[key] for key in params if key.endswith("manual_axes"))
        return math.prod(params["mesh"].shape[axis] for axis in axes)
    if name == "pallas_call":
        grid = params["grid_mapping"].grid
        return math.prod(size for size in grid if isinstance(size, int))
    return 1


def _parts(value: Any) -> Iterator[core.Jaxpr]:
    """Find the programs among an equation's parameters."""
    if isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _parts(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _parts(part)


def _product(equation: core.JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    out = equation.outvars[0].aval.shape
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: core.JaxprEqn) -> float:
    """Count a convolution as if nothing were padded.

    A stride's backward pass spreads its input out with zeros, which are not counted.
    """
    params, kernel = equation.params, equation.invars[1].aval.shape
    _, channels, *places = params["dimension_numbers"].rhs_spec
    taps = math.prod(kernel[axis] for axis in places) / math.prod(params["lhs_dilation"])
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * taps * kernel[channels]


def _attention(products: int) -> Callable[[core.JaxprEqn], float]:
    """Count cuDNN's attention of query `[B, S, N, D]`, key `[B, L, N, D]` as matrix products."""

    def count(equation: core.JaxprEqn) -> float:
        query, key = (variable.aval.shape for variable in equation.invars[:2])
        return 2.0 * products * math.prod(query) * key[1]

    return count


COUNTED = {  # beginnings of primitives' names
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "dot_product_attention_fwd": _attention(2),
    "dot_product_attention_bwd": _attention(5),  # the logits once more, and four gradients
}
