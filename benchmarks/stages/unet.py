"""The UNet's forward pass as sampling runs it."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.stages import sizes
from benchmarks.stages.device import median_ms, peak_gib, random_like
from benchmarks.stages.plan import Request
from palette_vc_jax.models import functional
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.training.aot.flops import step_flops


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Time clips of each length."""
    size = sizes.choose(request.toy)
    params = random_like(functional.shapes(UNet, size.model.unet), jnp.bfloat16)
    networks = load_networks(Model(size.model, {"unet": params}))
    forward = jax.jit(networks.predict)
    for frames in size.frames:
        row = {"name": f"jax, {frames} frames", "frames": frames}
        inputs = networks.weights["unet"], *clip(size, frames)
        tflop = step_flops(forward, *inputs) / 1e12
        start = time.perf_counter()
        compiled = forward.lower(*inputs).compile()
        yield row | {"compile_s": time.perf_counter() - start, "tflop": tflop}
        ms = median_ms(lambda c=compiled, i=inputs: c(*i), size.repeats, request.toy)
        yield row | {"ms": ms, "peak_gib": peak_gib()}


def clip(size: sizes.Sizes, frames: int) -> list[jax.Array]:
    """Draw what the network sees of a clip: latents, noise level, context, ids, palette, mask."""
    config = size.model.unet
    shapes = (
        (1, frames, *size.latents, 2 * config.latent_channels),
        (1,),
        (1, 1, config.cross_attention_dim),
        (1, 3),
        (1, 3 * config.palette_colors),
        (1,),
    )
    keys = jax.random.split(jax.random.key(1), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
