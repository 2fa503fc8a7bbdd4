"""Time the full-size UNet on a CPU beside that of diffusers, in turns in one run.

    python benchmarks/unet_speed.py

Both have random weights in float32 (6 GB each) and see 4 frames of 32x32 latents. Prints the times
of each turn, and the ratio of the medians. Run it while the machine is idle.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import jax
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stages.device import random_like
from palette_vc_jax import cli
from palette_vc_jax.conversion.unet import write_unet_config
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models import functional
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.parallel.xla_flags import set_xla_flags

FRAMES, SIDE = 4, 32


def ours() -> Callable[[], Any]:
    """Return a call of this project's UNet that waits for its result."""
    model = model_config.svd()
    params = random_like(functional.shapes(UNet, model.unet))
    networks = load_networks(Model(model, {"unet": params}))
    shapes = (
        (1, FRAMES, SIDE, SIDE, 2 * model.unet.latent_channels),
        (1,),
        (1, 1, model.unet.cross_attention_dim),
        (1, 3),
        (1, 3 * model.unet.palette_colors),
        (1,),
    )
    inputs = [jax.random.normal(jax.random.key(1), shape) for shape in shapes]
    weights = networks.weights["unet"]
    predict = jax.jit(networks.predict)
    return lambda: jax.block_until_ready(predict(weights, *inputs))


def theirs() -> Callable[[], Any]:
    """Return a call of diffusers' UNet."""
    config = model_config.svd().unet
    values = write_unet_config(config, FRAMES)
    network = diffusers.UNetSpatioTemporalConditionModel.from_config(values).eval()
    shapes = (
        (1, FRAMES, 2 * config.latent_channels, SIDE, SIDE),
        (1,),
        (1, 1, config.cross_attention_dim),
        (1, 3),
    )
    inputs = [torch.randn(shape) for shape in shapes]

    def call() -> Any:
        with torch.inference_mode():
            return network(*inputs)

    return call


def main(argv: Sequence[str] | None = None) -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="timed calls of each (5)")
    options = parser.parse_args(argv)
    calls = {"this project": ours(), "diffusers": theirs()}
    for call in calls.values():
        call()  # compiles, and touches the memory
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.turns):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        print(f"{name}: {' '.join(f'{one:.2f}' for one in seconds)} s")
    first, second = (statistics.median(seconds) for seconds in times.values())
    print(f"ratio of the medians: {first / second:.2f}")


if __name__ == "__main__":
    set_xla_flags()
    cli.run(main)
