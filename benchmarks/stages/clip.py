"""A complete clip through the path that `sample.py` takes: encode, embed, denoise, decode."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.stages import sizes
from benchmarks.stages.device import peak_gib, random_like
from benchmarks.stages.plan import Request
from palette_vc_jax.models import functional
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import NETWORKS, Model
from palette_vc_jax.sampling.colorize import colorize, default_settings
from palette_vc_jax.sampling.shot_settings import ShotSettings


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Color a clip of random gray frames twice."""
    size = sizes.choose(request.toy)
    params = {
        name: random_like(functional.shapes(module, getattr(size.model, name)), jnp.bfloat16)
        for name, module in NETWORKS.items()
    }
    networks = load_networks(Model(size.model, params))
    del params
    seconds = {"encode_s": 0.0, "decode_s": 0.0}
    networks = networks._replace(
        encode=_timed(networks.encode, seconds, "encode_s"),
        embed=_timed(networks.embed, seconds, "encode_s"),
        decode=_timed(networks.decode, seconds, "decode_s"),
    )
    frames = size.frames[0]
    grays = np.random.default_rng(0).random((frames, size.height, size.width), np.float32)
    settings = default_settings(size.model)
    row = {"name": f"jax, {frames} frames, {settings.sampler.steps} steps"}
    for key in ("first_s", "total_s"):
        seconds.update(encode_s=0.0, decode_s=0.0)
        start = time.perf_counter()
        for _ in colorize(networks, grays, [(0, frames)], [ShotSettings()], settings):
            pass
        total = time.perf_counter() - start
        yield row | {key: total}
    yield row | seconds | {"denoise_s": total - sum(seconds.values()), "peak_gib": peak_gib()}


def _timed(call: Callable, seconds: dict[str, float], part: str) -> Callable:
    """Add the time of each call to `seconds[part]`."""

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(call(*args))
        seconds[part] += time.perf_counter() - start
        return result

    return timed
