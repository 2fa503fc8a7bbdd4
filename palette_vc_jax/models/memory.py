"""Memory of a block: it gathers weights, recomputes values, and maps over chunks of positions.

The blocks themselves know nothing of it, but for where they may be called part by part.
"""

from typing import Any

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


def call_block(
    block: nnx.Module,
    parts: tuple[jax.Array, ...],
    condition: jax.Array,
    remat: str,
    budget: int | None = None,
) -> jax.Array:
    """Call `block` on `parts` side by side.

    Weights that are split over devices are gathered here, and released again.

    Args:
        remat: one of `REMAT`, for the backward pass.
        budget: bytes of the block's widest value that are held at once, see `map_chunks`. None
            takes `CHUNK_BYTES_REMAT` where the backward pass recomputes, otherwise `CHUNK_BYTES`.
    """
    graphdef, state = nnx.split(block)
    budget = budget or (CHUNK_BYTES if remat == "none" else CHUNK_BYTES_REMAT)

    def call(state: nnx.State, parts: tuple[jax.Array, ...], condition: jax.Array) -> jax.Array:
        gathered = nnx.merge(graphdef, placement.all_gather_params(state))
        return gathered(jnp.concatenate(parts, axis=-1), condition, budget)

    if remat != "none":
        call = jax.checkpoint(call, policy=REMAT[remat])
    return call(state, parts, condition)


def map_chunks(
    block: nnx.Module, x: jax.Array, condition: jax.Array, widest: float, budget: int | None
) -> jax.Array:
    """Call `block(x, condition)`, which sees each of M in `x` `[B, M, ...]` alone, part by part.

    What lies between the block's input and output, in the backward pass above all, is then that of
    one part, but for attention's results. Weights' gradients are summed over parts in fp32.

    Args:
        block: keeps the shape of `x` but for its last axis.
        widest: channels of the widest value within, for each of the input's.
        budget: bytes of that value in a part; None calls the block once.
    """
    count = 1 if budget is None else _count_chunks(x, widest, budget)
    if count == 1:
        return block(x, condition)
    graphdef, state = nnx.split(block)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)

    def one(part: jax.Array) -> jax.Array:
        narrow = jax.tree.map(lambda leaf, kept: leaf.astype(kept.dtype), wide, state)
        return nnx.merge(graphdef, narrow)(part, condition)

    # Every so many of M, not one run of them: each part then has a share on every device.
    parts = x.reshape(x.shape[0], -1, count, *x.shape[2:])
    one = jax.checkpoint(one, policy=REMAT["attention"])
    out = jax.lax.map(one, jnp.moveaxis(parts, 2, 0))  # [count, B, M/count, ...]
    return jnp.moveaxis(out, 0, 2).reshape(*x.shape[:-1], -1)


def _count_chunks(x: jax.Array, widest: float, budget: int) -> int:
    """Return the smallest divisor of M that cuts the widest value into parts within the budget."""
    size = widest * x.size * x.dtype.itemsize / placement.num_devices()
    length, split = x.shape[1], placement.num_frame_shards()
    # Prefer parts that divide evenly over the devices, if the full length does.
    whole = [n for n in range(1, length + 1) if length % n == 0]
    whole = [n for n in whole if length // n % split == 0 or length % split]
    return next((n for n in whole if size / n <= budget), whole[-1])
