"""What a config may not say, told before clips are read or anything is compiled."""

from typing import Any

from jax.sharding import Mesh

from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.training.optimizer import make_optimizer
from palette_vc_jax.training.ranges import check_ranges


def check_run(config: Any) -> None:
    """Check what all tasks share; raises ValueError naming the first key that is wrong."""
    check_ranges(config)
    optimizer = config.optimizer
    if optimizer.decay == "cosine" and optimizer.warmup_steps > optimizer.steps:
        raise ValueError(
            f"optimizer.warmup_steps={optimizer.warmup_steps} is more than optimizer.steps="
            f"{optimizer.steps}, so nothing is left to decay; lower it."
        )
    make_optimizer(optimizer)
    if config.accumulate < 1 or config.batch_size % config.accumulate:
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


def check_vae(config: Any, model: ModelConfig) -> None:
    """Check what the VAE's task reads; raises ValueError naming the first key that is wrong."""
    data, multiple = config.data, model.vae.downscale
    for key, sides in (("size", data.size), ("patch", data.patch)):
        if any(side % multiple for side in sides):
            raise ValueError(
                f"data.{key}={sides[0]}x{sides[1]} pixels: the model {model.name!r} needs "
                f"multiples of {multiple}; round each side."
            )
    if any(patch > size for patch, size in zip(data.patch, data.size, strict=True)):
        raise ValueError(
            f"data.patch={tuple(data.patch)} is larger than data.size={tuple(data.size)} pixels; "
            "lower the one or raise the other."
        )


def check_mesh(config: Any, mesh: Mesh) -> None:
    """Check that batches divide over `mesh`; raises ValueError naming the first that does not.

    Where they do not, every device would compute all of each batch.
    """
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    way_out = f"give a multiple of {split} (mesh.data x mesh.fsdp), or a mesh with more frames."
    if config.batch_size % (config.accumulate * split):
        raise ValueError(
            f"batch_size={config.batch_size} in accumulate={config.accumulate} parts leaves "
            f"{config.batch_size / config.accumulate:g} windows for each; {way_out}"
        )
    validates = config.data.hold_out_every or config.data.get("validation_root")
    if validates and config.get("validation_clips", 0) % split:
        raise ValueError(f"validation_clips={config.validation_clips}; {way_out}")


def check_unet(config: Any, model: ModelConfig) -> None:
    """Check what the UNet's task reads; raises ValueError naming the first key that is wrong."""
    height, width = config.data.size
    if height % model.pixel_multiple or width % model.pixel_multiple:
        raise ValueError(
            f"data.size={height}x{width} pixels: the model {model.name!r} needs multiples of "
            f"{model.pixel_multiple}; round each side."
        )
    rates = config.rates
    if rates.reference_color + rates.reference_none > 1.0:
        raise ValueError(
            f"rates.reference_color={rates.reference_color} and rates.reference_none="
            f"{rates.reference_none} sum to more than 1; lower one (the rest is seen in grey)."
        )
    if config.noise_augmentation > 0.0 and config.data.cache:
        raise ValueError(
            f"noise_augmentation={config.noise_augmentation} with data.cache="
            f"{config.data.cache!r}: cached latents are of frames without noise; set "
            "data.cache='', or no noise."
        )
    if config.data.mirrored and config.data.crops < 2:
        raise ValueError(
            f"data.mirrored=True with data.crops={config.data.crops}: every other crop of a clip "
            "is mirrored; give data.crops=2 or more, or data.mirrored=False."
        )
    if rates.palette_dropout == 1.0 and config.data.turned is not None:
        raise ValueError(
            f"data.turned={config.data.turned} with rates.palette_dropout=1: turned hues can only "
            "be told by a palette; set data.turned to None, or lower the rate."
        )
