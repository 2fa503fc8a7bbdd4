"""The one entry to attention: it alone decides how the softmax is computed.

Logits of a whole spatial layer at 1024x576 (9216 x 9216 a head and frame) do not fit any device,
so beyond a budget the queries are taken in chunks, each against all keys.
"""

import jax
import jax.numpy as jnp

LOGITS_BUDGET = 2**28  # bytes of fp32 logits held at once; above it, queries go in chunks


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attend: softmax(q k^T / sqrt(D)) v, with the softmax in fp32.

    Args:
        query: `[B, S, N, D]`.
        key, value: `[B, L, N, D]`.

    Returns:
        `[B, S, N, D]`, in the query's type.
    """
    batch, length, heads, _ = query.shape
    row_bytes = 4 * batch * heads * key.shape[1]
    if length * row_bytes <= LOGITS_BUDGET:
        return plain_attention(query, key, value)
    return chunked_attention(query, key, value, max(1, LOGITS_BUDGET // row_bytes))


def plain_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attend with all logits in memory; shapes as in `attention`."""
    scale = query.shape[-1] ** -0.5
    logits = jnp.einsum("bsnd,blnd->bnsl", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * scale, axis=-1).astype(value.dtype)
    return jnp.einsum("bnsl,blnd->bsnd", weights, value)


def chunked_attention(query: jax.Array, key: jax.Array, value: jax.Array, chunk: int) -> jax.Array:
    """Attend `chunk` queries at a time; shapes as in `attention`, any chunk from 1 up.

    The backward pass computes each chunk's logits again instead of keeping them.
    """
    batch, length, heads, size = query.shape
    chunk = min(chunk, length)
    count = -(-length // chunk)
    padded = jnp.pad(query, [(0, 0), (0, count * chunk - length), (0, 0), (0, 0)])
    chunks = padded.reshape(batch, count, chunk, heads, size).swapaxes(0, 1)
    attend = jax.checkpoint(lambda part: plain_attention(part, key, value))
    out = jax.lax.map(attend, chunks)  # [count, B, chunk, N, D]
    return out.swapaxes(0, 1).reshape(batch, count * chunk, heads, size)[:, :length]
