"""Train the UNet with its palette layer, or parts of it, and for the demo the image tower."""

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import palette_vc_jax
from palette_vc_jax.data.cache import open_cache
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.loader import LoaderConfig, batches
from palette_vc_jax.data.samples import Batch, ClipReader, Reader, SampleConfig
from palette_vc_jax.data.sources import ClipSource, hold_out, open_clips
from palette_vc_jax.models import functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import PRESETS, ModelConfig, UNetConfig
from palette_vc_jax.models.memory import LEAN
from palette_vc_jax.models.store import (
    NETWORKS,
    Model,
    file_hashes,
    is_written,
    load_config,
    load_model,
    sha256,
    write_model,
)
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.palette import gmm
from palette_vc_jax.parallel import placement
from palette_vc_jax.training import lora, mixture, targets, trained
from palette_vc_jax.training.checks import check_unet
from palette_vc_jax.training.loop import Previews, Task
from palette_vc_jax.training.losses import edm_loss, favored_reference
from palette_vc_jax.training.previews import make_previews
from palette_vc_jax.training.rehearsal import Rehearsed
from palette_vc_jax.training.step import Loss

PALETTE_FLOOR = 1e-3  # variance added to each direction of palettes, below it is K-means' noise
PALETTE_BATCHES = 64  # that a new palette layer is fitted to
SMALL_DEVICE = 16 * 2**30  # bytes
LARGE = 2**31  # bytes; at 25 frames of 1024x576 no value of a layer is wider
HELD_CROPS = 2  # of each held-out clip
TRAINABLE = ("unet", "image_encoder")  # networks; the VAE has a task of its own


def make_task(config: Any) -> Task:
    """Build the task of fine-tuning `config.init_from`, or of a new `config.model`.

    Raises ValueError for a model, clips or a cache that cannot be used.
    """
    model = _starting_point(config)
    check_unet(config, model.config)
    networks = {name: model.params[name] for name in TRAINABLE} if config.init_from else None
    chosen, frozen = _parts(networks or _shapes(model.config), config)
    start = _start_shapes(chosen, model.config, config)
    # Trained weights are read again when a run starts with them: nothing holds them until its end.
    others = {name: tree for name, tree in model.params.items() if name != "unet"}
    model, networks, chosen = model._replace(params=others), None, tuple(chosen)
    encoder = Encoder(model, "image_encoder" not in chosen, _encoder_dtype(config))
    train, held = _clips(config)
    reader = _reader(train, crop_config(config), encoder, config, "train")
    windows = SampleConfig(
        config.data.window,
        tuple(config.data.strides),
        config.data.reversed,
        noisy=config.noise_augmentation > 0.0,
        seed=config.seed,
    )
    every = config.data.reference_every

    def encoded(first: int, rows: tuple[int, ...] | None = None) -> Iterator[Batch]:
        data = config.data
        ahead = data.prefetch_batches, data.prefetch_mib
        loader = LoaderConfig(config.batch_size, data.workers, *ahead, rows=rows)
        for batch in batches(reader, windows, every, loader, first):
            yield encoder.batch(batch)

    held_batch = _held_batch(held, encoder, config)
    return Task(
        init=lambda: _initial(config, encoded),
        frozen=frozen,
        loss=_loss(model.config, config),
        batches=encoded,
        validate=_validation(held_batch, model.config, config),
        export=functools.partial(_export, config),
        previews=_previews(model, held_batch, config) if held_batch else None,
        shapes=start,
        origin=functools.partial(origin, config),
    )


def rehearse(config: Any) -> Rehearsed:
    """Give the run of `config` as shapes: no weights and no clips are read."""
    start = Path(config.init_from) if config.init_from else None
    model = load_config(start) if start and start.is_dir() else PRESETS[config.model]()
    model = as_trained(model, config)
    check_unet(config, model)
    chosen, frozen = _parts(_shapes(model), config)
    params = _start_shapes(chosen, model, config)
    return Rehearsed(_loss(model, config), params, frozen, _batch_shapes(config, model, chosen))


