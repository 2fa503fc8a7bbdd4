"""Time the metric networks against PyTorch's form of them: same weights, same inputs, one run.

    python benchmarks/metric_speed.py

What is timed is from frames as numpy arrays to distances or logits as numpy arrays. The two sides
take turns; each row has the least time of either. PyTorch's networks are as their packages have
them: batch norms apart from the convolutions, channels first. Weights are those of the cache
folder, or random where they are missing: the speed is the same.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Threads of OpenMP that wait by spinning lose many times over when another process wants a core;
# those that sleep do not, and are no slower on a quiet machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import torch
import torch_networks
from safetensors.numpy import load_file

from palette_vc_jax import cli
from palette_vc_jax.metrics.networks import i3d, inception, lpips, weights
from palette_vc_jax.metrics.networks.layers import fold

LIMIT = 1.3  # JAX over PyTorch, at most


class Row(NamedTuple):
    """One comparison."""

    name: str
    jax: Callable[[], np.ndarray]
    torch: Callable[[], np.ndarray]


def tensors(network: str, folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Read a network's weights, or make random ones of their shapes; says which."""
    if weights.missing(network, folder) is None:
        return load_file(weights.file_of(network, folder)), "published"
    rng = np.random.default_rng(0)
    result = {}
    for name, shape in weights.SOURCES[network].shapes().items():
        values = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            values *= np.float32(np.sqrt(2.0 / np.prod(shape[:-1])))  # keeps a signal's size
        result[name] = 0.5 + np.abs(values) if name.endswith((".var", ".scale")) else values
    return result, "random"


def params(given: dict[str, np.ndarray]) -> dict[str, dict[str, jax.Array]]:
    """Return weights as they lie on file as the networks take them."""
    return jax.tree.map(jax.numpy.asarray, fold(given))


def torch_pictures(frames: np.ndarray) -> torch.Tensor:
    """Return `[..., H, W, C]` as torch's `[..., C, H, W]`, in memory too."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


def lpips_row(net: str, size: tuple[int, int, int], folder: Path) -> Row:
    """Compare LPIPS of `size` = pairs, height, width."""
    given, kind = tensors(f"lpips_{net}", folder)
    ours, theirs = params(given), torch_networks.lpips(net, given)
    left, right = np.random.default_rng(1).random((2, *size, 3), np.float32)
    return Row(
        f"LPIPS {net}, pairs of {size[1]}x{size[2]}, {size[0]} at a time, {kind} weights",
        lambda: lpips.distance(ours, lpips.features(ours, left), lpips.features(ours, right)),
        lambda: theirs(*map(torch_pictures, (left, right)), normalize=True)[:, 0, 0, 0],
    )


def i3d_row(size: tuple[int, int, int], folder: Path) -> Row:
    """Compare I3D on one clip of `size` = frames, height, width."""
    given, kind = tensors("i3d", folder)
    ours, theirs = params(given), torch_networks.I3D(given)
    film = np.random.default_rng(1).random((*size, 3), np.float32)
    return Row(
        f"I3D, {size[0]} frames of {size[1]}x{size[2]}, {kind} weights",
        lambda: i3d.logits(ours, i3d.prepare(film)[None]),
        lambda: theirs(torch_pictures(film)[None]),
    )


def inception_row(size: tuple[int, int, int], folder: Path) -> Row:
    """Compare pytorch-fid's Inception on `size` = frames, height, width."""
    given, kind = tensors("inception_pytorch_fid", folder)
    ours, theirs = params(given), torch_networks.inception(given)
    frames = np.random.default_rng(1).random((*size, 3), np.float32)
    return Row(
        f"Inception (pytorch-fid), {size[0]} frames of {size[1]}x{size[2]}, {kind} weights",
        lambda: inception.features(ours, frames),
        lambda: theirs(torch_pictures(frames))[0][:, :, 0, 0],
    )


def timed(function: Callable[[], object]) -> tuple[float, np.ndarray]:
    """Return the time in ms of one call, and its result."""
    start = time.perf_counter()
    result = np.asarray(function())
    return 1e3 * (time.perf_counter() - start), result


def main(argv: list[str] | None = None) -> None:
    """Time and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each")
    parser.add_argument("--weights", type=Path, default=weights.FOLDER, help="folder of weights")
    args = parser.parse_args(argv)
    print("| network, input | JAX, ms | PyTorch, ms | JAX / PyTorch | difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    rows = (
        lpips_row("alex", (1, 480, 854), args.weights),
        lpips_row("alex", (16, 64, 64), args.weights),
        lpips_row("vgg", (1, 240, 426), args.weights),
        i3d_row((16, 224, 224), args.weights),
        i3d_row((16, 480, 854), args.weights),
        inception_row((8, 480, 854), args.weights),
    )
    slow = []
    with torch.inference_mode():
        for row in rows:
            times = []
            for _ in range(args.rounds + 1):  # the first compiles
                (ours, left), (theirs, right) = timed(row.jax), timed(row.torch)
                times.append((ours, theirs))
            ours, theirs = np.min(times[1:], axis=0)
            error = np.abs(left - right).max() / np.abs(right).max()
            print(
                f"| {row.name} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} | {error:.0e} |",
                flush=True,
            )
            if ours > LIMIT * theirs:
                slow.append(row.name)
    print(
        f"{os.cpu_count()} {platform.machine()} cores, jax {jax.__version__}, torch "
        f"{torch.__version__}; {'; '.join(slow) or 'none'} beyond a ratio of {LIMIT}."
    )


if __name__ == "__main__":
    cli.run(main)
