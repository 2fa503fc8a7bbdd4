"""Read and write safetensors one tensor at a time, because a full-size UNet has 6 GB."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_dtypes import bfloat16
from safetensors import SafetensorError, safe_open

from palette_vc_jax.files import check_regular, read_json

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": bfloat16}
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # codes of the file format
READABLE = {*CODES.values(), "F64", "I64"}  # I64 is the type of position ids in some files


class Tensor(NamedTuple):
    """A tensor that is read on demand."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def open_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file without reading them.

    Raises:
        ValueError: if the file is missing, is not complete safetensors, or is quantized.
    """
    check_regular(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: not found; the model is incomplete: download or convert it again."
        )
    try:
        file = safe_open(path, framework="numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a complete safetensors file ({error}); download it again, or get the "
            "model's safetensors if this is a pickle."
        ) from None
    unknown = sorted({part.get_dtype() for part in slices.values()} - READABLE)
    if unknown:
        raise ValueError(
            f"{path}: holds values of type {', '.join(unknown)}; give the model in float16, "
            "bfloat16 or float32."
        )
    return {
        name: Tensor(tuple(part.get_shape()), lambda name=name: file.get_tensor(name))
        for name, part in slices.items()
    }


def open_sharded(index: Path) -> tuple[dict[str, Tensor], list[Path]]:
    """Return the tensors of a sharded model from its `*.index.json`, and the shards.

    Raises:
        ValueError: if the index cannot be read or names a file of another folder, or if shards
            or tensors are missing.
    """
    try:
        names = read_json(index)["weight_map"]
        paths = {file: index.parent / file for file in sorted(set(names.values()))}
        if any(Path(file).name != file for file in paths):
            raise ValueError("names a file of another folder")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index}: not an index of shards; download it again.") from None
    shards = {file: open_tensors(path) for file, path in paths.items()}
    lost = sorted(name for name, file in names.items() if name not in shards[file])
    if lost:
        raise ValueError(
            f"{index}: {len(lost)} tensors are not in their shards, such as {lost[0]}; download "
            "the shards again."
        )
    tensors = {name: shards[file][name] for name, file in names.items()}
    return tensors, list(paths.values())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: str, progress: Callable[[int], object]
) -> None:
    """Write `tensors` as `dtype`, and call `progress(bytes)` after each.

    Raises:
        ValueError: if a value is not finite, or is out of range (65504 is float16's maximum).
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
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes
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
                raise ValueError(f"{name}: read shape {array.shape}, expected {tensor.shape}.")
            file.write(array.tobytes())
            progress(array.nbytes)