def trained_model(config: Any, params: functional.Params, step: int, weights: str) -> Model:
    """Return what was trained, with the frozen weights it was trained with, as a complete model.

    Updates of low rank are added to their kernels; sampling takes the settings of training.

    Args:
        config: of the run.
        params: trained parameters, numpy arrays.
        step: that they are of.
        weights: `ema` or `raw`, for the record.
    """
    start = _starting_point(config)
    text = config.to_json_best_effort(sort_keys=True)
    record = origin(config) | {
        "step": step,
        "weights": weights,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "data": {name: config.data[name] for name in ("source", "root")},
        "trainer": f"palette_vc_jax {palette_vc_jax.__version__}",
    }
    return Model(
        start.config, _joined(lora.merge, params, start.params, config), start.folder, record
    )


def write_trained(folder: Path, model: Model, config: Any, dtype: type) -> None:
    """Write a trained model as a folder, with the palette mixture of its training clips.

    A folder that holds this model already stays as it is, with what was added to it.
    """
    if is_written(folder, model, dtype):
        return

    def write_mixture(partial: Path) -> None:
        try:
            clips, _ = _clips(config)
            gmm.save(mixture.fit(clips, config.seed), partial / "mixture.json")
        except (ValueError, OSError) as error:  # no clips here, or hardly any color in them
            print(f"no mixture for --palette gmm: {error}", file=sys.stderr)

    write_model(folder, model, dtype, write_mixture)


def origin(config: Any) -> dict[str, Any]:
    """Return what a run's weights are updates of: a run that goes on must not change it."""
    if not config.init_from:
        return {"vae": sha256(Path(config.vae) / "vae.safetensors")}
    base: dict[str, Any] = {"init_from": file_hashes(Path(config.init_from))}
    return base | ({"lora.alpha": config.lora.alpha} if config.lora.rank else {})


def as_trained(model: ModelConfig, config: Any) -> ModelConfig:
    """Return the config of `model` with the sampling settings that a run's `config` trains.

    Those that an older run's config does not have stay as they are. Raises ValueError for values
    out of range.
    """
    own, frames = model.sampling, config.data.window
    names = ("shared_noise_fraction", "fps", "motion_bucket", "noise_augmentation")
    sampling = dataclasses.replace(
        own,
        num_frames=frames,
        overlap=min(own.overlap, frames - 1),
        reference=favored_reference(config.rates),
        **{name: config.get(name, getattr(own, name)) for name in names},
    )
    return dataclasses.replace(model, sampling=sampling)


def crop_config(config: Any) -> CropConfig:
    """Read how crops are cut from a run's config."""
    data = config.data
    return CropConfig(
        frames=data.frames,
        size=tuple(data.size),
        short_sides=tuple(data.short_sides),
        crops=data.crops,
        reference_every=data.reference_every,
        mirrored=data.mirrored,
        turned=data.turned,
        seed=config.seed,
    )


