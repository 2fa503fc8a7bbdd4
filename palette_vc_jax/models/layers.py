"""Norms, temporal convolution, sinusoids and residual blocks shared by the UNet and the VAE.

Pictures are `[B, T, H, W, C]` throughout. Spatial layers see every frame alone, temporal layers
mix the frames of one clip. Sources: diffusers `models/resnet.py`, `models/embeddings.py`.

Where a model starts from random weights, the last layer of every residual branch starts at zero
(`ZEROS`), and layers that change the picture's size start as plain resampling (`resampling`): the
network passes pictures through at first, and small models train in fewer steps.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palette_vc_jax.models.memory import map_chunks
from palette_vc_jax.parallel import placement

LECUN = nnx.initializers.lecun_normal()
ZEROS = nnx.initializers.zeros_init()
FP32_NORM = 2.0  # width of a norm's float32 values, for each of its bfloat16 input


def resampling(taps: slice) -> Callable[..., jax.Array]:
    """Make an initializer `[3, 3, C, C]` that averages each channel over `taps` in both axes."""

    def initialize(
        key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, **_: Any
    ) -> jax.Array:
        count = len(range(3)[taps]) ** 2
        return jnp.zeros(shape, dtype).at[taps, taps].set(jnp.eye(shape[-1], dtype=dtype) / count)

    return initialize


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """Return the exact GELU, x Phi(x), computed in fp32 whatever the input's type.

    `jax.nn.gelu` computes both branches of erfc, which takes a GPU twice as long as reading and
    writing the values, and rounds sqrt(1/2) to the input's type.
    """
    y = x.astype(jnp.float32)
    return (y * _normal_cdf(y)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Keep one value of the input's type for the backward pass, not several in fp32."""
    (x,), (dx,) = primals, tangents
    y = x.astype(jnp.float32)
    slope = _normal_cdf(y) + y * jnp.exp(-0.5 * y * y) * (2.0 * math.pi) ** -0.5
    return gelu(x), slope.astype(x.dtype) * dx


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


class Linear(nnx.Linear):
    """A linear layer, which may be given an update of low rank: x W + (x A) B.

    `functional.build` sets `lora_a` `[in, rank]` and `lora_b` `[rank, out]` where parameters have
    them beside the kernel. The product A B is never formed, nor a gradient of its size.
    """

    lora_a: nnx.Param
    lora_b: nnx.Param

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]  # no out_sharding
        out = super().__call__(x)
        if hasattr(self, "lora_a"):
            out = out + (x @ self.lora_a[...]) @ self.lora_b[...]
        return out


class LayerNorm(nnx.Module):
    """Normalize the last axis, in fp32 whatever the input's type."""

    def __init__(self, channels: int, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        centered = y - y.mean(-1, keepdims=True)
        variance = jnp.square(centered).mean(-1, keepdims=True)
        y = centered * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]
        return y.astype(x.dtype)


