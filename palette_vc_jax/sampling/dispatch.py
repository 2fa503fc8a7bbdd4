"""Keep the device busy: start its next piece of work before the host uses the last."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
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


@contextlib.contextmanager
def in_background(use: Callable[[T], None], ahead: int) -> Iterator[Callable[[T], None]]:
    """Call `use` on items in a thread of its own, in order, so that the caller need not wait.

    Yields a function that takes an item; it waits while `ahead` items are not used yet. At the end,
    all items have been used, unless the caller's block has failed: then those left are dropped.

    Raises:
        Exception: what `use` has raised, at the next item or at the end. Later items are dropped.
    """
    waiting: queue.Queue[tuple[T] | None] = queue.Queue(ahead)  # None is the end
    errors: list[BaseException] = []
    dropping = threading.Event()

    def work() -> None:
        while (given := waiting.get()) is not None:
            if dropping.is_set():
                continue
            try:
                use(*given)
            except BaseException as error:  # the caller's thread raises it
                errors.append(error)
                dropping.set()

    def put(item: T) -> None:
        if errors:
            raise errors[0]
        waiting.put((item,))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield put
    except BaseException:
        dropping.set()
        raise
    finally:
        waiting.put(None)
        thread.join()
    if errors:
        raise errors[0]
