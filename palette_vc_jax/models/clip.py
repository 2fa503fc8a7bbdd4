"""CLIP's vision tower with projection, and the preprocessing that SVD gives it.

Sources: transformers `models/clip/modeling_clip.py` (CLIPVisionModelWithProjection), diffusers
`pipelines/stable_video_diffusion` (`_resize_with_antialiasing`, `_encode_image`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from palette_vc_jax.models.attention import attention
from palette_vc_jax.models.config import ImageEncoderConfig
from palette_vc_jax.models.layers import LayerNorm, gelu

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, RGB in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)


class Embeddings(nnx.Module):
    """Patches and a class token, with learned positions."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        normal = nnx.initializers.normal(0.02)
        self.class_embedding = nnx.Param(normal(rngs.params(), (width,)))
        self.patch_embedding = nnx.Conv(
            3, width, (patch, patch), strides=patch, padding="VALID", use_bias=False, rngs=rngs
        )
        positions = (config.image_size // patch) ** 2 + 1
        self.position_embedding = nnx.Embed(positions, width, embedding_init=normal, rngs=rngs)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        patches = self.patch_embedding(pictures)
        patches = patches.reshape(patches.shape[0], -1, patches.shape[-1])  # [B, S-1, C]
        first = jnp.broadcast_to(
            self.class_embedding[...].astype(patches.dtype),
            (patches.shape[0], 1, patches.shape[-1]),
        )
        tokens = jnp.concatenate([first, patches], axis=1)
        return tokens + self.position_embedding.embedding[...].astype(patches.dtype)


class SelfAttention(nnx.Module):
    """Multi-head attention with biases everywhere."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.q_proj = nnx.Linear(width, width, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, rngs=rngs)
        self.out_proj = nnx.Linear(width, width, rngs=rngs)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        parts = [proj(x) for proj in (self.q_proj, self.k_proj, self.v_proj)]
        parts = [part.reshape(*x.shape[:2], self.heads, -1) for part in parts]
        return self.out_proj(attention(*parts).reshape(x.shape))


class MLP(nnx.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(gelu(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.layer_norm1 = LayerNorm(width)
        self.self_attn = SelfAttention(width, config.heads, rngs=rngs)
        self.layer_norm2 = LayerNorm(width)
        self.mlp = MLP(width, config.intermediate_size, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        self.layers = nnx.List([EncoderLayer(config, rngs=rngs) for _ in range(config.layers)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionModel(nnx.Module):
    """Everything but the projection."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs=rngs)
        self.pre_layrnorm = LayerNorm(config.hidden_size)  # the name, as published
        self.encoder = Encoder(config, rngs=rngs)
        self.post_layernorm = LayerNorm(config.hidden_size)
        self.tokens = config.tokens

    def __call__(self, pictures: jax.Array) -> jax.Array:
        tokens = self.encoder(self.pre_layrnorm(self.embeddings(pictures)))  # [B, 1 + patches, C]
        kept = tokens[:, :1] if self.tokens == "class" else tokens[:, 1:]
        return self.post_layernorm(kept)


class ImageEncoder(nnx.Module):
    """Pictures to their context: one embedding as CLIP has it, or one of each patch."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs):
        self.vision_model = VisionModel(config, rngs=rngs)
        self.visual_projection = nnx.Linear(
            config.hidden_size, config.projection_dim, use_bias=False, rngs=rngs
        )

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Embed `[B, size, size, 3]`, normalized by `preprocess`, as `[B, L, projection_dim]`.

        The embedding is not scaled to unit length: SVD takes it as it comes.
        """
        return self.visual_projection(self.vision_model(pictures))


def preprocess(pictures: jax.Array, size: int) -> jax.Array:
    """Bring pictures `[B, H, W, 3]` in [-1, 1] to `[B, size, size, 3]` as the tower wants them.

    The whole picture is squashed to a square (no crop), low-passed first where it shrinks, then
    normalized by CLIP's mean and standard deviation.
    """
    rows = jnp.asarray(_resize_matrix(pictures.shape[1], size))
    columns = jnp.asarray(_resize_matrix(pictures.shape[2], size))
    resized = jnp.einsum(
        "yh,bhwc,xw->byxc",
        rows,
        pictures.astype(jnp.float32),
        columns,
        precision=jax.lax.Precision.HIGHEST,  # a TPU would round pixels to bfloat16
    )
    return ((resized + 1.0) / 2.0 - jnp.array(MEAN)) / jnp.array(STD)


def _resize_matrix(inputs: int, outputs: int) -> np.ndarray:
    """Return the `[outputs, inputs]` matrix of a Gaussian blur followed by a bicubic resize.

    Both are linear and separable. The blur's sigma is (inputs / outputs - 1) / 2; the bicubic
    kernel has a = -0.75 and aligned corners, as torch's interpolate computes it.
    """
    factor = inputs / outputs
    sigma = max((factor - 1.0) / 2.0, 0.001)
    taps = int(max(2.0 * 2.0 * sigma, 3))
    taps += 1 - taps % 2
    offsets = np.arange(taps) - taps // 2
    gaussian = np.exp(-(offsets.astype(np.float64) ** 2) / (2.0 * sigma**2))
    gaussian /= gaussian.sum()
    blur = np.zeros((inputs, inputs))
    for offset, weight in zip(offsets, gaussian, strict=True):
        reflected = _reflect(np.arange(inputs) + offset, inputs)
        np.add.at(blur, (np.arange(inputs), reflected), weight)

    position = np.linspace(0.0, inputs - 1.0, outputs)
    base = np.floor(position).astype(int)
    cubic = np.zeros((outputs, inputs))
    for tap in range(-1, 3):
        weight = _cubic(np.abs(position - (base + tap)))
        np.add.at(cubic, (np.arange(outputs), np.clip(base + tap, 0, inputs - 1)), weight)
    return (cubic @ blur).astype(np.float32)


def _reflect(index: np.ndarray, length: int) -> np.ndarray:
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = np.abs(index) % period
    return np.where(index < length, index, period - index)


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2.0) * distance - (a + 3.0)) * distance**2 + 1.0
    far = a * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    return np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))
