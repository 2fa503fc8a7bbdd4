"""Conditions between the keys of a config, checked before clips, weights or devices are read.

Each function raises ValueError naming the first key that is wrong.
"""

import dataclasses

from jax.sharding import Mesh

from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.training.config import RunConfig, keys

# Tasks -> keys and sections that these alone read.
READ_BY = {
    ("vae",): ("color_floor", "kl_weight", "data.gray_rate"),
    ("vae", "image_encoder"): ("data.patch",),
    ("vae", "unet"): ("data.frames", "data.window"),
    ("unet", "image_encoder"): ("vae", "data.photos", "data.photo_crops"),
    ("unet",): (
        "init_from", "trained", "compute_dtype", "remat", "remat_budget_mib", "weighting",
        "sigma_mean", "sigma_std", "shared_noise_fraction", "fps", "motion_bucket",
        "noise_augmentation", "previews_every", "export_dtype", "validation_clips",
        "validation_sigmas", "lora", "rates", "data.photo_rate", "data.cache", "data.workers",
        "data.prefetch_batches", "data.prefetch_mib", "data.validation_root",
        "data.validation_source", "data.reversed", "data.hue_shift_rate", "data.region_rate",
        "data.reference_every", "data.strides", "optimizer.palette_learning_rate",
    ),
}  # fmt: skip


def check_run(config: RunConfig) -> None:
    """Check what all tasks have in common, and that the task reads every key that was changed."""
    defaults = dict(keys(dataclasses.asdict(RunConfig())))
    for key, value in keys(dataclasses.asdict(config)):
        for tasks, names in READ_BY.items():
            read = config.task in tasks or not {key, key.split(".")[0]} & set(names)
            if not read and value != defaults[key]:
                raise ValueError(
                    f"{key}={value!r} has no effect, because task={config.task!r} does not read "
                    f"it; leave it out, or use task={tasks[0]!r}."
                )
    optimizer = config.optimizer
    if optimizer.decay == "cosine" and optimizer.warmup_steps > optimizer.steps:
        raise ValueError(
            f"optimizer.warmup_steps={optimizer.warmup_steps} is more than optimizer.steps="
            f"{optimizer.steps}, so no step is left for the decay; lower it."
        )
    if config.batch_size % config.accumulate:
        raise ValueError(
            f"accumulate={config.accumulate} does not divide batch_size={config.batch_size}; "
            "give a divisor."
        )
    data = config.data
    if data.window > data.frames:
        raise ValueError(
            f"data.window={data.window} frames do not fit a crop of data.frames={data.frames}; "
            "lower the one or raise the other."
        )
    least, most = data.short_sides
    if least > most:
        raise ValueError(f"data.short_sides={least}, {most}; give the least first, then the most.")


def check_vae(config: RunConfig, model: ModelConfig) -> None:
    """Check what the VAE's task reads."""
    data, multiple = config.data, model.vae.downscale
    for key, sides in (("size", data.size), ("patch", data.patch)):
        if any(side % multiple for side in sides):
            raise ValueError(
                f"data.{key}={sides[0]}x{sides[1]} pixels: the model {model.name!r} needs "
                f"multiples of {multiple}; round each side."
            )
    if any(patch > size for patch, size in zip(data.patch, data.size, strict=True)):
        raise ValueError(
            f"data.patch={data.patch} is larger than data.size={data.size} pixels; lower the one "
            "or raise the other."
        )


def check_mesh(config: RunConfig, mesh: Mesh) -> None:
    """Check that batches divide over `mesh`: otherwise every device would compute all of each."""
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    way_out = f"give a multiple of {split} (mesh.data x mesh.fsdp), or a mesh with more frames."
    if config.batch_size % (config.accumulate * split):
        raise ValueError(
            f"batch_size={config.batch_size} in accumulate={config.accumulate} parts leaves "
            f"{config.batch_size / config.accumulate:g} windows for each; {way_out}"
        )
    validates = config.task == "unet" and (
        config.data.hold_out_every or config.data.validation_root
    )
    if validates and config.validation_clips % split:
        raise ValueError(f"validation_clips={config.validation_clips}; {way_out}")


def check_unet(config: RunConfig, model: ModelConfig) -> None:
    """Check what the UNet's task reads."""
    data, rates = config.data, config.rates
    height, width = data.size
    if height % model.pixel_multiple or width % model.pixel_multiple:
        raise ValueError(
            f"data.size={height}x{width} pixels: the model {model.name!r} needs multiples of "
            f"{model.pixel_multiple}; round each side."
        )
    if rates.reference_color + rates.reference_none > 1.0:
        raise ValueError(
            f"rates.reference_color={rates.reference_color} and rates.reference_none="
            f"{rates.reference_none} sum to more than 1; lower one (the rest is seen in gray)."
        )
    if config.noise_augmentation > 0.0 and data.cache:
        raise ValueError(
            f"noise_augmentation={config.noise_augmentation} with data.cache="
            f"{data.cache!r}: cached latents are of frames without noise; set "
            "data.cache='', or no noise."
        )
    if data.mirrored and data.crops < 2:
        raise ValueError(
            f"data.mirrored=True with data.crops={data.crops}: every other crop of a clip "
            "is mirrored; give data.crops=2 or more, or data.mirrored=False."
        )
    if rates.palette_dropout == 1.0 and data.hue_shift_rate is not None:
        raise ValueError(
            f"data.hue_shift_rate={data.hue_shift_rate} with rates.palette_dropout=1: "
            "only a palette tells shifted hues; set data.hue_shift_rate to None, or lower "
            "the dropout."
        )
