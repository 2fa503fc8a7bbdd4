"""Safetensors read one tensor at a time and written one tensor at a time.

A full-size UNet is 6 GB; neither side is ever held whole.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_dtypes import bfloat16
from safetensors import SafetensorError, safe_open

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
        files = json.loads(index.read_text())["weight_map"]
        paths = {file: index.parent / file for file in sorted(set(files.values()))}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index}: not an index of shards; download it again.") from None
    shards = {file: open_tensors(path) for file, path in paths.items()}
    lost = sorted(name for name, file in files.items() if name not in shards[file])
    if lost:
        raise ValueError(
            f"{index}: {len(lost)} tensors are not in the shards named, such as {lost[0]}; "
            "download the shards again."
        )
    tensors = {name: shards[file][name] for name, file in files.items()}
    return tensors, list(paths.values())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: str, progress: Callable[[int], object]
) -> None:
    """Write `tensors` as `dtype`, calling `progress(bytes)` after each.

    Raises ValueError for a value that does not fit `dtype`, as float16 ends at 65504.
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
            if kind != np.float32 and np.isinf(array).any() and np.isfinite(source).all():
                raise ValueError(
                    f"{name}: a value of {np.abs(source).max():g} does not fit {dtype}; "
                    "use float32 or bfloat16."
                )
            if array.shape != tensor.shape:
                raise ValueError(f"{name}: {array.shape} was read where {tensor.shape} was said.")
            file.write(array.tobytes())
            progress(array.nbytes)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `folder` when all is well, and vanishes otherwise.

    Raises ValueError as `check_free`.
    """
    check_free(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Raise ValueError if `folder` exists and is not empty, or where it would lie does not."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists already; give a name that is free.")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"{folder.parent}: no such folder; make it first.")