class GroupNorm(nnx.Module):
    """Normalize groups of neighboring channels, in fp32 whatever the input's type.

    `lead` counts the leading axes that keep statistics of their own: 2 for a frame at a time
    (`[B, T, ...]`), 1 to pool over all frames of a clip, as temporal blocks do.
    """

    def __init__(self, groups: int, channels: int, eps: float, lead: int = 2):
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into {groups} norm groups.")
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.groups, self.eps, self.lead = groups, eps, lead

    def __call__(self, x: jax.Array) -> jax.Array:
        lead = x.shape[: self.lead]
        y = x.astype(jnp.float32).reshape(*lead, -1, x.shape[-1])  # [..., S, C]
        centered = y - self._pool(y)
        variance = self._pool(jnp.square(centered))
        y = centered * (jax.lax.rsqrt(variance + self.eps) * self.scale[...]) + self.bias[...]
        return y.reshape(x.shape).astype(x.dtype)

    def _pool(self, y: jax.Array) -> jax.Array:
        # Positions first, channels of a group second: the long axis is reduced over full rows.
        channels = y.mean(-2, keepdims=True)  # [..., 1, C]
        groups = channels.reshape(*channels.shape[:-1], self.groups, -1).mean(-1)  # [..., 1, G]
        return jnp.repeat(groups, y.shape[-1] // self.groups, axis=-1)


class TemporalConv(nnx.Module):
    """Convolve over frames with a kernel of three and zeros beyond the clip's ends.

    The same as torch's Conv3d with kernel (3, 1, 1).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_init: nnx.Initializer = LECUN,
        *,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 1, 1, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        over_frames = OVER_FRAMES.get(placement.platform(), _product)
        return over_frames(x, self.kernel[...][:, 0, 0]) + self.bias[...]


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve `[B, T, H, W, C]` over frames: one product over the channels of three frames."""
    padded = jnp.pad(x, [(0, 0), (1, 1), (0, 0), (0, 0), (0, 0)])
    taps = jnp.concatenate([padded[:, :-2], x, padded[:, 2:]], axis=-1)  # [B, T, H, W, 3C]
    return taps @ kernel.reshape(taps.shape[-1], -1)


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the same by a convolution of `[B, T, HW, C]`, which reads each frame once."""
    places = x.reshape(*x.shape[:2], -1, x.shape[-1])
    out = _convolve(places, kernel[:, None], ((1, 1), (0, 0)))
    return out.reshape(*x.shape[:-1], -1)


def _convolve(
    x: jax.Array, kernel: jax.Array, border: tuple[tuple[int, int], tuple[int, int]]
) -> jax.Array:
    """Convolve `[N, H, W, C]` with a kernel `[h, w, C, D]`, with zeros at the border."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), border, dimension_numbers=layout)


@jax.custom_vjp
def _fast_on_cpus(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _convolution(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolution(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, ...]:
    return jax.vjp(_product, *saved)[1](slope)


_fast_on_cpus.defvjp(_forward, _backward)

# What is faster than `_product`. On a CPU the convolution takes a third of the product's time, but
# its gradients take three times as long as those of the product.
OVER_FRAMES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cpu": _fast_on_cpus,
    "gpu": _convolution,
}


def conv(inputs: int, outputs: int, size: int = 3, *, rngs: nnx.Rngs, **options: Any) -> nnx.Conv:
    """Make a 2-D convolution that keeps the picture's size unless `options` say otherwise."""
    border = size // 2
    options = {"padding": ((border, border), (border, border))} | options
    return nnx.Conv(inputs, outputs, (size, size), rngs=rngs, **options)


def sinusoid(values: jax.Array, width: int) -> jax.Array:
    """Embed numbers as `[..., width]` cosines, then sines, of falling frequency, in fp32.

    f_i = 10000^(-i / (width / 2)) (diffusers `get_timestep_embedding`, flip_sin_to_cos, shift 0).
    """
    half = width // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = values.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepEmbedding(nnx.Module):
    """Two linear layers with a SiLU between."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, rngs: nnx.Rngs):
        self.linear_1 = nnx.Linear(inputs, hidden, rngs=rngs)
        self.linear_2 = nnx.Linear(hidden, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear_2(nnx.silu(self.linear_1(x)))


class SpatialResBlock(nnx.Module):
    """Residual block on single frames; adds the time embedding's projection between its convs."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        time_width: int,
        groups: int,
        eps: float,
        *,
        rngs: nnx.Rngs,
    ):
        self.norm1 = GroupNorm(groups, inputs, eps)
        self.conv1 = conv(inputs, outputs, rngs=rngs)
        if time_width:
            self.time_emb_proj = nnx.Linear(time_width, outputs, rngs=rngs)
        self.norm2 = GroupNorm(groups, outputs, eps)
        self.conv2 = conv(outputs, outputs, kernel_init=ZEROS, rngs=rngs)
        if inputs != outputs:
            self.conv_shortcut = conv(inputs, outputs, 1, rngs=rngs)

    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        h = self.conv1(nnx.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(nnx.silu(time))[:, None, None, None]
        h = self.conv2(nnx.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class TemporalResBlock(nnx.Module):
    """The same chain over frames: temporal convs, norms pooled over the whole clip."""

    def __init__(self, channels: int, time_width: int, groups: int, eps: float, *, rngs: nnx.Rngs):
        self.norm1 = GroupNorm(groups, channels, eps, lead=1)
        self.conv1 = TemporalConv(channels, channels, rngs=rngs)
        if time_width:
            self.time_emb_proj = nnx.Linear(time_width, channels, rngs=rngs)
        self.norm2 = GroupNorm(groups, channels, eps, lead=1)
        self.conv2 = TemporalConv(channels, channels, ZEROS, rngs=rngs)

    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        h = self.conv1(nnx.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(nnx.silu(time))[:, None, None, None]
        return x + self.conv2(nnx.silu(self.norm2(h)))


class AlphaBlender(nnx.Module):
    """Mix a spatial and a temporal branch by one learned number.

    `switched` is the VAE decoder's convention: there sigmoid(mix_factor) weighs the temporal
    branch, in the UNet it weighs the spatial one (diffusers `AlphaBlender`).
    """

    def __init__(self, *, switched: bool):
        self.mix_factor = nnx.Param(jnp.full((1,), 0.0 if switched else 0.5))
        self.switched = switched

    def __call__(self, spatial: jax.Array, temporal: jax.Array) -> jax.Array:
        weight = jax.nn.sigmoid(self.mix_factor[...])
        weight = (1.0 - weight if self.switched else weight).astype(spatial.dtype)
        return weight * spatial + (1.0 - weight) * temporal


class SpatioTemporalResBlock(nnx.Module):
    """A spatial and a temporal residual block, blended.

    `time_width` 0 leaves the time embedding out and switches the blender: the VAE's form.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        time_width: int,
        groups: int,
        eps: float,
        temporal_eps: float | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        temporal_eps = eps if temporal_eps is None else temporal_eps
        self.spatial_res_block = SpatialResBlock(
            inputs, outputs, time_width, groups, eps, rngs=rngs
        )
        self.temporal_res_block = TemporalResBlock(
            outputs, time_width, groups, temporal_eps, rngs=rngs
        )
        self.time_mixer = AlphaBlender(switched=not time_width)

    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        """Transform `[B, T, h, w, C]`."""
        x = map_chunks(self.spatial_res_block, placement.shard_axis1(x), time, FP32_NORM)
        temporal = self.temporal_res_block(placement.shard_columns(x), time)
        return self.time_mixer(x, placement.shard_axis1(temporal))


class Downsample(nnx.Module):
    """Halve a picture with a strided convolution; `padding` is that of (before, after)."""

    def __init__(self, channels: int, padding: tuple[int, int], *, rngs: nnx.Rngs):
        # The taps that fall on the pixels 2i and 2i + 1 of output i.
        taps = slice(padding[0], padding[0] + 2)
        self.conv = conv(
            channels,
            channels,
            strides=2,
            padding=(padding, padding),
            kernel_init=resampling(taps),
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class Upsample(nnx.Module):
    """Double a picture by repetition, then convolve."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, kernel_init=resampling(slice(1, 2)), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        if placement.platform() == "cpu" and self.conv.bias is not None:
            return _doubled(x, self.conv.kernel[...]) + self.conv.bias[...]
        return self.conv(jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2))


def _doubled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve the repeated pixels of `[..., H, W, C]` with a kernel of 3x3, by four of 2x2.

    Four convolutions of the picture itself take 4/9 of the operations, and on a CPU 0.6 of the time
    (docs/benchmarks.md). Other devices were not measured.
    """
    rows = _halves(kernel.astype(jnp.float32), 0)
    folded = [[half.astype(x.dtype) for half in _halves(row, 1)] for row in rows]
    pixels = x.reshape(-1, *x.shape[-3:])

    def copy(row: int, column: int) -> jax.Array:
        return _convolve(pixels, folded[row][column], ((1 - row, row), (1 - column, column)))

    parts = [jnp.stack([copy(row, 0), copy(row, 1)], axis=3) for row in range(2)]
    out = jnp.stack(parts, axis=2)  # [N, H, 2, W, 2, C]
    height, width = x.shape[-3:-1]
    return out.reshape(*x.shape[:-3], 2 * height, 2 * width, -1)


def _halves(kernel: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return what three taps over repeated pixels are as two over the pixels, for either copy."""
    first, middle, last = jnp.split(kernel, 3, axis)
    before = jnp.concatenate([first, middle + last], axis)
    return before, jnp.concatenate([first + middle, last], axis)
