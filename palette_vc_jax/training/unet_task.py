"""The task of training the UNet with its palette layer, or parts of it, and the image tower."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.samples import Batch
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.memory import CHUNK_BYTES_REMAT
from palette_vc_jax.models.store import Model
from palette_vc_jax.parallel import placement
from palette_vc_jax.training import batches, export, weights
from palette_vc_jax.training.aot import targets
from palette_vc_jax.training.aot.report import AbstractRun
from palette_vc_jax.training.checks import check_unet
from palette_vc_jax.training.config import RatesConfig, RunConfig
from palette_vc_jax.training.loop import Previews, Task
from palette_vc_jax.training.losses import edm_loss
from palette_vc_jax.training.previews import make_previews
from palette_vc_jax.training.step import Loss

SMALL_DEVICE = 16 * 2**30  # bytes
LARGE = 2**31  # bytes; at 25 frames of 1024x576 no value of a layer is wider


def make_task(config: RunConfig) -> Task:
    """Build the task of fine-tuning `config.init_from`, or of a new `config.model`.

    Raises ValueError for a model, clips or a cache that cannot be used.
    """
    model = weights.starting_model(config)
    check_unet(config, model.config)
    trained, frozen = weights.split(model, config)
    shapes = weights.start_shapes(trained, model.config, config)
    embeds = "image_encoder" not in trained
    # `init` reads the trained weights again: nothing may hold them until the run ends.
    del trained
    model = model._replace(params={n: tree for n, tree in model.params.items() if n != "unet"})
    encoder = Encoder(model, embeds, _encoder_dtype(config.compute_dtype))
    train, held = batches.open_split(config.data)
    stream = batches.open_stream(train, encoder, config)
    held_batch = batches.read_held(held, encoder, config)
    return Task(
        init=lambda: weights.initial(config, stream),
        frozen=frozen,
        loss=_loss(model.config, config),
        batches=stream,
        validate=_validation(held_batch, model.config, config),
        export=functools.partial(export.export_ema, config),
        is_exported=functools.partial(export.is_exported, config),
        previews=_previews(model, held_batch, config) if held_batch else None,
        shapes=shapes,
        origin=functools.partial(export.origin, config),
    )


def abstract_run(config: RunConfig) -> AbstractRun:
    """Return the run of `config` as shapes: no weights and no clips are read."""
    model = weights.starting_config(config)
    check_unet(config, model)
    trained, frozen = weights.split_networks(weights.shapes(model), config)
    params = weights.start_shapes(trained, model, config)
    batch = batches.batch_shapes(config, model, "image_encoder" not in trained)
    return AbstractRun(_loss(model, config), params, frozen, batch)


def remat_budget(mib: int) -> int:
    """Return the bytes that a layer may hold at once while it is computed again.

    Args:
        mib: as the config has it; 0 chooses by the memory of the devices that a program is
            compiled for: parts save memory and are computed once more (docs/benchmarks.md).
    """
    if mib:
        return mib * 2**20
    memory = targets.memory(placement.device_kind())
    return CHUNK_BYTES_REMAT if memory is None or memory <= SMALL_DEVICE else LARGE


def draw_sigma(key: jax.Array, batch: int, mean: float, std: float) -> jax.Array:
    """Draw noise levels with ln sigma ~ N(mean, std^2), one from each `1 / batch` of the mass.

    Every level has the stated distribution; a batch covers it evenly, so its loss varies less.
    """
    shuffle_key, jitter_key = jax.random.split(key)
    bins = jax.random.permutation(shuffle_key, batch)
    quantile = (bins + jax.random.uniform(jitter_key, (batch,), minval=1e-4)) / batch
    return jnp.exp(mean + std * jax.scipy.special.ndtri(jnp.minimum(quantile, 1.0 - 1e-4)))


def _loss(model: ModelConfig, config: RunConfig) -> Loss:
    def loss(params: Any, frozen: Any, batch: Any, key: jax.Array) -> Any:
        sigma_key, key = jax.random.split(key)
        size = batch["color"].shape[0]
        sigma = draw_sigma(sigma_key, size, config.sigma_mean, config.sigma_std)
        return edm_loss(
            weights.attach(params, frozen, config.lora.alpha),
            batch,
            sigma,
            key,
            model,
            config.rates,
            config.weighting,
            config.shared_noise_fraction,
            jnp.dtype(config.compute_dtype),
            config.remat,
            None if config.remat == "none" else remat_budget(config.remat_budget_mib),
        )

    return loss


def _encoder_dtype(compute_dtype: str) -> jnp.dtype:
    """Return what the frozen networks compute in: the run's type, on CPUs float32.

    The VAE overflows float16, so bfloat16 is the only narrow type.
    """
    narrow = compute_dtype == "bfloat16" and placement.platform() != "cpu"
    return jnp.dtype(jnp.bfloat16 if narrow else jnp.float32)


def _validation(
    batch: Batch | None, model: ModelConfig, config: RunConfig
) -> Callable[[Any, Any], dict[str, float]]:
    """Measure the loss on held-out clips at fixed noise levels, with and without the palette.

    The levels reach up to the one that sampling starts from; the image tower sees the reference
    that training favors.
    """
    if batch is None:
        return lambda params, frozen: {}
    levels = [*config.validation_sigmas, model.sampling.sigma_max]
    seen = model.sampling.reference
    rates = RatesConfig(
        gray_dropout=0.0,
        reference_color=float(seen == "color"),
        reference_none=float(seen == "none"),
        joint_dropout=0.0,
    )

    @jax.jit
    def measure(params: Any, frozen: Any, batch: Any, sigma: Any, palette_dropout: Any) -> Any:
        return edm_loss(
            weights.attach(params, frozen, config.lora.alpha),
            batch,
            jnp.full((config.validation_clips,), sigma),
            jax.random.key(0),
            model,
            dataclasses.replace(rates, palette_dropout=palette_dropout),
            shared_noise_fraction=config.shared_noise_fraction,
            dtype=jnp.dtype(config.compute_dtype),
        )[0]

    def validate(params: Any, frozen: Any) -> dict[str, float]:
        values = {}
        for sigma in levels:
            values[f"validation_{sigma:g}"] = float(measure(params, frozen, batch, sigma, 0.0))
            values[f"validation_{sigma:g}_null"] = float(measure(params, frozen, batch, sigma, 1.0))
        return values

    return validate


def _previews(model: Model, batch: Batch, config: RunConfig) -> Previews:
    sample, write = make_previews(model, batch, jnp.dtype(config.compute_dtype))
    alpha = config.lora.alpha
    return Previews(lambda params, frozen: sample(weights.attach(params, frozen, alpha)), write)
