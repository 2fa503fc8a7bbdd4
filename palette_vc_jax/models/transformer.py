"""The spatiotemporal transformer of the UNet.

Sources: diffusers `models/transformers/transformer_temporal.py`, `models/attention.py`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from palette_vc_jax.models.attention import attention
from palette_vc_jax.models.layers import (
    ZEROS,
    AlphaBlender,
    GroupNorm,
    LayerNorm,
    Linear,
    TimestepEmbedding,
    gelu,
    sinusoid,
)
from palette_vc_jax.models.memory import map_chunks
from palette_vc_jax.parallel import placement

FF_EXPANSION = 8  # channels within a feed-forward for each of its input


class Attention(nnx.Module):
    """Multi-head attention; `context_width` is the channels of keys and values."""

    def __init__(
        self, channels: int, heads: int, context_width: int | None = None, *, rngs: nnx.Rngs
    ):
        context_width = context_width or channels
        self.to_q = Linear(channels, channels, use_bias=False, rngs=rngs)
        self.to_k = Linear(context_width, channels, use_bias=False, rngs=rngs)
        self.to_v = Linear(context_width, channels, use_bias=False, rngs=rngs)
        self.to_out = nnx.List([Linear(channels, channels, rngs=rngs)])
        self.heads = heads

    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """Attend from tokens `[..., S, C]` to `context` `[..., L, D]` (default: to themselves)."""
        context = x if context is None else context
        if context.shape[-2] == 1:
            # The softmax over one key is 1: the query has no say.
            return self.to_out[0](self.to_v(context))  # [..., 1, C]
        split = lambda y: y.reshape(*y.shape[:-1], self.heads, -1)  # noqa: E731
        out = attention(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out[0](out.reshape(x.shape))


class GEGLU(nnx.Module):
    """Project to twice the width; the first half is the value, the second its gate."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.proj = Linear(inputs, 2 * outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        value, gate = jnp.split(self.proj(x), 2, axis=-1)
        return value * gelu(gate)


class Dropout(nnx.Module):
    """Nothing: it holds index 1 of `net`, where torch has a dropout of rate 0."""


class FeedForward(nnx.Module):
    """GEGLU of four times the width, then back."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.net = nnx.List(
            [
                GEGLU(channels, 4 * channels, rngs=rngs),
                Dropout(),
                Linear(4 * channels, channels, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.net[2](self.net[0](x))


class SpatialBlock(nnx.Module):
    """Attention within a frame, to the image embedding, and a feed-forward."""

    def __init__(self, channels: int, heads: int, context_width: int, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(channels)
        self.attn1 = Attention(channels, heads, rngs=rngs)
        self.norm2 = LayerNorm(channels)
        self.attn2 = Attention(channels, heads, context_width, rngs=rngs)
        self.norm3 = LayerNorm(channels)
        self.ff = FeedForward(channels, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Transform tokens `[B, T, S, C]` with a context `[B, L, D]` that all frames share."""
        x = x + self.attn1(self.norm1(x))
        x = x + _cross(self.attn2, self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class TemporalBlock(nnx.Module):
    """Attention along time at every position, to the image embedding, and feed-forwards."""

    def __init__(self, channels: int, heads: int, context_width: int, *, rngs: nnx.Rngs):
        self.norm_in = LayerNorm(channels)
        self.ff_in = FeedForward(channels, rngs=rngs)
        self.norm1 = LayerNorm(channels)
        self.attn1 = Attention(channels, heads, rngs=rngs)
        self.norm2 = LayerNorm(channels)
        self.attn2 = Attention(channels, heads, context_width, rngs=rngs)
        self.norm3 = LayerNorm(channels)
        self.ff = FeedForward(channels, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Transform tokens `[B, S, T, C]` with a context `[B, L, D]` that all positions share."""
        x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x))
        x = x + _cross(self.attn2, self.norm2(x), context)
        return x + self.ff(self.norm3(x))


def _cross(layer: Attention, x: jax.Array, context: jax.Array) -> jax.Array:
    # Every token of a sample sees the same context, so frames and positions are one long axis.
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    out = layer(tokens, context)  # [B, T*S, C], or [B, 1, C] for one context token
    return out.reshape(x.shape) if out.shape == tokens.shape else out[:, None]


class SpatioTemporalTransformer(nnx.Module):
    """A spatial and a temporal transformer block, blended, around a residual connection."""

    def __init__(
        self, channels: int, heads: int, context_width: int, groups: int, *, rngs: nnx.Rngs
    ):
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nnx.Linear(channels, channels, rngs=rngs)
        self.transformer_blocks = nnx.List(
            [SpatialBlock(channels, heads, context_width, rngs=rngs)]
        )
        self.temporal_transformer_blocks = nnx.List(
            [TemporalBlock(channels, heads, context_width, rngs=rngs)]
        )
        self.time_pos_embed = TimestepEmbedding(channels, 4 * channels, channels, rngs=rngs)
        self.time_mixer = AlphaBlender(switched=False)
        self.proj_out = nnx.Linear(channels, channels, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Transform `[B, T, h, w, C]` with the image embedding `[B, L, D]`."""
        batch, frames, _, _, channels = x.shape
        tokens = self.proj_in(self.norm(x).reshape(batch, frames, -1, channels))  # [B, T, S, C]
        blocks = self.transformer_blocks[0], self.temporal_transformer_blocks[0]
        spatial = map_chunks(blocks[0], placement.shard_axis1(tokens), context, FF_EXPANSION)
        # Frame positions enter the temporal branch alone and count from the window's start.
        positions = sinusoid(jnp.arange(frames), channels).astype(x.dtype)
        positions = self.time_pos_embed(positions)[None, :, None]  # [1, T, 1, C]
        temporal = placement.shard_axis1((spatial + positions).swapaxes(1, 2))  # [B, S, T, C]
        temporal = map_chunks(blocks[1], temporal, context, FF_EXPANSION).swapaxes(1, 2)
        mixed = self.time_mixer(spatial, placement.shard_axis1(temporal))
        return x + self.proj_out(mixed).reshape(x.shape)
