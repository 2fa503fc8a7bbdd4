"""SVD's spatiotemporal UNet with the palette added after its first convolution.

Sources: diffusers `models/unets/unet_spatio_temporal_condition.py`, `unet_3d_blocks.py`; the
palette layer is equations 3 and 4 of 'Consistent Video Colorization via Palette Guidance'.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palette_vc_jax.models.config import UNetConfig
from palette_vc_jax.models.layers import (
    ZEROS,
    Downsample,
    GroupNorm,
    SpatioTemporalResBlock,
    TimestepEmbedding,
    Upsample,
    conv,
    sinusoid,
)
from palette_vc_jax.models.memory import call_block
from palette_vc_jax.models.transformer import SpatioTemporalTransformer


class Level(nnx.Module):
    """Residual blocks of one resolution, each with a transformer if the level has attention."""

    def __init__(
        self,
        widths: Sequence[tuple[int, int]],
        heads: int,
        time_width: int,
        eps: float,
        transformers: int,
        config: UNetConfig,
        *,
        downsamples: bool = False,
        upsamples: bool = False,
        rngs: nnx.Rngs,
    ):
        """Make the layers.

        Args:
            widths: (inputs, outputs) of each residual block.
            heads: attention heads of each transformer.
            time_width: channels of the time embedding.
            eps: epsilon of the residual blocks' norms.
            transformers: number of transformers, each behind one of the first residual blocks. The
                middle has two residual blocks and one transformer between them.
            config: config of the UNet.
            downsamples: halve the picture at the end.
            upsamples: double the picture at the end.
            rngs: keys for random weights.
        """
        groups = config.norm_groups
        self.resnets = nnx.List(
            [SpatioTemporalResBlock(i, o, time_width, groups, eps, rngs=rngs) for i, o in widths]
        )
        if transformers:
            self.attentions = nnx.List(
                [
                    SpatioTemporalTransformer(
                        width, heads, config.cross_attention_dim, groups, rngs=rngs
                    )
                    for _, width in widths[:transformers]
                ]
            )
        if downsamples:
            self.downsamplers = nnx.List([Downsample(widths[-1][1], (1, 1), rngs=rngs)])
        if upsamples:
            self.upsamplers = nnx.List([Upsample(widths[-1][1], rngs=rngs)])

    def layer(
        self,
        index: int,
        x: jax.Array,
        time: jax.Array,
        context: jax.Array,
        skip: jax.Array | None = None,
    ) -> jax.Array:
        """Apply residual block `index` and the transformer behind it, if there is one.

        On the way up the block's input is `x` and the `skip` beside it.
        """
        parts = (x,) if skip is None else (x, skip)
        x = call_block(self.resnets[index], parts, time)
        if hasattr(self, "attentions") and index < len(self.attentions):
            x = call_block(self.attentions[index], (x,), context)
        return x


class UNet(nnx.Module):
    """Predict v from noisy and gray latents, the image embedding and the palette."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        widths = config.block_out_channels
        first, time_width = widths[0], 4 * widths[0]
        self.conv_in = conv(2 * config.latent_channels, first, rngs=rngs)
        # Zeros: a converted SVD starts out exactly as it was.
        self.palette_embedding = nnx.Linear(
            3 * config.palette_colors,
            first,
            kernel_init=ZEROS,
            rngs=rngs,
        )
        self.time_embedding = TimestepEmbedding(first, time_width, time_width, rngs=rngs)
        self.add_embedding = TimestepEmbedding(
            3 * config.addition_time_embed_dim, time_width, time_width, rngs=rngs
        )
        self.down_blocks = nnx.List(_down_levels(config, time_width, rngs))
        self.mid_block = Level(
            [(widths[-1], widths[-1])] * 2,
            config.num_attention_heads[-1],
            time_width,
            config.deep_norm_eps,
            1,
            config,
            rngs=rngs,
        )
        self.up_blocks = nnx.List(_up_levels(config, time_width, rngs))
        self.conv_norm_out = GroupNorm(config.norm_groups, first, eps=1e-5)
        self.conv_out = conv(first, config.latent_channels, kernel_init=ZEROS, rngs=rngs)
        self.config = config

    def __call__(
        self,
        sample: jax.Array,
        c_noise: jax.Array,
        context: jax.Array,
        added_time_ids: jax.Array,
        palette: jax.Array,
        palette_mask: jax.Array,
        regions: jax.Array | None = None,
    ) -> jax.Array:
        """Run one forward pass, in the type of `sample` (norms and softmax in fp32).

        Args:
            sample: `[B, T, h, w, 2C]`, noisy latents times c_in, then unscaled gray latents;
                h and w are multiples of 2^(levels - 1).
            c_noise: `[B]`, 0.25 ln sigma.
            context: `[B, L, D]`, image embedding (SVD: L = 1).
            added_time_ids: `[B, 3]`, fps - 1, motion bucket, noise augmentation.
            palette: `[B, 15]`, five sRGB colors in [-1, 1], dark to light; with `regions`,
                `[B, R, 15]`, one of each region.
            palette_mask: `[B]`, with `regions` `[B, R]`; 1 to use a palette, 0 for the null one.
            regions: `[B, T, h, w, R]`, the share of each region in a latent pixel; the shares of
                a pixel sum to 1. None: one region covers everything, as in the paper.

        Returns:
            `[B, T, h, w, C]`, the velocity v.
        """
        time = self._embed_time(c_noise, added_time_ids, sample.dtype)
        x = self.conv_in(sample)
        x = x + self._embed_palette(palette.astype(x.dtype), palette_mask.astype(x.dtype), regions)

        skips = [x]
        for block in self.down_blocks:
            for index in range(len(block.resnets)):
                x = block.layer(index, x, time, context)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)

        for index in range(len(self.mid_block.resnets)):
            x = self.mid_block.layer(index, x, time, context)

        for block in self.up_blocks:
            for index in range(len(block.resnets)):
                x = block.layer(index, x, time, context, skips.pop())
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)

        return self.conv_out(nnx.silu(self.conv_norm_out(x)))

    def _embed_palette(
        self, palette: jax.Array, palette_mask: jax.Array, regions: jax.Array | None
    ) -> jax.Array:
        """Return the palette's map `[B, T, h, w, C]`, or `[B, 1, 1, 1, C]` without regions.

        Equation 4 of the paper broadcasts one palette; regions replace it by a sum over regions.
        """
        # The mask covers weight and bias, so that mid-gray (zeros) and no palette differ.
        colors = palette_mask[..., None] * self.palette_embedding(palette)  # [B, (R,) C]
        if regions is None:
            return colors[:, None, None, None]
        return jnp.einsum("bthwr,brc->bthwc", regions.astype(colors.dtype), colors)

    def _embed_time(
        self, c_noise: jax.Array, added_time_ids: jax.Array, dtype: DTypeLike
    ) -> jax.Array:
        noise = sinusoid(c_noise, self.config.block_out_channels[0]).astype(dtype)
        added = sinusoid(added_time_ids, self.config.addition_time_embed_dim)  # [B, 3, width]
        added = added.reshape(added.shape[0], -1).astype(dtype)
        return self.time_embedding(noise) + self.add_embedding(added)


