"""Train the UNet with its palette layer, and for the demo the image tower, on cached latents."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.data.clips import hold_out, list_clips, load_crops
from palette_vc_jax.data.latents import (
    LatentClips,
    encode_crops,
    load_latents,
    sample_windows,
    save_latents,
)
from palette_vc_jax.models import functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import PRESETS, UNetConfig
from palette_vc_jax.models.store import Model, file_hashes, load_model, save_model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.training.loop import Task
from palette_vc_jax.training.losses import edm_loss

PALETTE_FLOOR = 1e-3  # variance added to each direction of palettes, below it is K-means' noise


def make_task(config: Any) -> Task:
    """Build the task of `config.model`'s UNet and image tower on `config.data`."""
    preset = PRESETS[config.model]()
    vae = load_model(Path(config.vae), networks=("vae",))
    model = Model(preset, vae.params)
    clips, held = _cached_latents(model, config)
    data = config.data

    def loss(params, frozen, batch, key):
        sigma_key, key = jax.random.split(key)
        sigma = draw_sigma(sigma_key, config.batch_size, config.sigma_mean, config.sigma_std)
        return edm_loss(
            params | frozen,
            batch,
            sigma,
            key,
            preset,
            config.rates,
            config.weighting,
            config.noise_share,
        )

    def batch(step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((config.seed, step))
        return sample_windows(clips, data.window, tuple(data.strides), config.batch_size, rng)

    return Task(
        params={
            "unet": _initial(preset.unet, config.seed, clips.palettes),
            "image_encoder": functional.init(ImageEncoder, preset.image_encoder, config.seed + 1),
        },
        frozen={},
        loss=loss,
        batch=batch,
        validate=_validation(held, preset, config),
        export=functools.partial(export, config),
    )


def export(
    config: Any, params: dict[str, functional.Params], folder: Path, dtype: type = np.float16
) -> None:
    """Write what was trained, with the VAE it was trained on, as a model folder."""
    vae = load_model(Path(config.vae), networks=("vae",)).params
    save_model(folder, PRESETS[config.model](), params | vae, dtype)


def _initial(config: UNetConfig, seed: int, palettes: np.ndarray) -> functional.Params:
    """Start with a palette layer that sees all directions in which `palettes` vary alike.

    Palettes differ mostly in brightness, which the grey latents tell anyway; their hues, ten
    times weaker, would take a small model most of its training to find. `palettes` is
    `[..., 15]` in [-1, 1].
    """
    params = functional.init(UNet, config, seed)
    layer = params["palette_embedding"]
    palettes = palettes.reshape(-1, palettes.shape[-1])
    values, axes = np.linalg.eigh(np.cov(palettes.T))
    whiten = axes / np.sqrt(values + PALETTE_FLOOR)  # [15, 15]
    spread = jax.random.normal(jax.random.key(seed), layer["kernel"].shape) / np.sqrt(len(values))
    layer["kernel"] = (whiten @ spread).astype(jnp.float32)
    layer["bias"] = -palettes.mean(0) @ layer["kernel"]
    return params


def draw_sigma(key: jax.Array, batch: int, mean: float, std: float) -> jax.Array:
    """Draw noise levels with ln sigma ~ N(mean, std^2), one from each `1 / batch` of the mass.

    Every level has the stated distribution; a batch covers it evenly, so its loss varies less.
    """
    shuffle_key, jitter_key = jax.random.split(key)
    bins = jax.random.permutation(shuffle_key, batch)
    quantile = (bins + jax.random.uniform(jitter_key, (batch,), minval=1e-4)) / batch
    return jnp.exp(mean + std * jax.scipy.special.ndtri(jnp.minimum(quantile, 1.0 - 1e-4)))


def _cached_latents(model: Model, config: Any) -> tuple[LatentClips, LatentClips]:
    """Read training and validation latents, or make them and keep them under `config.cache`.

    The file's name carries a hash of the VAE and of every choice that shaped the data, so that
    latents of another VAE are never taken for these.
    """
    data = config.data
    choices = [file_hashes(Path(config.vae))["vae.safetensors"], config.seed, data.root]
    choices += [data.hold_out_every, data.frames, data.size, data.short_sides, data.crops]
    choices += [data.reference_every, data.turned]
    key = hashlib.sha256(repr(choices).encode()).hexdigest()[:12]
    folder = Path(config.cache)
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    splits = hold_out(list_clips(data.root), data.hold_out_every)
    kinds = ("train", data.crops, data.turned), ("held", 2, None)
    for (name, crops, turned), clips in zip(kinds, splits, strict=True):
        path = folder / f"{name}-{key}.npz"
        if not path.is_file():
            shape = data.frames, tuple(data.size), tuple(data.short_sides), crops
            pixels = load_crops(clips, *shape, config.seed, turned)
            save_latents(path, encode_crops(model, pixels, data.reference_every))
        result.append(load_latents(path))
    return result[0], result[1]


def _validation(held: LatentClips, preset: Any, config: Any) -> Callable[[Any], dict[str, float]]:
    """Measure the loss on held-out clips at fixed noise levels, with and without the palette.

    The levels reach up to the one that sampling starts from.
    """
    rng = np.random.default_rng(config.seed)
    batch = sample_windows(held, config.data.window, (1,), config.validation_clips, rng)
    levels = [*config.validation_sigmas, preset.sampling.sigma_max]
    rates = {
        "grey_dropout": 0.0,
        "reference_color": 0.0,
        "reference_none": 0.0,
    }

    @jax.jit
    def measure(params, sigma, palette_dropout):
        sigmas = jnp.full((config.validation_clips,), sigma)
        used = rates | {"palette_dropout": palette_dropout}
        key = jax.random.key(0)
        value, _ = edm_loss(
            params, batch, sigmas, key, preset, used, noise_share=config.noise_share
        )
        return value

    def validate(params: Any) -> dict[str, float]:
        values = {}
        for sigma in levels:
            values[f"validation_{sigma:g}"] = float(measure(params, sigma, 0.0))
            values[f"validation_{sigma:g}_null"] = float(measure(params, sigma, 1.0))
        return values

    return validate
