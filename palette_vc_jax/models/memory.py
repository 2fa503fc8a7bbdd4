"""Memory of a network's blocks: gather weights, recompute values, map over chunks of positions.

The networks' code states where a block begins (`call_block`) and along which axis it may be cut
(`map_chunks`). How much is kept is the policy of the caller (`policy`).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from palette_vc_jax.models.attention import ATTENTION
from palette_vc_jax.parallel import placement

# Beginning of the names of the primitives that compute cuDNN's attention. Their results cannot be
# named: the softmax statistics, which the backward pass needs, do not leave `jax.nn`.
CUDNN = "dot_product_attention_fwd"


def _save_cudnn(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name.startswith(CUDNN)


_policies = jax.checkpoint_policies
# What the backward pass finds kept of a residual block or transformer. The rest is computed again.
REMAT = {
    "none": None,  # everything is kept
    "layers": _policies.nothing_saveable,  # their inputs alone
    "attention": _policies.save_from_both_policies(  # and attention, with its statistics
        _policies.save_only_these_names(ATTENTION), _save_cudnn
    ),
}
# Bytes of a layer's widest value that are held at once; larger values are mapped in chunks.
CHUNK_BYTES = 2**30
CHUNK_BYTES_REMAT = 2**26  # where the backward pass recomputes


class Policy(NamedTuple):
    """What is kept of a block, see `policy`."""

    remat: str = "none"
    chunk_bytes: int = CHUNK_BYTES


_DEFAULT = Policy()
_policy = contextvars.ContextVar("policy", default=_DEFAULT)


@contextlib.contextmanager
def policy(remat: str = "none", chunk_bytes: int | None = None) -> Iterator[None]:
    """Set what is kept of the blocks that are called within.

    Enter it inside of the function that is traced: a compiled function keeps its policy.

    Args:
        remat: one of `REMAT`, for the backward pass.
        chunk_bytes: bytes of a block's widest value that are held at once. None takes
            `CHUNK_BYTES_REMAT` if the backward pass recomputes, otherwise `CHUNK_BYTES`.
    """
    default = CHUNK_BYTES if remat == "none" else CHUNK_BYTES_REMAT
    token = _policy.set(Policy(remat, chunk_bytes or default))
    try:
        yield
    finally:
        _policy.reset(token)


def call_block(
    block: Callable[..., jax.Array], parts: tuple[jax.Array, ...], condition: jax.Array
) -> jax.Array:
    """Call `block` on `parts`, concatenated along channels.

    Weights that are split over devices are gathered here, and released again.
    """
    graphdef, state = nnx.split(block)
    remat = _policy.get().remat

    def call(state: nnx.State, parts: tuple[jax.Array, ...], condition: jax.Array) -> jax.Array:
        gathered = nnx.merge(graphdef, placement.all_gather_params(state))
        return gathered(jnp.concatenate(parts, axis=-1), condition)

    if remat != "none":
        call = jax.checkpoint(call, policy=REMAT[remat])
    return call(state, parts, condition)


def map_chunks(
    block: Callable[..., jax.Array], x: jax.Array, condition: jax.Array | None, widest: float
) -> jax.Array:
    """Call `block(x, condition)` on chunks of axis 1 of `x` `[B, M, ...]`, which it does not mix.

    What lies between the block's input and output, in the backward pass above all, is then that of
    one chunk, except for attention's results. The gradients of weights are summed over chunks in
    float32.

    Args:
        block: keeps the shape of `x` except for its last axis.
        x: input of the block.
        condition: second argument of the block, the same for every chunk.
        widest: channels of the widest value within, for each of the input's.
    """
    count = _count_chunks(x, widest, _policy.get().chunk_bytes)
    if count == 1:
        return block(x, condition)
    graphdef, state = nnx.split(block)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)

    def one(part: jax.Array) -> jax.Array:
        narrow = jax.tree.map(lambda leaf, kept: leaf.astype(kept.dtype), wide, state)
        return nnx.merge(graphdef, narrow)(part, condition)

    # A chunk takes every `count`-th position, so that each has a share on every device.
    parts = x.reshape(x.shape[0], -1, count, *x.shape[2:])
    one = jax.checkpoint(one, policy=REMAT["attention"])
    out = jax.lax.map(one, jnp.moveaxis(parts, 2, 0))  # [count, B, M/count, ...]
    return jnp.moveaxis(out, 0, 2).reshape(*x.shape[:-1], -1)


def _count_chunks(x: jax.Array, widest: float, budget: int) -> int:
    """Return the smallest divisor of M that cuts the widest value into chunks of `budget` bytes."""
    size = widest * x.size * x.dtype.itemsize / placement.num_devices()
    length, split = x.shape[1], placement.num_frame_shards()
    # Prefer parts that divide evenly over the devices, if the full length does.
    whole = [n for n in range(1, length + 1) if length % n == 0]
    whole = [n for n in whole if length // n % split == 0 or length % split]
    return next((n for n in whole if size / n <= budget), whole[-1])
