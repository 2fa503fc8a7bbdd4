"""Train the UNet with its palette layer, and for the demo the image tower."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.data.cache import CacheReader, cache_key, write_cache
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.loader import LoaderConfig, batches
from palette_vc_jax.data.samples import Batch, ClipReader, Reader, SampleConfig
from palette_vc_jax.data.sources import ClipSource, hold_out, open_clips
from palette_vc_jax.models import functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import PRESETS, ModelConfig, UNetConfig
from palette_vc_jax.models.store import Model, load_model, save_model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.training.loop import Task
from palette_vc_jax.training.losses import edm_loss
from palette_vc_jax.training.strips import make_strips

PALETTE_FLOOR = 1e-3  # variance added to each direction of palettes, below it is K-means' noise
PALETTE_BATCHES = 64  # that a new palette layer is fitted to
HELD_CROPS = 2  # of each held-out clip


def make_task(config: Any) -> Task:
    """Build the task of fine-tuning `config.init_from`, or of a new `config.model`.

    Raises ValueError for a model, clips or a cache that cannot be used.
    """
    model = _starting_point(config)
    encoder = Encoder(model, embeds=not config.train_image_encoder)
    train, held = hold_out(
        open_clips(config.data.source, config.data.root), config.data.hold_out_every
    )
    reader = _reader(train, crop_config(config), encoder, config, "train")
    windows = SampleConfig(config.data.window, tuple(config.data.strides), seed=config.seed)
    every = config.data.reference_every

    def loss(params, frozen, batch, key):
        sigma_key, key = jax.random.split(key)
        size = batch["color"].shape[0]
        sigma = draw_sigma(sigma_key, size, config.sigma_mean, config.sigma_std)
        return edm_loss(
            params | frozen,
            batch,
            sigma,
            key,
            model.config,
            config.rates,
            config.weighting,
            config.noise_share,
            jnp.dtype(config.compute_dtype),
            config.remat,
        )

    def encoded(first: int, rows: tuple[int, ...] | None = None) -> Iterator[Batch]:
        loader = LoaderConfig(config.batch_size, config.data.workers, rows=rows)
        for batch in batches(reader, windows, every, loader, first):
            yield encoder.batch(batch)

    held_batch = _held_batch(held, encoder, config)
    dtype = jnp.dtype(config.compute_dtype)
    return Task(
        init=lambda: _initial(model, config, encoded),
        frozen={},
        loss=loss,
        batches=encoded,
        validate=_validation(held_batch, model.config, config),
        export=functools.partial(export, config),
        strips=make_strips(model, held_batch, dtype) if held_batch else None,
    )


def export(
    config: Any, params: dict[str, functional.Params], folder: Path, dtype: type = np.float16
) -> None:
    """Write what was trained, with the frozen networks it was trained with, as a model folder."""
    model = _starting_point(config)
    save_model(folder, model.config, model.params | params, dtype)


def crop_config(config: Any) -> CropConfig:
    """Read how crops are cut from a run's config."""
    data = config.data
    return CropConfig(
        frames=data.frames,
        size=tuple(data.size),
        short_sides=tuple(data.short_sides),
        crops=data.crops,
        reference_every=data.reference_every,
        turned=data.turned,
        seed=config.seed,
    )


def draw_sigma(key: jax.Array, batch: int, mean: float, std: float) -> jax.Array:
    """Draw noise levels with ln sigma ~ N(mean, std^2), one from each `1 / batch` of the mass.

    Every level has the stated distribution; a batch covers it evenly, so its loss varies less.
    """
    shuffle_key, jitter_key = jax.random.split(key)
    bins = jax.random.permutation(shuffle_key, batch)
    quantile = (bins + jax.random.uniform(jitter_key, (batch,), minval=1e-4)) / batch
    return jnp.exp(mean + std * jax.scipy.special.ndtri(jnp.minimum(quantile, 1.0 - 1e-4)))


def _starting_point(config: Any) -> Model:
    """Read the model to fine-tune; a new one has a trained VAE and nothing else."""
    if config.init_from:
        return load_model(Path(config.init_from))
    vae = load_model(Path(config.vae), networks=("vae",))
    return Model(PRESETS[config.model](), vae.params, vae.folder)


def _reader(
    source: ClipSource, crops: CropConfig, encoder: Encoder, config: Any, name: str
) -> Reader:
    """Read crops from the cache, which is written first, or from the clips where there is none."""
    if not config.data.cache:
        return ClipReader(source, crops)
    folder = Path(config.data.cache) / name
    write_cache(folder, source, crops, encoder)
    return CacheReader(folder, cache_key(source, crops, encoder))


def _initial(
    model: Model, config: Any, encoded: Callable[[int], Iterator[Batch]]
) -> dict[str, functional.Params]:
    """Give the parameters to be trained as a fresh run starts with them."""
    trained = ("unet", "image_encoder") if config.train_image_encoder else ("unet",)
    params = {name: model.params[name] for name in trained if name in model.params}
    if "unet" not in params:
        stream = encoded(0)
        palettes = np.concatenate([next(stream)["palette"] for _ in range(PALETTE_BATCHES)])
        params["unet"] = _new_unet(model.config.unet, config.seed, palettes)
    if "image_encoder" in trained and "image_encoder" not in params:
        params["image_encoder"] = functional.init(
            ImageEncoder, model.config.image_encoder, config.seed + 1
        )
    return jax.tree.map(jnp.asarray, params)


def _new_unet(config: UNetConfig, seed: int, palettes: np.ndarray) -> functional.Params:
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


def _held_batch(held: ClipSource, encoder: Encoder, config: Any) -> Batch | None:
    """Read windows of held-out clips, the same in every run and process; None if there are none."""
    if not len(held):
        return None
    crops = crop_config(config)
    crops = CropConfig(**(vars(crops) | {"crops": HELD_CROPS, "turned": None}))
    reader = _reader(held, crops, encoder, config, "held")
    windows = SampleConfig(config.data.window, reversible=False, seed=config.seed)
    loader = LoaderConfig(config.validation_clips, ahead=1)
    return encoder.batch(next(batches(reader, windows, crops.reference_every, loader)))


def _validation(
    batch: Batch | None, model: ModelConfig, config: Any
) -> Callable[[Any], dict[str, float]]:
    """Measure the loss on held-out clips at fixed noise levels, with and without the palette.

    The levels reach up to the one that sampling starts from.
    """
    if batch is None:
        return lambda params: {}
    levels = [*config.validation_sigmas, model.sampling.sigma_max]
    rates = {"grey_dropout": 0.0, "reference_color": 0.0, "reference_none": 0.0}

    @jax.jit
    def measure(params, batch, sigma, palette_dropout):
        sigmas = jnp.full((config.validation_clips,), sigma)
        used = rates | {"palette_dropout": palette_dropout}
        key = jax.random.key(0)
        return edm_loss(params, batch, sigmas, key, model, used, noise_share=config.noise_share)[0]

    def validate(params: Any) -> dict[str, float]:
        values = {}
        for sigma in levels:
            values[f"validation_{sigma:g}"] = float(measure(params, batch, sigma, 0.0))
            values[f"validation_{sigma:g}_null"] = float(measure(params, batch, sigma, 1.0))
        return values

    return validate