def _loss(model: ModelConfig, config: Any) -> Loss:
    def loss(params, frozen, batch, key):
        sigma_key, key = jax.random.split(key)
        size = batch["color"].shape[0]
        sigma = draw_sigma(sigma_key, size, config.sigma_mean, config.sigma_std)
        return edm_loss(
            _networks(params, frozen, config),
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


def remat_budget(mib: int) -> int:
    """Return the bytes that a layer may hold at once while it is computed again.

    Args:
        mib: as the config has it; 0 chooses by the memory of the devices that a program is
            compiled for: parts save memory and are computed once more (docs/benchmarks.md).
    """
    if mib:
        return mib * 2**20
    memory = targets.memory(placement.device_kind())
    return LEAN if memory is None or memory <= SMALL_DEVICE else LARGE


def draw_sigma(key: jax.Array, batch: int, mean: float, std: float) -> jax.Array:
    """Draw noise levels with ln sigma ~ N(mean, std^2), one from each `1 / batch` of the mass.

    Every level has the stated distribution; a batch covers it evenly, so its loss varies less.
    """
    shuffle_key, jitter_key = jax.random.split(key)
    bins = jax.random.permutation(shuffle_key, batch)
    quantile = (bins + jax.random.uniform(jitter_key, (batch,), minval=1e-4)) / batch
    return jnp.exp(mean + std * jax.scipy.special.ndtri(jnp.minimum(quantile, 1.0 - 1e-4)))


def _export(config: Any, params: functional.Params, step: int, folder: Path) -> None:
    dtype = np.dtype(config.export_dtype)
    write_trained(folder, trained_model(config, params, step, "ema"), config, dtype)


def _starting_point(config: Any) -> Model:
    """Read the model to fine-tune; a new one has a trained VAE and nothing else."""
    if config.init_from:
        model = load_model(Path(config.init_from))
        _silence(model.params["unet"], config)
    else:
        vae = load_model(Path(config.vae), networks=("vae",))
        model = Model(PRESETS[config.model](), vae.params, vae.folder)
    return model._replace(config=as_trained(model.config, config))


def _clips(config: Any) -> tuple[ClipSource, ClipSource]:
    """Open the clips for training and those for validation and previews."""
    data = config.data
    train, held = hold_out(open_clips(data.source, data.root), data.hold_out_every)
    if data.validation_root:
        held = open_clips(data.validation_source, data.validation_root)
    return train, held


def _reader(
    source: ClipSource, crops: CropConfig, encoder: Encoder, config: Any, name: str
) -> Reader:
    """Read crops from the cache, which is written first, or from the clips where there is none."""
    if not config.data.cache:
        return ClipReader(source, crops)
    folder = Path(config.data.cache) / name
    return open_cache(folder, source, crops, encoder, config.data.prefetch_mib)


def _encoder_dtype(config: Any) -> jnp.dtype:
    """Return what the frozen networks compute in: the run's type, on CPUs float32.

    The VAE overflows float16, so bfloat16 is the only narrow type.
    """
    narrow = config.compute_dtype == "bfloat16" and placement.platform() != "cpu"
    return jnp.dtype(jnp.bfloat16 if narrow else jnp.float32)


def _silence(unet: functional.Params, config: Any) -> None:
    """Take out a palette layer that training never reads: sampling would read it."""
    if config.rates.palette_dropout == 1.0:
        layer = unet["palette_embedding"]
        unet["palette_embedding"] = jax.tree.map(np.zeros_like, layer)


def _shapes(model: ModelConfig) -> functional.Params:
    return {
        name: functional.nest(functional.shapes(NETWORKS[name], getattr(model, name)))
        for name in TRAINABLE
    }


def _parts(networks: functional.Params, config: Any) -> tuple[functional.Params, functional.Params]:
    """Split the `networks` that the step computes with into trained and frozen weights.

    Of a new model there are only shapes. Raises ValueError for patterns that cannot be used.
    """
    new = not config.init_from
    chosen, frozen = trained.split(networks, config.trained)
    if new and (frozen or config.lora.rank):
        raise ValueError(
            f"trained={tuple(config.trained)}, lora.rank={config.lora.rank}: a new model is "
            f"trained whole; give trained={TRAINABLE} and rank 0, or a model as init_from."
        )
    if config.lora.rank and (both := lora.kernels(list(functional.flatten(chosen)))):
        raise ValueError(
            f"lora.rank={config.lora.rank}: {len(both)} of its kernels are trained whole, such as "
            f"{both[0]}; leave them out of trained, as 'palette' does."
        )
    rate = config.optimizer.get("palette_learning_rate")
    if rate and not any("palette_embedding" in name for name in functional.flatten(chosen)):
        raise ValueError(
            f"optimizer.palette_learning_rate={rate}: the palette layer is not trained; add "
            "'palette' to trained, or set the rate to 0."
        )
    if "image_encoder" not in chosen:
        frozen.pop("image_encoder")  # batches bring what it makes of the pictures
    return chosen, frozen


def _networks(params: functional.Params, base: functional.Params, config: Any) -> functional.Params:
    """Put trained weights in their places among those of `base`, with low-rank updates beside."""
    return _joined(lora.attach, params, base, config)


def _joined(
    add: Callable[[functional.Params, functional.Params, float], functional.Params],
    params: functional.Params,
    base: functional.Params,
    config: Any,
) -> functional.Params:
    networks = {name: tree for name, tree in params.items() if name != lora.NAME}
    return add(trained.merge(networks, base), params.get(lora.NAME, {}), config.lora.alpha)


def _start_shapes(chosen: functional.Params, model: ModelConfig, config: Any) -> functional.Params:
    """Return the shapes of what `_initial` returns."""
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dict(chosen))
    if config.lora.rank:
        params[lora.NAME] = jax.eval_shape(
            lambda networks: lora.init(networks, config.lora.rank, config.seed), _shapes(model)
        )
    return params