def _down_levels(config: UNetConfig, time_width: int, rngs: nnx.Rngs) -> list[Level]:
    levels = []
    widths = config.block_out_channels
    for index, width in enumerate(widths):
        before = widths[max(index - 1, 0)]
        attends = config.attention[index]
        level = Level(
            [(before, width)] + [(width, width)] * (config.layers_per_block - 1),
            config.num_attention_heads[index],
            time_width,
            config.norm_eps if attends else config.deep_norm_eps,
            config.layers_per_block if attends else 0,
            config,
            downsamples=index < len(widths) - 1,
            rngs=rngs,
        )
        levels.append(level)
    return levels


def _up_levels(config: UNetConfig, time_width: int, rngs: nnx.Rngs) -> list[Level]:
    levels = []
    widths = config.block_out_channels
    # The way down pushed these widths; the way up pops them from the end.
    skips = [widths[0]]
    for index, width in enumerate(widths):
        skips += [width] * (config.layers_per_block + (index < len(widths) - 1))
    x = widths[-1]
    for index in reversed(range(len(widths))):
        pairs = []
        for _ in range(config.layers_per_block + 1):
            pairs.append((x + skips.pop(), widths[index]))
            x = widths[index]
        level = Level(
            pairs,
            config.num_attention_heads[index],
            time_width,
            config.norm_eps,
            len(pairs) if config.attention[index] else 0,
            config,
            upsamples=index > 0,
            rngs=rngs,
        )
        levels.append(level)
    return levels
