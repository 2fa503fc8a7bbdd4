"""The memory of the devices: what is said when it is too small."""

import contextlib
import re
from collections.abc import Iterator

import jax


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
        wanted = f", which was asked for {size[0]}" if size else ""
        raise ValueError(
            f"{work} does not fit in the memory of the device{wanted}; {advice}."
        ) from error
