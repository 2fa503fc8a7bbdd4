"""Compile the networks as sampling runs them, for TPUs or GPUs that are not there."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from palette_vc_jax.models import functional
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.networks import dtypes, meshes, programs
from palette_vc_jax.models.store import NETWORKS
from palette_vc_jax.sampling.colorize import ColorizeSettings
from palette_vc_jax.sampling.memory_plan import NETWORK
from palette_vc_jax.sampling.sampler import velocity
from palette_vc_jax.training.aot.report import GIB, Report, compile_program, fits

STAGES = tuple(NETWORK)


def compile_stage(
    stage: str,
    config: ModelConfig,
    settings: ColorizeSettings,
    size: tuple[int, int],
    devices: Sequence[Any],
    windows: int,
) -> Report:
    """Compile the network of one stage of coloring a film.

    Args:
        stage: one of `STAGES`.
        config: config of the model.
        settings: see `ColorizeSettings`; `devices` is not read.
        size: height and width of the model's frames.
        devices: from `targets.topology_devices`.
        windows: windows of the film's longest run of shots.

    Raises MemoryError if the TPU compiler finds that the stage does not fit, in its words.
    """
    batches = -(-windows // settings.sampler.windows_per_batch)
    unet, other = meshes(devices, batches)
    types = dtypes(devices[0], settings.dtype, settings.decode_dtype)
    network = NETWORK[stage]
    mesh = unet if network == "unet" else other
    place = NamedSharding(mesh, PartitionSpec())

    def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    shapes = functional.shapes(NETWORKS[network], getattr(config, network))
    nested = functional.nest(shapes)
    params = jax.tree.map(
        lambda leaf, kind: array(*leaf.shape, dtype=kind),
        nested,
        functional.types(nested, types[network]),
    )
    inputs = _inputs(stage, config, settings, size, mesh, array)
    call = programs(config, settings.attention)
    if stage == "denoise":
        program, arguments = velocity, (call.predict, params, *inputs)
    else:
        network_of = {"encode": call.encode, "embed": call.embed, "decode": call.decode}
        program, arguments = jax.jit(network_of[stage]), (params, *inputs)
    return compile_program(program, arguments, mesh, functional.count(shapes))


def _inputs(
    stage: str,
    config: ModelConfig,
    settings: ColorizeSettings,
    size: tuple[int, int],
    mesh: Mesh,
    array: Any,
) -> tuple[Any, ...]:
    """Return the shapes of what a stage's network is called with, besides its parameters."""
    height, width = size
    shards = mesh.shape["data"]
    latents = height // config.vae.downscale, width // config.vae.downscale
    channels, tower = config.vae.latent_channels, config.image_encoder
    if stage == "encode":
        return (array(shards * settings.encode_batch, height, width, 3),)
    if stage == "embed":
        return (array(1, height, width, 3),)
    if stage == "decode":
        return (array(shards, settings.decode_chunk, *latents, channels),)
    count = shards * settings.sampler.windows_per_batch
    film = array(count, settings.sampler.window, *latents, channels)
    context = array(count, tower.context_length, tower.projection_dim)
    palette = array(count, 3 * config.unet.palette_colors)
    return (film, film, None, array(3), context, palette, array(count), array())


def table(kind: str, found: dict[str, Report | str]) -> str:
    """Lay out what `compile_stage` found for the stages of a film on devices of a kind.

    A text stands for a report where the compiler refused a stage; it says why.
    """
    rows = [("stage", "weights and inputs", "temporaries", "needed", "TFLOP", "fits")]
    for stage, report in found.items():
        if isinstance(report, str):
            rows.append((stage, "", "", "", "", f"no: {report}"))
            continue
        sizes = (report.arguments, report.temporaries, report.needed)
        cells = [f"{size / GIB:.2f} GiB" for size in sizes]
        rows.append((stage, *cells, f"{report.flops / 1e12:.1f}", "yes" if fits(report) else "no"))
    lines = ["{:<10}{:>20}{:>14}{:>12}{:>9}  {}".format(*row) for row in rows]
    return "\n".join([f"{kind}, for each device:", *lines])
