"""Keep the device busy: start its next piece of work before the host uses the last."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def one_ahead(started: Iterable[T]) -> Iterator[T]:
    """Yield the items of `started` in order, each after the next one has been started.

    JAX returns from a call before the device has computed the result. If an item holds such a
    result, the device computes the next while the host reads and uses this one.
    """
    waiting: list[T] = []
    for item in started:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting
