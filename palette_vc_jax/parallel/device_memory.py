"""The memory of the devices: how much JAX takes, and what is said when it is too small."""

import contextlib
import os
import re
from collections.abc import Iterator

import jax

FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


def use_most_memory() -> None:
    """Let JAX take more of a GPU than its 75 %; call it before JAX looks for devices.

    The rest is for the CUDA context and the libraries' workspaces. A value that is set is kept.
    """
    os.environ.setdefault(FRACTION, "0.92")


@contextlib.contextmanager
def device_memory(work: str, advice: str) -> Iterator[None]:
    """Turn an error of JAX that the device's memory is too small into ValueError.

    Args:
        work: what does not fit, for the message.
        advice: settings that need less memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        size = re.search(r"\d+ bytes|[\d.]+ ?[KMGT]i?B|[\d.]+[KMGT]\b", str(error))
        wanted = f", which could not allocate {size[0]}" if size else ""
        raise ValueError(
            f"{work} does not fit in the memory of the device{wanted}; {advice}."
        ) from error
