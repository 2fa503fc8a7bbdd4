"""SVD's VAE: Stable Diffusion's encoder and a decoder with temporal layers.

Sources: diffusers `models/autoencoders/autoencoder_kl_temporal_decoder.py`, `vae.py`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from palette_vc_jax.models.config import VAEConfig
from palette_vc_jax.models.layers import (
    Downsample,
    GroupNorm,
    SpatialResBlock,
    SpatioTemporalResBlock,
    TemporalConv,
    Upsample,
    conv,
)
from palette_vc_jax.models.transformer import Attention

EPS = 1e-6  # of every norm but the decoder's temporal ones
TEMPORAL_EPS = 1e-5


def same_frame(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Start a temporal convolution `[3, 1, 1, C, C]` as one that passes every frame through."""
    return jnp.zeros(shape, dtype).at[1, 0, 0].set(jnp.eye(shape[-1], dtype=dtype))


class FrameAttention(Attention):
    """One-head attention over a frame's pixels, with its norm and residual connection."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        super().__init__(channels, heads=1, qkv_bias=True, rngs=rngs)
        self.group_norm = GroupNorm(groups, channels, EPS)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Attend within each frame of `[B, T, h, w, C]`."""
        tokens = self.group_norm(x).reshape(-1, x.shape[2] * x.shape[3], x.shape[4])
        return x + super().__call__(tokens).reshape(x.shape)


class Block(nnx.Module):
    """A holder of named lists: one resolution of the encoder or decoder."""


def _middle(res_block, channels: int, groups: int, rngs: nnx.Rngs) -> Block:
    block = Block()
    block.resnets = nnx.List([res_block(channels, channels) for _ in range(2)])
    block.attentions = nnx.List([FrameAttention(channels, groups, rngs=rngs)])
    return block


def _through_middle(block: Block, x: jax.Array) -> jax.Array:
    return block.resnets[1](block.attentions[0](block.resnets[0](x)))


class Encoder(nnx.Module):
    """Frames to the mean and log variance of their latents, before `quant_conv`."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels, config.norm_groups

        def res_block(inputs, outputs):
            return SpatialResBlock(inputs, outputs, 0, groups, EPS, rngs=rngs)

        self.conv_in = conv(3, widths[0], rngs=rngs)
        blocks, before = [], widths[0]
        for index, width in enumerate(widths):
            block = Block()
            inputs = [before] + [width] * (config.layers_per_block - 1)
            block.resnets = nnx.List([res_block(i, width) for i in inputs])
            if index < len(widths) - 1:
                # Unlike the UNet's: padded after the last row and column only.
                block.downsamplers = nnx.List([Downsample(width, (0, 1), rngs=rngs)])
            blocks.append(block)
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

        def res_block(inputs, outputs):
            return SpatioTemporalResBlock(inputs, outputs, 0, groups, EPS, TEMPORAL_EPS, rngs=rngs)

        self.conv_in = conv(config.latent_channels, widths[0], rngs=rngs)
        self.mid_block = _middle(res_block, widths[0], groups, rngs)
        blocks, before = [], widths[0]
        for index, width in enumerate(widths):
            block = Block()
            inputs = [before] + [width] * config.layers_per_block
            block.resnets = nnx.List([res_block(i, width) for i in inputs])
            if index < len(widths) - 1:
                block.upsamplers = nnx.List([Upsample(width, rngs=rngs)])
            blocks.append(block)
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