def _initial(config: Any, encoded: Callable[[int], Iterator[Batch]]) -> functional.Params:
    """Return the parameters to be trained as a fresh run starts with them, on the host.

    These are the chosen ones of `init_from` and the pairs of LoRA, or those of a new model.
    """
    model = _starting_point(config)
    if config.init_from:
        params, _ = _parts({name: model.params[name] for name in TRAINABLE}, config)
        if config.lora.rank:
            params[lora.NAME] = lora.init(model.params, config.lora.rank, config.seed)
        return jax.tree.map(np.asarray, params)
    stream = encoded(0)
    palettes = np.concatenate([next(stream)["palette"] for _ in range(PALETTE_BATCHES)])
    unet = _new_unet(model.config.unet, config.seed, palettes)
    _silence(unet, config)
    encoder = functional.init(ImageEncoder, model.config.image_encoder, config.seed + 1)
    return jax.tree.map(np.asarray, {"unet": unet, "image_encoder": encoder})


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
    windows = SampleConfig(
        config.data.window, noisy=config.noise_augmentation > 0.0, seed=config.seed
    )
    loader = LoaderConfig(config.validation_clips, ahead=1)
    return encoder.batch(next(batches(reader, windows, crops.reference_every, loader)))


def _validation(
    batch: Batch | None, model: ModelConfig, config: Any
) -> Callable[[Any, Any], dict[str, float]]:
    """Measure the loss on held-out clips at fixed noise levels, with and without the palette.

    The levels reach up to the one that sampling starts from; the image tower sees the reference
    that training favors.
    """
    if batch is None:
        return lambda params, frozen: {}
    levels = [*config.validation_sigmas, model.sampling.sigma_max]
    seen = model.sampling.reference
    rates = {
        "grey_dropout": 0.0,
        "reference_color": float(seen == "color"),
        "reference_none": float(seen == "none"),
        "joint_dropout": 0.0,
    }

    @jax.jit
    def measure(params, frozen, batch, sigma, palette_dropout):
        sigmas = jnp.full((config.validation_clips,), sigma)
        used = rates | {"palette_dropout": palette_dropout}
        key, share = jax.random.key(0), config.shared_noise_fraction
        networks = _networks(params, frozen, config)
        dtype = jnp.dtype(config.compute_dtype)
        return edm_loss(
            networks, batch, sigmas, key, model, used, shared_noise_fraction=share, dtype=dtype
        )[0]

    def validate(params: Any, frozen: Any) -> dict[str, float]:
        values = {}
        for sigma in levels:
            values[f"validation_{sigma:g}"] = float(measure(params, frozen, batch, sigma, 0.0))
            values[f"validation_{sigma:g}_null"] = float(measure(params, frozen, batch, sigma, 1.0))
        return values

    return validate


def _previews(model: Model, batch: Batch, config: Any) -> Previews:
    sample, write = make_previews(model, batch, jnp.dtype(config.compute_dtype))
    return Previews(lambda params, frozen: sample(_networks(params, frozen, config)), write)


def _batch_shapes(config: Any, model: ModelConfig, chosen: functional.Params) -> Batch:
    """Give the shapes of what `Encoder.batch` gives."""
    size, data = config.batch_size, config.data
    height, width = (side // model.vae.downscale for side in data.size)
    latents = size, data.window, height, width, model.vae.latent_channels
    shapes = {"color": latents, "grey": latents, "palette": (size, 3 * model.unet.palette_colors)}
    if "image_encoder" in chosen:
        shapes["reference"] = (size, *data.size, 3)
    else:
        context = size, 1, model.image_encoder.projection_dim
        shapes |= {"context_color": context, "context_grey": context}
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return batch | {"turned": jax.ShapeDtypeStruct((size,), bool)}
