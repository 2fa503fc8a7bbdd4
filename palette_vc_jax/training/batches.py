"""The batches of a UNet run: its clips, split for training and validation, as latents."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from palette_vc_jax.data.cache import open_cache
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.loader import LoaderConfig, batches
from palette_vc_jax.data.regions import REGIONS
from palette_vc_jax.data.samples import Batch, ClipReader, JoinedReader, Reader, SampleConfig
from palette_vc_jax.data.sources import ClipSource, hold_out, open_clips
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.training.config import DataConfig, RunConfig

HELD_CROPS = 2  # of each held-out clip

# (sample to begin with, rows of a batch that this process reads; None: all) -> batches
Stream = Callable[..., Iterator[Batch]]


def open_split(data: DataConfig) -> tuple[ClipSource, ClipSource]:
    """Open the clips for training, and those for validation and previews."""
    train, held = hold_out(open_clips(data.source, data.root), data.hold_out_every)
    if data.validation_root:
        held = open_clips(data.validation_source, data.validation_root)
    elif data.hold_out_every and not len(held):
        warnings.warn(
            f"data.hold_out_every={data.hold_out_every} holds out none of {len(train)} clips, so "
            "there is no validation and no preview; lower it, or give data.validation_root.",
            stacklevel=1,  # one place, so that it is printed once
        )
    return train, held


def crop_config(data: DataConfig, seed: int, region_cell: int = 0) -> CropConfig:
    """Return how crops are cut from the clips, and split into regions unless the cell is 0."""
    return CropConfig(
        frames=data.frames,
        size=data.size,
        short_sides=data.short_sides,
        crops=data.crops,
        reference_every=data.reference_every,
        mirrored=data.mirrored,
        hue_shift_rate=data.hue_shift_rate,
        seed=seed,
        region_cell=region_cell,
    )


def open_reader(
    source: ClipSource, crops: CropConfig, encoder: Encoder, data: DataConfig, name: str
) -> Reader:
    """Open the cache called `name`, which is written first, or the clips if there is no cache."""
    if not data.cache:
        return ClipReader(source, crops)
    return open_cache(Path(data.cache) / name, source, crops, encoder, data.prefetch_mib)


def open_stream(source: ClipSource, encoder: Encoder, config: RunConfig) -> Stream:
    """Open the endless batches of training; `source` is cached first if the config says so."""
    data = config.data
    cell = encoder.model.config.vae.downscale if data.region_rate else 0
    crops = crop_config(data, config.seed, cell)
    reader = open_reader(source, crops, encoder, data, "train")
    if data.photos and data.photo_rate:
        stills = dataclasses.replace(crops, frames=1, crops=data.photo_crops)
        photos = open_reader(open_clips("photos", data.photos), stills, encoder, data, "photos")
        reader = JoinedReader((reader, photos), (1.0 - data.photo_rate, data.photo_rate))
    windows = SampleConfig(
        data.window,
        data.strides,
        data.reversed,
        noisy=config.noise_augmentation > 0.0,
        seed=config.seed,
        region_rate=data.region_rate,
    )

    def stream(first: int, rows: tuple[int, ...] | None = None) -> Iterator[Batch]:
        ahead = data.prefetch_batches, data.prefetch_mib
        loader = LoaderConfig(config.batch_size, data.workers, *ahead, rows=rows)
        for batch in batches(reader, windows, data.reference_every, loader, first):
            yield encoder.batch(batch)

    return stream


def read_held(held: ClipSource, encoder: Encoder, config: RunConfig) -> Batch | None:
    """Read windows of held-out clips, the same in every run and process; None if there are none."""
    if not len(held):
        return None
    crops = crop_config(config.data, config.seed)
    crops = dataclasses.replace(crops, crops=HELD_CROPS, hue_shift_rate=None)
    reader = open_reader(held, crops, encoder, config.data, "held")
    noisy = config.noise_augmentation > 0.0
    windows = SampleConfig(config.data.window, noisy=noisy, seed=config.seed)
    loader = LoaderConfig(config.validation_clips, ahead=1)
    return encoder.batch(next(batches(reader, windows, crops.reference_every, loader)))


def batch_shapes(config: RunConfig, model: ModelConfig, embeds: bool) -> Batch:
    """Return the shapes of what `Encoder.batch` returns.

    Args:
        config: of the run.
        model: whose latents and embeddings they are.
        embeds: reference pictures come as embeddings.
    """
    size, data = config.batch_size, config.data
    height, width = (side // model.vae.downscale for side in data.size)
    latents = size, data.window, height, width, model.vae.latent_channels
    shapes = {"color": latents, "gray": latents, "palette": (size, 3 * model.unet.palette_colors)}
    if embeds:
        context = size, model.image_encoder.context_length, model.image_encoder.projection_dim
        shapes |= {"context_color": context, "context_gray": context}
    else:
        shapes["reference"] = (size, *data.size, 3)
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    if data.region_rate:
        palettes = size, REGIONS, 3 * model.unet.palette_colors
        batch["palette"] = jax.ShapeDtypeStruct(palettes, jnp.float32)
        batch["regions"] = jax.ShapeDtypeStruct(latents[:-1], jnp.uint8)
    return batch | {"hue_shifted": jax.ShapeDtypeStruct((size,), bool)}
