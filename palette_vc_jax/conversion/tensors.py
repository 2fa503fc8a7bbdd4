"""Safetensors read one tensor at a time and written one tensor at a time.

A full-size UNet is 6 GB; neither side is ever held whole.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_dtypes import bfloat16
from safetensors import SafetensorError, safe_open

from palette_vc_jax.files import check_regular, read_json

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": bfloat16}
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # of the file format
READABLE = {*CODES.values(), "F64", "I64"}  # I64: position ids that some files hold


class Tensor(NamedTuple):
    """A tensor that is read when it is needed."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def open_tensors(path: Path) -> dict[str, Tensor]:
    """List the tensors of a safetensors file, reading none.

    Raises ValueError for a file that is missing, not whole safetensors or quantized; nothing in
    it is ever executed.
    """
    check_regular(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: not found; the model is not whole: download or convert it again."
        )
    try:
        file = safe_open(path, framework="numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a whole safetensors file ({error}); download it again, or convert a "
            "pickle to safetensors where it came from."
        ) from None
    strange = sorted({part.get_dtype() for part in slices.values()} - READABLE)
    if strange:
        raise ValueError(
            f"{path}: holds numbers of type {', '.join(strange)}; give the model in float16, "
            "bfloat16 or float32."
        )
    return {
        name: Tensor(tuple(part.get_shape()), lambda name=name: file.get_tensor(name))
        for name, part in slices.items()
    }


def open_sharded(index: Path) -> tuple[dict[str, Tensor], list[Path]]:
    """List the tensors of a sharded model from its `*.index.json`, and the shards.

    Raises ValueError for an index that cannot be read, and for shards that are missing or lack
    tensors.
    """
    try:
        names = read_json(index)["weight_map"]
        paths = {file: index.parent / file for file in sorted(set(names.values()))}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index}: not an index of shards; download it again.") from None
    shards = {file: open_tensors(path) for file, path in paths.items()}
    lost = sorted(name for name, file in names.items() if name not in shards[file])
    if lost:
        raise ValueError(
            f"{index}: {len(lost)} tensors are not in the shards named, such as {lost[0]}; "
            "download the shards again."
        )
    tensors = {name: shards[file][name] for name, file in names.items()}
    return tensors, list(paths.values())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: str, progress: Callable[[int], object]
) -> None:
    """Write `tensors` as `dtype`, calling `progress(bytes)` after each.

    Raises ValueError for a value that is not finite or does not fit `dtype`, as float16 ends at
    65504.
    """
    kind = np.dtype(DTYPES[dtype])
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + int(np.prod(tensor.shape)) * kind.itemsize
        header[name] = {
            "dtype": CODES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            source = tensor.read()
            with np.errstate(over="ignore"):
                array = np.ascontiguousarray(source, kind)
            if not np.isfinite(source).all():
                raise ValueError(
                    f"{name}: holds values that are not finite; download or train the model again."
                )
            if kind != np.float32 and np.isinf(array).any():
                raise ValueError(
                    f"{name}: a value of {np.abs(source).max():g} does not fit {dtype}; "
                    "use float32 or bfloat16."
                )
            if array.shape != tensor.shape:
                raise ValueError(f"{name}: {array.shape} was read where {tensor.shape} was said.")
            file.write(array.tobytes())
            progress(array.nbytes)
