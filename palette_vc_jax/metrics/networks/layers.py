"""Networks for images and clips as tables of layers, and the function that runs them.

Arrays are channels last: images `[B, H, W, C]`, clips `[B, T, H, W, C]`. Windows and strides list
the axes between B and C, in order. Everything is float32, on devices that round products too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Params = Mapping[str, Mapping[str, jax.Array]]  # layer -> 'kernel' and 'bias', norms folded in
NORM_EPS = 1e-3  # epsilon of every batch norm


class Conv(NamedTuple):
    """A convolution, followed by its batch norm and ReLU."""

    name: str
    features: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: str | int = "SAME"  # as in TensorFlow; 'VALID'; or pixels on every side
    norm: bool = True  # False: a bias instead


class Pool(NamedTuple):
    """The maximum or the mean of each window; padding does not count."""

    name: str
    kind: str  # 'max' or 'mean'
    window: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: str | int = "SAME"


class Mixed(NamedTuple):
    """Branches that read the same input; their outputs are concatenated along the channels.

    Branches may begin with the same layers, by name; the compiler computes these once.
    """

    name: str
    branches: tuple[tuple[Conv | Pool, ...], ...]


Layer = Conv | Pool | Mixed


def run(layers: Sequence[Layer], params: Params, x: jax.Array) -> dict[str, jax.Array]:
    """Run layers one after another; return the output of each by name, in order."""
    outputs = {}
    for layer in layers:
        x = outputs[layer.name] = _apply(layer, params, x)
    return outputs


def shapes(
    layers: Sequence[Layer],
    channels: int = 3,
    norm: Sequence[str] = ("scale", "bias", "mean", "var"),
) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors that `layers` have on file.

    Args:
        layers: layers of one network.
        channels: channels of the network's input.
        norm: tensors of each batch norm.
    """
    result, _ = _shapes(layers, channels, norm)
    return result


