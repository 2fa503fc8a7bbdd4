"""What is minimized: the UNet's EDM loss and the VAE's reconstruction loss.

Both are pure functions `(params, batch, key, ...) -> (loss, metrics)`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from palette_vc_jax.diffusion import edm
from palette_vc_jax.models import functional, memory, networks
from palette_vc_jax.models.config import ModelConfig, VAEConfig
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.pixels import to_gray3
from palette_vc_jax.training.config import RatesConfig


def vae_loss(
    params: functional.Params,
    frames: jax.Array,
    key: jax.Array,
    config: VAEConfig,
    axes: jax.Array,
    kl_weight: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Reconstruct frames `[B, T, H, W, 3]` in [-1, 1] through sampled latents.

    The error is the squared difference along `axes` `[3, 3]`, color axes as columns, scaled so
    that real pictures vary about equally along each; in RGB brightness would drown everything.
    The Kullback-Leibler term keeps the latents near unit normal. The metrics are root mean
    squares, shares of a picture's own variation.
    """
    mean, log_variance = functional.apply(VAE, config, params, frames, method="encode")
    noise = jax.random.normal(key, mean.shape)
    latents = mean + jnp.exp(0.5 * log_variance) * noise
    decoded = functional.apply(VAE, config, params, latents, method="decode")
    error = jnp.square((decoded - frames) @ axes).mean((0, 1, 2, 3))  # [3]
    divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance).mean()
    shares = {f"axis_{i}": share for i, share in enumerate(jnp.sqrt(error))}
    return error.mean() + kl_weight * divergence, shares | {"kl": divergence}


def edm_loss(
    params: Mapping[str, functional.Params],
    batch: Mapping[str, jax.Array],
    sigma: jax.Array,
    key: jax.Array,
    config: ModelConfig,
    rates: RatesConfig,
    weighting: str = "v",
    shared_noise_fraction: float = 0.0,
    dtype: jnp.dtype = jnp.float32,
    remat: str = "none",
    chunk_bytes: int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Denoise color latents at noise levels `sigma` `[B]`.

    Args:
        params: `unet`, and `image_encoder` where it is trained.
        batch: `color` latents `[B, T, h, w, C]` of unit scale, unscaled `gray` latents of the
            same shape, `palette` `[B, 15]` in [-1, 1], or `[B, R, 15]` with the numbers of
            `regions` uint8 `[B, T, h, w]`, `hue_shifted` `[B]` bool: the hues are random, and so
            the palette is never dropped. Of the reference frame, with
            `image_encoder` the image, `reference` `[B, H, W, 3]` in [-1, 1], otherwise its
            embeddings `context_color` and `context_gray`, `[B, L, D]` each.
        rates: probabilities of dropping conditions, and of what the image tower is shown.
        weighting: `v` weighs all noise levels as SVD does, `eps` divides by 1 + sigma^2 (the
            paper's equation 5 read literally).
        shared_noise_fraction: see `window_noise`.
        dtype: what the UNet computes in; the loss is summed in float32.
        remat: what the backward pass computes again, one of `memory.REMAT`.
        chunk_bytes: see `memory.policy`.
    """
    size = sigma.shape[0]
    noise_key, palette_key, gray_key, image_key, joint_key = jax.random.split(key, 5)
    noise = window_noise(noise_key, batch["color"].shape, shared_noise_fraction)
    wide = sigma[:, None, None, None, None]
    noisy = batch["color"] + wide * noise
    scale = edm.coefficients(sigma)

    # SVD's unconditional branch, on real hues alone: shifted ones are not colors of films.
    nothing = jax.random.uniform(joint_key, (size,)) < rates.joint_dropout
    nothing &= ~batch["hue_shifted"]
    keep_gray = jax.random.uniform(gray_key, (size,)) >= rates.gray_dropout
    gray = batch["gray"] * (keep_gray & ~nothing)[:, None, None, None, None]
    mask, regions = _palette_mask(batch, palette_key, rates.palette_dropout, nothing)
    context = _reference_context(params, batch, image_key, config, rates)
    context = context * ~nothing[:, None, None]

    sample = jnp.concatenate([noisy * scale.c_in[:, None, None, None, None], gray], axis=-1)
    own = config.sampling
    ids = networks.time_ids(own.fps, own.motion_bucket, own.noise_augmentation)
    with memory.policy(remat, chunk_bytes):
        output = networks.predict(
            config,
            jax.tree.map(jnp.astype, params["unet"], functional.types(params["unet"], dtype)),
            sample,
            scale.c_noise,
            context,
            jnp.tile(ids, (size, 1)),
            batch["palette"],
            mask,
            regions,
        )
    target = edm.velocity_target(batch["color"], noise, wide)
    per_sample = jnp.square(output - target).mean((1, 2, 3, 4))
    if weighting == "eps":
        per_sample = per_sample / (1.0 + jnp.square(sigma))
    return per_sample.mean(), {}


def _palette_mask(
    batch: Mapping[str, jax.Array], key: jax.Array, dropout: float, nothing: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Draw which palettes are used, and return the regions that they are for.

    Args:
        batch: see `edm_loss`.
        key: of the random numbers.
        dropout: probability of dropping a palette; those of regions are dropped independently.
        nothing: `[B]`, samples that have no palette.

    Returns:
        Float32 `[B]`, or `[B, R]` with regions, and `[B, T, h, w, R]` or None.
    """
    shifted, shape = batch["hue_shifted"], batch["palette"].shape[:-1]
    regional = "regions" in batch
    if regional:
        shifted, nothing = shifted[:, None], nothing[:, None]
    used = (jax.random.uniform(key, shape) >= dropout) | shifted
    regions = jax.nn.one_hot(batch["regions"], shape[-1]) if regional else None
    return (used & ~nothing).astype(jnp.float32), regions


def window_noise(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    """Draw unit noise `[B, T, h, w, C]`; `share` of the variance is common to a window's frames."""
    own_key, common_key = jax.random.split(key)
    own = jax.random.normal(own_key, shape)
    common = jax.random.normal(common_key, (shape[0], 1, *shape[2:]))
    return jnp.sqrt(1.0 - share) * own + jnp.sqrt(share) * common


def _reference_context(
    params: Mapping[str, functional.Params],
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    config: ModelConfig,
    rates: RatesConfig,
) -> jax.Array:
    """Embed the reference frame as the image tower is to see it: color, gray or nothing."""
    draw = jax.random.uniform(key, (batch["palette"].shape[0],))
    in_color = draw < rates.reference_color
    nothing = draw >= 1.0 - rates.reference_none
    if "image_encoder" in params:
        color = batch["reference"]
        pictures = jnp.where(in_color[:, None, None, None], color, to_gray3(color))
        context = networks.embed(config, params["image_encoder"], pictures)
    else:
        context = jnp.where(in_color[:, None, None], batch["context_color"], batch["context_gray"])
    return context * ~nothing[:, None, None]


def favored_reference(rates: RatesConfig) -> str:
    """Return what the image tower sees most often: gray (if rates are equal), color or none."""
    color, none = rates.reference_color, rates.reference_none
    shares = {"gray": 1.0 - color - none, "color": color, "none": none}
    return max(shares, key=lambda name: round(shares[name], 9))
