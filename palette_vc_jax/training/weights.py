"""The weights of a UNet run: the model it starts from, split into trained and frozen parts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.models import functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import PRESETS, ModelConfig, UNetConfig
from palette_vc_jax.models.functional import Params
from palette_vc_jax.models.store import NETWORKS, Model, load_config, load_model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.training import lora, trainable
from palette_vc_jax.training.batches import Stream
from palette_vc_jax.training.config import RunConfig
from palette_vc_jax.training.losses import favored_reference

TRAINABLE = ("unet", "image_encoder")  # networks; the VAE has a task of its own
PALETTE_FLOOR = 1e-3  # variance added to each direction of palettes, below it is K-means' noise
PALETTE_BATCHES = 64  # that a new palette layer is fitted to
SAMPLING = ("shared_noise_fraction", "fps", "motion_bucket", "noise_augmentation")


def starting_model(config: RunConfig) -> Model:
    """Read the model to fine-tune; a new one has a trained VAE, and perhaps an image tower.

    Its sampling settings are those that the run trains.
    """
    if config.init_from:
        model = load_model(Path(config.init_from))
        _silence(model.params["unet"], config.rates.palette_dropout)
    elif not config.vae:
        raise ValueError(
            "init_from='' and vae='': give a model folder to fine-tune as init_from, or as vae the "
            "folder with the VAE of a new model."
        )
    else:
        frozen = load_model(Path(config.vae), frozen_networks(config))
        model = Model(PRESETS[config.model](), frozen.params, frozen.folder)
    return model._replace(config=with_sampling(model.config, config))


def frozen_networks(config: RunConfig) -> tuple[str, ...]:
    """Return the networks that a run of a new model takes from the folder `config.vae`."""
    networks = functional.flatten(shapes(PRESETS[config.model]()))
    trained = trainable.select(networks, config.trained)
    trains_tower = any(name.startswith("image_encoder.") for name in trained)
    return ("vae",) if trains_tower else ("vae", "image_encoder")


def starting_config(config: RunConfig) -> ModelConfig:
    """Return the config of the model that a run starts from; no weights need to be there."""
    folder = Path(config.init_from)
    known = config.init_from and folder.is_dir()
    model = load_config(folder) if known else PRESETS[config.model]()
    return with_sampling(model, config)


def with_sampling(model: ModelConfig, config: RunConfig) -> ModelConfig:
    """Return the config of `model` with the sampling settings that a run trains."""
    own, frames = model.sampling, config.data.window
    sampling = dataclasses.replace(
        own,
        window=frames,
        overlap=min(own.overlap, frames - 1),
        reference=favored_reference(config.rates),
        **{name: getattr(config, name) for name in SAMPLING},
    )
    return dataclasses.replace(model, sampling=sampling)


def shapes(model: ModelConfig) -> Params:
    """Return the shapes of the networks that can be trained."""
    return {
        name: functional.nest(functional.shapes(NETWORKS[name], getattr(model, name)))
        for name in TRAINABLE
    }


def split(model: Model, config: RunConfig) -> tuple[Params, Params]:
    """Split the networks that the step computes with into trained and frozen weights.

    Of a new model these are shapes. Raises ValueError for patterns that cannot be used.
    """
    if config.init_from:
        return split_networks({name: model.params[name] for name in TRAINABLE}, config)
    return split_networks(shapes(model.config), config)


def split_networks(networks: Params, config: RunConfig) -> tuple[Params, Params]:
    """Split `networks`, weights or shapes, into trained and frozen ones.

    Raises ValueError for patterns that cannot be used.
    """
    rank, rate = config.lora.rank, config.optimizer.palette_learning_rate
    trained, frozen = trainable.split(networks, config.trained)
    if not config.init_from and (set(trained) & set(frozen) or "unet" in frozen or rank):
        raise ValueError(
            f"trained={config.trained}, lora.rank={rank}: a new UNet is trained whole; give "
            f"trained={TRAINABLE}, or 'unet' alone, and rank 0, or a model as init_from."
        )
    if rank and (both := lora.kernels(list(functional.flatten(trained)))):
        raise ValueError(
            f"lora.rank={rank}: {len(both)} of its kernels are trained whole, such as {both[0]}; "
            "leave them out of trained, as 'palette' does."
        )
    if rate and not any("palette_embedding" in name for name in functional.flatten(trained)):
        raise ValueError(
            f"optimizer.palette_learning_rate={rate}: the palette layer is not trained; add "
            "'palette' to trained, or set the rate to 0."
        )
    if "image_encoder" not in trained:
        frozen.pop("image_encoder")  # batches hold its embeddings
    return trained, frozen


def start_shapes(trained: Params, model: ModelConfig, config: RunConfig) -> Params:
    """Return the shapes of what `initial` returns, given `trained` weights or shapes."""
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dict(trained))
    if config.lora.rank:
        params[lora.NAME] = jax.eval_shape(
            lambda networks: lora.init(networks, config.lora.rank, config.seed), shapes(model)
        )
    return params


def initial(config: RunConfig, stream: Stream) -> Params:
    """Return the parameters that a fresh run starts with, on the host.

    These are the trained ones of `init_from` with LoRA's pairs, or those of a new model, whose
    palette layer is fitted to the palettes of the `stream` of batches.
    """
    model = starting_model(config)
    if config.init_from:
        params, _ = split(model, config)
        if config.lora.rank:
            params[lora.NAME] = lora.init(model.params, config.lora.rank, config.seed)
        return jax.tree.map(np.asarray, params)
    batches = stream(0)
    palettes = np.concatenate([next(batches)["palette"] for _ in range(PALETTE_BATCHES)])
    unet = new_unet(model.config.unet, config.seed, palettes)
    _silence(unet, config.rates.palette_dropout)
    params = {"unet": unet}
    if "image_encoder" not in model.params:
        tower = functional.init(ImageEncoder, model.config.image_encoder, config.seed + 1)
        params["image_encoder"] = tower
    return jax.tree.map(np.asarray, params)


def new_unet(config: UNetConfig, seed: int, palettes: np.ndarray) -> Params:
    """Return random weights with a palette layer that sees all directions of `palettes` alike.

    Palettes differ mostly in brightness, which the gray latents show anyway; a small model would
    take most of its training to find their hues, which vary ten times less.

    Args:
        config: of the UNet.
        seed: of the weights.
        palettes: `[..., 15]` in [-1, 1].
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


def attach(params: Params, base: Params, alpha: float) -> Params:
    """Return the networks of the step: `params` among those of `base`, with LoRA's pairs beside."""
    return _joined(lora.attach, params, base, alpha)


def merge(params: Params, base: Params, alpha: float) -> Params:
    """Return the networks of a model: `params` among those of `base`, with LoRA's updates added."""
    return _joined(lora.merge, params, base, alpha)


def _joined(
    add: Callable[[Params, Params, float], Params], params: Params, base: Params, alpha: float
) -> Params:
    networks = {name: tree for name, tree in params.items() if name != lora.NAME}
    return add(trainable.merge(networks, base), params.get(lora.NAME, {}), alpha)


def _silence(unet: Params, palette_dropout: float) -> None:
    """Set a palette layer that training never reads to zero: sampling would read it."""
    if palette_dropout == 1.0:
        layer = unet["palette_embedding"]
        unet["palette_embedding"] = jax.tree.map(np.zeros_like, layer)
