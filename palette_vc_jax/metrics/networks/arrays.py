"""Read a pickle of numpy arrays as data, without calling any function that it names."""

import io
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np

CORES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before numpy 2, and since
FLOAT = ("f4", "<")
MAX_PARTS = 10_000  # arrays and dicts


class _Type:
    """A substitute for `numpy.dtype` that stores its arguments."""

    def __init__(self, code: str, *_: Any):
        self.code = code
        self.order = None

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _Array:
    """A substitute for an array under reconstruction that stores its state."""

    state: tuple = ()

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, kind, by_columns, data = self.state
        if (kind.code, kind.order) != FLOAT:
            raise ValueError(f"values of type {kind.order}{kind.code}, not float32")
        return np.frombuffer(data, "<f4").reshape(shape, order="F" if by_columns else "C")


# Global in a pickle of arrays -> its substitute.
STAND_INS = {(core, "_reconstruct"): _Array for core in CORES}
STAND_INS |= {("numpy", "ndarray"): object, ("numpy", "dtype"): _Type}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise ValueError(f"it asks for {module}.{name}")
        return STAND_INS[module, name]


def read_arrays(data: bytes, name: str) -> dict[str, Any]:
    """Read the nested dict of float32 arrays in a pickle.

    Args:
        data: the pickle.
        name: name of its file in messages.

    Raises:
        ValueError: if the pickle is damaged or holds anything else.
    """
    try:
        value = _Reader(io.BytesIO(data)).load()
        if isinstance(value, _Array):
            raise ValueError("it holds one array without a name")
        return _arrays(value, itertools.count())
    except Exception as error:  # a damaged pickle raises exceptions of every kind
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name}: not a complete pickle of only float32 arrays ({reason}); nothing in it was "
            "executed: download it again."
        ) from None


def _arrays(value: Any, visited: Iterator[int]) -> Any:
    if next(visited) > MAX_PARTS:  # one dict may be stored once and named often
        raise ValueError(f"it holds more than {MAX_PARTS} parts")
    if isinstance(value, _Array):
        return value.array()
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"it holds {type(value).__name__} instead of named arrays")
    return {key: _arrays(part, visited) for key, part in value.items()}
