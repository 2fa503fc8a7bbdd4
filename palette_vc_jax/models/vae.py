"""SVD's VAE: Stable Diffusion's encoder and a decoder with temporal layers.

Sources: diffusers `models/autoencoders/autoencoder_kl_temporal_decoder.py`, `vae.py`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palette_vc_jax.models.attention import attention
from palette_vc_jax.models.config import VAEConfig
from palette_vc_jax.models.layers import (
    Downsample,
    GroupNorm,
    Linear,
    SpatialResBlock,
    SpatioTemporalResBlock,
    TemporalConv,
    Upsample,
    conv,
)

ResBlock = SpatialResBlock | SpatioTemporalResBlock

EPS = 1e-6  # of every norm but the decoder's temporal ones
TEMPORAL_EPS = 1e-5


def same_frame(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Start a temporal convolution `[3, 1, 1, C, C]` as one that passes every frame through."""
    return jnp.zeros(shape, dtype).at[1, 0, 0].set(jnp.eye(shape[-1], dtype=dtype))


class FrameAttention(nnx.Module):
    """One-head attention over a frame's pixels, with its norm and residual connection."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.group_norm = GroupNorm(groups, channels, EPS)
        self.to_q = Linear(channels, channels, rngs=rngs)
        self.to_k = Linear(channels, channels, rngs=rngs)
        self.to_v = Linear(channels, channels, rngs=rngs)
        self.to_out = nnx.List([Linear(channels, channels, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Attend within each frame of `[B, T, h, w, C]`."""
        tokens = self.group_norm(x).reshape(-1, x.shape[2] * x.shape[3], x.shape[4])
        parts = [proj(tokens) for proj in (self.to_q, self.to_k, self.to_v)]  # [B*T, S, C]
        out = attention(*(part[:, :, None] for part in parts)).reshape(tokens.shape)
        return x + self.to_out[0](out).reshape(x.shape)


class Block(nnx.Module):
    """One resolution of the encoder or decoder; it lacks the lists that would be empty."""

    def __init__(
        self,
        resnets: Sequence[ResBlock],
        *,
        attentions: Sequence[FrameAttention] = (),
        downsamplers: Sequence[Downsample] = (),
        upsamplers: Sequence[Upsample] = (),
    ):
        self.resnets = nnx.List(resnets)
        if attentions:
            self.attentions = nnx.List(attentions)
        if downsamplers:
            self.downsamplers = nnx.List(downsamplers)
        if upsamplers:
            self.upsamplers = nnx.List(upsamplers)


def _middle(
    res_block: Callable[[int, int], ResBlock], channels: int, groups: int, rngs: nnx.Rngs
) -> Block:
    resnets = [res_block(channels, channels) for _ in range(2)]
    return Block(resnets, attentions=[FrameAttention(channels, groups, rngs=rngs)])


def _through_middle(block: Block, x: jax.Array) -> jax.Array:
    return block.resnets[1](block.attentions[0](block.resnets[0](x)))


class Encoder(nnx.Module):
    """Frames to the mean and log variance of their latents, before `quant_conv`."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels, config.norm_groups

        def res_block(inputs: int, outputs: int) -> SpatialResBlock:
            return SpatialResBlock(inputs, outputs, 0, groups, EPS, rngs=rngs)

        self.conv_in = conv(3, widths[0], rngs=rngs)
        blocks, before = [], widths[0]
        for index, width in enumerate(widths):
            inputs = [before] + [width] * (config.layers_per_block - 1)
            resnets = [res_block(i, width) for i in inputs]
            last = index == len(widths) - 1
            # Unlike the UNet's: padded after the last row and column only.
            downsamplers = [] if last else [Downsample(width, (0, 1), rngs=rngs)]
            blocks.append(Block(resnets, downsamplers=downsamplers))
            before = width
        self.down_blocks = nnx.List(blocks)
        self.mid_block = _middle(res_block, widths[-1], groups, rngs)
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = conv(widths[-1], 2 * config.latent_channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv_in(x)
        for block in self.down_blocks:
            for resnet in block.resnets:
                x = resnet(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
        x = _through_middle(self.mid_block, x)
        return self.conv_out(nnx.silu(self.conv_norm_out(x)))


class TemporalDecoder(nnx.Module):
    """Latents to frames, with residual blocks that mix neighboring frames."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels[::-1], config.norm_groups

        def res_block(inputs: int, outputs: int) -> SpatioTemporalResBlock:
            return SpatioTemporalResBlock(inputs, outputs, 0, groups, EPS, TEMPORAL_EPS, rngs=rngs)

        self.conv_in = conv(config.latent_channels, widths[0], rngs=rngs)
        self.mid_block = _middle(res_block, widths[0], groups, rngs)
        blocks, before = [], widths[0]
        for index, width in enumerate(widths):
            inputs = [before] + [width] * config.layers_per_block
            resnets = [res_block(i, width) for i in inputs]
            upsamplers = [] if index == len(widths) - 1 else [Upsample(width, rngs=rngs)]
            blocks.append(Block(resnets, upsamplers=upsamplers))
            before = width
        self.up_blocks = nnx.List(blocks)
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = conv(widths[-1], 3, rngs=rngs)
        self.time_conv_out = TemporalConv(3, 3, same_frame, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = _through_middle(self.mid_block, self.conv_in(x))
        for block in self.up_blocks:
            for resnet in block.resnets:
                x = resnet(x)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        x = self.conv_out(nnx.silu(self.conv_norm_out(x)))
        return self.time_conv_out(x)


class VAE(nnx.Module):
    """Encoder, its 1x1 convolution, and the temporal decoder."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.quant_conv = conv(2 * config.latent_channels, 2 * config.latent_channels, 1, rngs=rngs)
        self.decoder = TemporalDecoder(config, rngs=rngs)

    def encode(self, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Encode frames `[B, T, H, W, 3]` in [-1, 1], each alone.

        Returns the mean and log variance of the unscaled latents, `[B, T, h, w, C]` each; the
        mean is the mode that conditions are made of.
        """
        moments = self.quant_conv(self.encoder(frames))
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(log_variance, -30.0, 20.0)

    def decode(self, latents: jax.Array) -> jax.Array:
        """Decode unscaled latents `[B, T, h, w, C]` to frames `[B, T, H, W, 3]`, about [-1, 1].

        The frames of one clip depend on each other, and the clip's ends are padded with zeros.
        """
        return self.decoder(latents)
