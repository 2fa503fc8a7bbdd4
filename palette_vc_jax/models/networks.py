"""The one door to the networks: encode, embed, predict and decode.

Each is a pure function of a model's config and of one network's parameters. The network computes
in the type of its parameters; the result is float32. Training calls the functions inside programs
of its own, sampling calls them jitted (`load_networks`).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.functional import Params
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE


def encode(config: ModelConfig, params: Params, frames: jax.Array) -> jax.Array:
    """Encode frames, each alone.

    Args:
        config: config of the model.
        params: parameters of the VAE.
        frames: `[N, H, W, 3]` in [-1, 1]; H and W are multiples of the VAE's factor.

    Returns:
        The mode of the latents `[N, h, w, C]`, unscaled as the condition is.
    """
    (frames,) = _cast(params, frames)
    mode, _ = functional.apply(VAE, config.vae, params, frames[None], method="encode")
    return mode[0].astype(jnp.float32)


def embed(config: ModelConfig, params: Params, images: jax.Array) -> jax.Array:
    """Embed images `[N, H, W, 3]` in [-1, 1], of any size, as `[N, L, D]`.

    Args:
        config: config of the model.
        params: parameters of the image encoder.
        images: see above.
    """
    (ready,) = _cast(params, clip.preprocess(images, config.image_encoder.image_size))
    context = functional.apply(ImageEncoder, config.image_encoder, params, ready)
    return context.astype(jnp.float32)


def predict(
    config: ModelConfig,
    params: Params,
    sample: jax.Array,
    c_noise: jax.Array,
    context: jax.Array,
    added_time_ids: jax.Array,
    palette: jax.Array,
    palette_mask: jax.Array,
    regions: jax.Array | None = None,
) -> jax.Array:
    """Predict the velocity v; the arguments after `params` are those of `UNet.__call__`.

    Args:
        config: config of the model.
        params: parameters of the UNet.
    """
    sample, context = _cast(params, sample, context)
    inputs = sample, c_noise, context, added_time_ids, palette, palette_mask, regions
    return functional.apply(UNet, config.unet, params, *inputs).astype(jnp.float32)


def decode(config: ModelConfig, params: Params, latents: jax.Array) -> jax.Array:
    """Decode color latents.

    Args:
        config: config of the model.
        params: parameters of the VAE.
        latents: `[B, T, h, w, C]` of unit scale.

    Returns:
        Frames `[B, T, H, W, 3]`, about in [-1, 1].
    """
    (latents,) = _cast(params, latents / config.vae.scaling_factor)
    frames = functional.apply(VAE, config.vae, params, latents, method="decode")
    return frames.astype(jnp.float32)


def time_ids(fps: float, motion_bucket: float, noise_augmentation: float) -> np.ndarray:
    """Return SVD's micro-conditioning `[3]` in the order of its embedding.

    Args:
        fps: the value sent to the network, frames per second - 1.
        motion_bucket: 0 to 255; a higher value asks for more motion.
        noise_augmentation: standard deviation of the noise on the condition's pixels.
    """
    return np.array([fps, motion_bucket, noise_augmentation], np.float32)


class Networks(NamedTuple):
    """The networks of a model as jitted functions, with `params` on the device."""

    config: ModelConfig
    params: dict[str, Any]
    encode: Any  # (params, frames [N, H, W, 3] in [-1, 1]) -> latents [N, h, w, C], unscaled
    embed: Any  # (params, images [N, H, W, 3] in [-1, 1]) -> [N, L, D]
    predict: Any  # the sampler's `predict`
    decode: Any  # (params, latents [B, T, h, w, C] of unit scale) -> frames [B, T, H, W, 3]


def load_networks(model: Model) -> Networks:
    """Load a model onto the device, in bfloat16 on accelerators and float32 on the CPU."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), model.params)
    return Networks(model.config, params, *_functions(model.config))


@functools.lru_cache(maxsize=8)
def _functions(config: ModelConfig) -> tuple[Any, Any, Any, Any]:
    """Return the functions of a config, cached because jit identifies functions by object."""

    @jax.jit
    def encode_frames(params: Params, frames: jax.Array) -> jax.Array:
        return encode(config, params["vae"], frames)

    @jax.jit
    def embed_images(params: Params, images: jax.Array) -> jax.Array:
        return embed(config, params["image_encoder"], images)

    # The sampler compiles it with its own arithmetic.
    def predict_velocity(params: Params, *inputs: jax.Array) -> jax.Array:
        return predict(config, params["unet"], *inputs)

    @jax.jit
    def decode_latents(params: Params, latents: jax.Array) -> jax.Array:
        return decode(config, params["vae"], latents)

    return encode_frames, embed_images, predict_velocity, decode_latents


def _cast(params: Params, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    dtype = jax.tree.leaves(params)[0].dtype
    return tuple(array.astype(dtype) for array in arrays)
