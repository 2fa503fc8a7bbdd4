"""LPIPS v0.1: how different two images look, by the features of a network.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", as the
package `lpips` 0.1.4 computes it: the mean over the image in each layer, then the sum over layers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.metrics.networks.layers import Conv, Layer, Params, Pool, run, shapes

SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)  # mean of images in [-1, 1]
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
EPS = 1e-10  # added to the norm of a pixel's features
MIN_SIDE = {"alex": 31, "vgg": 16}  # pixels per side that leave one pixel in the deepest layer


class Net(NamedTuple):
    """A classifier without its head, and the names of the layers that are compared."""

    layers: tuple[Layer, ...]
    compared: tuple[str, ...]


def _alex() -> Net:
    def conv(index: int, features: int, side: int, **other: int) -> Conv:
        return Conv(f"features.{index}", features, (side, side), norm=False, **other)

    def pool(index: int) -> Pool:
        return Pool(f"features.{index}", "max", (3, 3), 2, "VALID")

    layers = (
        conv(0, 64, 11, stride=4, padding=2),
        pool(2),
        conv(3, 192, 5),
        pool(5),
        conv(6, 384, 3),
        conv(8, 256, 3),
        conv(10, 256, 3),
    )
    return Net(layers, tuple(layer.name for layer in layers if isinstance(layer, Conv)))


def _vgg() -> Net:
    layers, compared, index = [], [], 0
    for level, (features, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        if level:
            layers.append(Pool(f"features.{index}", "max", (2, 2), 2, "VALID"))
            index += 1
        for _ in range(count):
            layers.append(Conv(f"features.{index}", features, (3, 3), norm=False))
            index += 2  # the ReLU has its own index
        compared.append(layers[-1].name)
    return Net(tuple(layers), tuple(compared))


# Layers are named as in torchvision's `alexnet` and `vgg16`.
NETS = {"alex": _alex(), "vgg": _vgg()}


def tensor_shapes(net: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a net's tensors on file: classifier, then heads `lin0` ..."""
    layers, compared = NETS[net]
    known = shapes(layers)
    heads = {f"lin{i}.kernel": known[f"{name}.bias"] for i, name in enumerate(compared)}
    return known | heads


@jax.jit
def features(params: Params, frames: jax.Array) -> tuple[jax.Array, ...]:
    """Return the features to compare: `[B, h, w, C]` per layer, of unit length along C.

    Args:
        params: from `weights.load('lpips_alex')` or `'lpips_vgg'`.
        frames: sRGB `[B, H, W, 3]` in [0, 1].

    Raises:
        ValueError: if the frames are too small for the net's pools.
    """
    name = next(net for net in NETS if set(params) == _names(net))
    if min(frames.shape[1:3]) < MIN_SIDE[name]:
        raise ValueError(
            f"frames of {frames.shape[2]}x{frames.shape[1]}; LPIPS ({name}) needs "
            f"{MIN_SIDE[name]} pixels per side: give larger frames."
        )
    layers, compared = NETS[name]
    outputs = run(layers, params, (2.0 * frames - 1.0 - SHIFT) / SCALE)
    return tuple(_unit(outputs[layer]) for layer in compared)


@jax.jit
def distance(
    params: Params, left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]
) -> jax.Array:
    """Return the distances `[B]` of two batches of images from their `features`.

    A distance is the sum over layers of the mean over pixels of sum_c w_c (left_c - right_c)^2.
    """
    total = jnp.zeros(left[0].shape[0])
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        weighted = jnp.sum(jnp.square(a - b) * params[f"lin{i}"]["kernel"], axis=-1)
        total += weighted.mean(axis=(1, 2))
    return total


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True)) + EPS)


def _names(net: str) -> set[str]:
    return {name.rpartition(".")[0] for name in tensor_shapes(net)}
