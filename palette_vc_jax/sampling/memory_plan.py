"""Fit the work on a film into the memory of a device.

The temporaries of a stage grow with its widest feature map. How many times that map they are is
what the compilers say of SVD's networks (benchmarks/sampling_memory.py); the result is an estimate.
"""

from collections.abc import Mapping
from dataclasses import replace

import jax

from palette_vc_jax.models import functional
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.networks import dtypes
from palette_vc_jax.models.store import NETWORKS
from palette_vc_jax.sampling.colorize import ColorizeSettings
from palette_vc_jax.sampling.sampler import DEVICE_BYTES

GIB = 2**30
# The stages of coloring in their order, and the network of each.
NETWORK = {"encode": "vae", "embed": "image_encoder", "denoise": "unet", "decode": "vae"}
# Temporaries, in widest feature maps of one frame: for the call, and for each frame of it. GPUs
# decode with more than the compilers say (5.1 for each frame): on an H200 the peak was 12.8 GiB,
# and 13.1 by these numbers.
MAPS = {"encode": (0.0, 3.1), "embed": (0.0, 0.0), "denoise": (0.0, 20.5), "decode": (12.0, 5.1)}
MAPS_OF_TPUS = MAPS | {"encode": (0.0, 9.2), "denoise": (0.0, 31.0), "decode": (12.5, 5.1)}


def weights(config: ModelConfig, settings: ColorizeSettings, device: jax.Device) -> dict[str, int]:
    """Return the bytes of each network's parameters on a device.

    Args:
        config: config of the model.
        settings: see `ColorizeSettings`.
        device: chooses the type where settings do not.
    """
    types = dtypes(device, settings.dtype, settings.decode_dtype)
    held = {}
    for name, module in NETWORKS.items():
        shapes = functional.nest(functional.shapes(module, getattr(config, name)))
        kinds = functional.types(shapes, types[name])
        sizes = jax.tree.map(lambda leaf, kind: leaf.size * kind.itemsize, shapes, kinds)
        held[name] = sum(jax.tree.leaves(sizes))
    return held


def temporaries(
    config: ModelConfig, settings: ColorizeSettings, size: tuple[int, int], device: jax.Device
) -> dict[str, int]:
    """Estimate the bytes of each stage's temporaries on a device.

    Args:
        config: config of the model.
        settings: see `ColorizeSettings`.
        size: height and width of the model's frames.
        device: as for `weights`.
    """
    types = dtypes(device, settings.dtype, settings.decode_dtype)
    pixels = size[0] * size[1]
    values = {  # of the widest feature map of a frame
        "unet": pixels // config.vae.downscale**2 * config.unet.block_out_channels[0],
        "vae": pixels * config.vae.block_out_channels[0],
        "image_encoder": 0,
    }
    frames = {
        "encode": settings.encode_batch,
        "embed": 1,
        "denoise": settings.sampler.windows_per_batch * settings.sampler.window,
        "decode": settings.decode_chunk,
    }
    table = MAPS_OF_TPUS if device.platform == "tpu" else MAPS
    found = {}
    for stage, network in NETWORK.items():
        call, each = table[stage]
        maps = call + each * frames[stage]
        found[stage] = int(maps * values[network] * types[network].itemsize)
    return found


def needs(held: Mapping[str, int], temporary: Mapping[str, int], leaving: bool) -> dict[str, int]:
    """Return the bytes of each stage, from `weights` and `temporaries`.

    If networks are leaving, a stage needs the weights of its own network alone, and the film's
    arrays are in host memory. Otherwise, `sampler.DEVICE_BYTES` of them may be on the device.
    """
    if leaving:
        return {stage: size + held[NETWORK[stage]] for stage, size in temporary.items()}
    found = {stage: size + sum(held.values()) for stage, size in temporary.items()}
    return found | {"denoise": found["denoise"] + DEVICE_BYTES}


def room(settings: ColorizeSettings, device: jax.Device) -> int | None:
    """Return the bytes of a device that may be used; None if they are not known, as on the CPU."""
    if settings.memory is not None:
        return int(settings.memory * GIB)
    if device not in jax.local_devices():  # one to compile for
        return None
    return (device.memory_stats() or {}).get("bytes_limit")


def fit(
    config: ModelConfig,
    settings: ColorizeSettings,
    size: tuple[int, int],
    device: jax.Device | None = None,
) -> ColorizeSettings:
    """Return settings that fit in the memory of the devices.

    If the networks do not fit together, they leave the device while others work. If that does not
    suffice, batches get smaller, and chunks of the decoder, which then overlap more.

    Args:
        config: config of the model.
        settings: see `ColorizeSettings`.
        size: height and width of the model's frames.
        device: one of the devices; None for this host's.

    Raises:
        ValueError: if a film of this size does not fit.
    """
    device = device or jax.local_devices()[0]
    limit = room(settings, device)
    if limit is None:
        return settings
    held = weights(config, settings, device)

    def sizes(settings: ColorizeSettings) -> dict[str, int]:
        temporary = temporaries(config, settings, size, device)
        return needs(held, temporary, settings.leaving)

    if max(sizes(settings).values()) <= limit:
        return settings
    settings = replace(settings, leaving=True)
    for stage in NETWORK:
        while (needed := sizes(settings)[stage]) > limit:
            lower = _lower(stage, settings)
            if lower == settings:
                raise ValueError(
                    f"frames of {size[1]}x{size[0]} need {needed / GIB:.2f} GiB of a device by "
                    f"estimate ({stage}), and {limit / GIB:.2f} may be used; lower --short_side "
                    "or --window, or give more with --memory."
                )
            settings = lower
    return settings


def _lower(stage: str, settings: ColorizeSettings) -> ColorizeSettings:
    """Return settings with which a stage needs less memory; the same ones if there are none."""
    if stage == "encode":
        return replace(settings, encode_batch=max(1, settings.encode_batch - 1))
    if stage == "denoise":
        count = max(1, settings.sampler.windows_per_batch - 1)
        return replace(settings, sampler=replace(settings.sampler, windows_per_batch=count))
    if stage == "decode":
        least = 2 * settings.decode_context + settings.decode_fade + 1
        return replace(settings, decode_chunk=max(least, settings.decode_chunk - 1))
    return settings