def fold(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Convert the tensors of a file, `layer.kernel`, `layer.bn.mean`, ..., to `Params`.

    A convolution k and its norm become one convolution: with s = scale / sqrt(var + eps), its
    kernel is k s and its bias is bias - mean s. Computed in float64.
    """
    result = {}
    for name, kernel in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf != "kernel":
            continue
        own = {
            key: tensors[f"{layer}.{key}"].astype(np.float64)
            for key in ("bias", "bn.scale", "bn.bias", "bn.mean", "bn.var")
            if f"{layer}.{key}" in tensors
        }
        if "bn.var" in own:
            scale = own.get("bn.scale", 1.0) / np.sqrt(own["bn.var"] + NORM_EPS)
            own["bias"] = own["bn.bias"] - own["bn.mean"] * scale
            kernel = kernel.astype(np.float64) * scale
        arrays = {"kernel": kernel} | ({"bias": own["bias"]} if "bias" in own else {})
        result[layer] = {key: value.astype(np.float32) for key, value in arrays.items()}
    return result


def convolve(
    x: jax.Array, layer: Mapping[str, jax.Array], stride: int = 1, padding: str | int = "SAME"
) -> jax.Array:
    """Convolve with a layer's kernel and add its bias.

    For clips, the taps of the kernel in time become channels of a convolution of images: XLA's
    own 3-D convolution takes up to six times as long on a CPU.
    """
    kernel = layer["kernel"]
    if kernel.ndim == 5:
        taps, height, width, _, features = kernel.shape
        x = jnp.concatenate(list(_shifted(x, 1, taps, stride, padding, 0.0)), axis=-1)
        kernel = jnp.moveaxis(kernel, 0, 2).reshape(height, width, -1, features)
    images = x.reshape(-1, *x.shape[-3:])  # [B*T, H, W, taps*C]
    sides = zip(images.shape[1:3], kernel.shape[:2], strict=True)
    y = jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        [_pads(side, window, stride, padding) for side, window in sides],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    return (y + layer["bias"]).reshape(*x.shape[:-3], *y.shape[1:])


def pool(x: jax.Array, layer: Pool) -> jax.Array:
    """Pool axis by axis, as maxima or sums of shifted slices.

    For strongly overlapping windows on a CPU, this takes a seventh of the time of XLA's pools.
    """
    if layer.kind == "max":
        return _slide(x, layer, -jnp.inf, jnp.maximum)
    sums = _slide(x, layer, 0.0, jnp.add)
    return sums / _slide(jnp.ones((1, *x.shape[1:-1], 1), x.dtype), layer, 0.0, jnp.add)


def resize(frames: jax.Array, height: int, width: int) -> jax.Array:
    """Resize `[..., H, W, C]` bilinearly: pixel centers at halves, no antialiasing.

    The same as `torch.nn.functional.interpolate(mode='bilinear', align_corners=False)`, which
    computes its sampling positions in float32; so does this.
    """
    for axis, size in ((-3, height), (-2, width)):
        given = frames.shape[axis]
        if given == size:
            continue
        step = np.float64(np.float32(given / size))
        positions = (step * (np.arange(size) + 0.5) - 0.5).clip(0.0).astype(np.float32)
        below = np.minimum(positions.astype(np.int32), given - 1)
        above = np.minimum(below + 1, given - 1)
        share = (positions - below).reshape(-1, *(1,) * (-1 - axis))
        low, high = (jnp.take(frames, index, axis=axis) for index in (below, above))
        frames = low * (1 - share) + high * share
    return frames


def _apply(layer: Layer, params: Params, x: jax.Array, within: str = "") -> jax.Array:
    match layer:
        case Conv():
            weights = params[within + layer.name]
            return jax.nn.relu(convolve(x, weights, layer.stride, layer.padding))
        case Pool():
            return pool(x, layer)
        case Mixed():
            outputs = []
            for branch in layer.branches:
                y = x
                for part in branch:
                    y = _apply(part, params, y, f"{layer.name}.")
                outputs.append(y)
            return jnp.concatenate(outputs, axis=-1)


def _shapes(
    layers: Sequence[Layer], channels: int, norm: Sequence[str], within: str = ""
) -> tuple[dict[str, tuple[int, ...]], int]:
    result: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        name = within + layer.name
        match layer:
            case Conv():
                result[f"{name}.kernel"] = (*layer.kernel, channels, layer.features)
                channels = layer.features
                leaves = [f"bn.{leaf}" for leaf in norm] if layer.norm else ["bias"]
                result |= {f"{name}.{leaf}": (channels,) for leaf in leaves}
            case Mixed():
                branches = [_shapes(b, channels, norm, f"{name}.") for b in layer.branches]
                for branch, _ in branches:
                    result |= branch
                channels = sum(out for _, out in branches)
    return result, channels


def _slide(x: jax.Array, layer: Pool, fill: float, join: Any) -> jax.Array:
    strides = (layer.stride,) * len(layer.window) if isinstance(layer.stride, int) else layer.stride
    for axis, (window, stride) in enumerate(zip(layer.window, strides, strict=True), start=1):
        first, *others = _shifted(x, axis, window, stride, layer.padding, fill)
        x = first
        for other in others:
            x = join(x, other)
    return x


def _shifted(
    x: jax.Array, axis: int, window: int, stride: int, padding: str | int, fill: float
) -> Iterator[jax.Array]:
    """Yield, for each position in the window, the values at it in all windows along `axis`."""
    pads = _pads(x.shape[axis], window, stride, padding)
    x = jnp.pad(x, [pads if i == axis else (0, 0) for i in range(x.ndim)], constant_values=fill)
    last = x.shape[axis] - window
    for position in range(window):
        yield jax.lax.slice_in_dim(x, position, last + position + 1, stride, axis)


def _pads(size: int, window: int, stride: int, padding: str | int) -> tuple[int, int]:
    """Return the padding before and after an axis; TensorFlow's 'SAME' puts the odd one after."""
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    return padding, padding
