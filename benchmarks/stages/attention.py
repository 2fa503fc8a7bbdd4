"""Every attention path against the plain one in float32: errors, and times forward and backward."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.stages.device import median_ms
from benchmarks.stages.plan import Request, reason
from palette_vc_jax.models import attention
from palette_vc_jax.parallel import placement

PLATFORMS = {"cudnn": "gpu", "splash": "tpu"}  # that a kernel is for
FORWARD, BACKWARD = 2, 5  # products of tokens x tokens x head size


class Shape(NamedTuple):
    """The attention of one layer."""

    tokens: int
    heads: int
    size: int
    frames: int = 14

    def tflop(self, products: int) -> float:
        """Count the operations of so many products."""
        return 2e-12 * products * self.frames * self.heads * self.tokens**2 * self.size


# The four levels of the UNet, the image encoder, the VAE (whose frames come eight at a time).
FULL = (
    Shape(9216, 5, 64),
    Shape(2304, 10, 64),
    Shape(576, 20, 64),
    Shape(144, 20, 64),
    Shape(257, 16, 80),
    Shape(9216, 1, 512, 8),
)
TOY = (Shape(32, 2, 8, 2),)
PLAIN_BYTES = 2**33  # of fp32 logits in the plain path; fewer frames are measured above it


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Measure every path at every shape; a path that fails or does not apply says why."""
    budget = 2**10 if request.toy else attention.LOGITS_BUDGET
    for shape in TOY if request.toy else FULL:
        parts = _draw(shape)
        expected = _reference(*parts)
        for path in (*attention.KERNELS, "chunked", "plain"):
            yield _row(request, shape, path, parts, expected, budget)


def _draw(shape: Shape) -> list[jax.Array]:
    """Draw query, key, value and the gradient of the result, `[F, S, N, D]`."""
    keys = jax.random.split(jax.random.key(shape.tokens), 4)
    sides = (shape.frames, shape.tokens, shape.heads, shape.size)
    return [jax.random.normal(key, sides, jnp.bfloat16) for key in keys]


def _both(attend: Callable[..., jax.Array], *parts: jax.Array) -> tuple[jax.Array, ...]:
    """Return the result and the gradients of query, key and value."""
    *inputs, gradient = parts
    out, pull = jax.vjp(attend, *inputs)
    return out, *pull(gradient.astype(out.dtype))


@jax.jit
def _reference(*parts: jax.Array) -> tuple[jax.Array, ...]:
    """Compute the plain path in float32, a frame at a time."""
    with jax.default_matmul_precision("highest"):
        wide = [part.astype(jnp.float32) for part in parts]
        return jax.lax.map(lambda frame: _both(attention.plain_attention, *frame), wide)


def _row(
    request: Request,
    shape: Shape,
    path: str,
    parts: list[jax.Array],
    expected: tuple[jax.Array, ...],
    budget: int,
) -> dict[str, Any]:
    own = attention.kernel_of(request.platform, placement.target_capability())
    kind = attention.choose(own, jnp.dtype("bfloat16"), shape.tokens, shape.tokens, shape.size)
    row_bytes = 4 * shape.frames * shape.heads * shape.tokens  # of the logits of a query
    chunk = max(1, budget // row_bytes)
    taken = kind or ("plain" if chunk >= shape.tokens else "chunked")
    star = " *" if path == taken else ""
    row = {"name": f"{shape.tokens} x {shape.heads} x {shape.size} {path}{star}"}
    refused = _refusal(request, shape, path, chunk)
    if refused:
        return row | {"skipped": refused}
    frames = shape.frames
    if path == "plain":
        frames = max(1, min(frames, PLAIN_BYTES // (row_bytes * shape.tokens // frames)))
    shape = shape._replace(frames=frames)
    parts, expected = ([part[:frames] for part in given] for given in (parts, expected))
    try:
        return row | _measure(request, shape, _attend(path, chunk), parts, expected)
    except Exception as error:  # a kernel's refusal, or no memory: the other paths go on
        return row | {"error": reason(error)}


def _refusal(request: Request, shape: Shape, path: str, chunk: int) -> str | None:
    """Return why a path does not apply, or None."""
    if PLATFORMS.get(path, request.platform) != request.platform:
        return f"needs a {PLATFORMS[path].upper()}"
    if path == "splash" and shape.size > 128:
        return "takes heads up to 128"
    if path == "chunked" and chunk >= shape.tokens:
        return "all logits fit the budget of a chunk"
    return None


def _attend(path: str, chunk: int) -> Callable[..., jax.Array]:
    if path == "chunked":
        return functools.partial(attention.chunked_attention, chunk=chunk)
    return attention.KERNELS.get(path, attention.plain_attention)


def _measure(
    request: Request,
    shape: Shape,
    attend: Callable[..., jax.Array],
    parts: list[jax.Array],
    expected: list[jax.Array],
) -> dict[str, Any]:
    forward, both = jax.jit(attend), jax.jit(functools.partial(_both, attend))
    errors = _errors(both(*parts), expected)
    repeats = 1 if request.toy else 10
    forward_ms = median_ms(lambda: forward(*parts[:3]), repeats, request.toy)
    both_ms = median_ms(lambda: both(*parts), repeats, request.toy)
    return {
        "frames": shape.frames,
        "forward_ms": forward_ms,
        "forward_tflops": 1e3 * shape.tflop(FORWARD) / forward_ms,
        "both_ms": both_ms,
        "both_tflops": 1e3 * shape.tflop(FORWARD + BACKWARD) / both_ms,
        "largest_error": float(jnp.max(errors[0])),
        "relative_error": float(errors[1]),
        "gradient_error": float(jnp.max(errors[2])),
    }


@jax.jit
def _errors(
    found: tuple[jax.Array, ...], expected: list[jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the result's largest and relative error, and the gradients' relative errors `[3]`."""
    differences = [a.astype(jnp.float32) - b for a, b in zip(found, expected, strict=True)]
    pairs = zip(differences, expected, strict=True)
    relative = jnp.stack([jnp.linalg.norm(d) / jnp.linalg.norm(b) for d, b in pairs])
    return jnp.max(jnp.abs(differences[0])), relative[0], relative[1:]
