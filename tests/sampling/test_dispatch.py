"""Items are used in a thread in order, few of them wait, and no failure hangs or is lost."""

import threading

import pytest

from palette_vc_jax.sampling.dispatch import in_background


def test_items_are_used_in_order_and_few_wait():
    """If this fails, frames are written in another order, or a whole film waits in memory."""
    used, gate, taken = [], threading.Event(), []

    def use(item):
        gate.wait()
        used.append(item)

    with in_background(use, 2) as put:
        feeder = threading.Thread(target=lambda: [taken.append(put(item)) for item in range(9)])
        feeder.start()
        feeder.join(0.5)
        assert len(taken) == 3  # one is being used, two wait
        gate.set()
        feeder.join()
    assert used == list(range(9))


@pytest.mark.parametrize("count", [3, 50])  # it fails at the end, or while items are given
def test_a_failure_of_the_thread_reaches_the_caller(count):
    """If this fails, a full disk passes for success, or the run waits forever."""
    used = []

    def use(item):
        if item == 2:
            raise OSError("No space left on device")
        used.append(item)

    with pytest.raises(OSError, match="No space left"):
        with in_background(use, 2) as put:
            for item in range(count):
                put(item)
    assert used == [0, 1]


def test_a_failure_of_the_caller_drops_what_waits():
    """If this fails, a run that is stopped goes on to write what it has colored."""
    used, begun, gate = [], threading.Event(), threading.Event()

    def use(item):
        begun.set()
        gate.wait()
        used.append(item)

    with pytest.raises(KeyboardInterrupt):
        with in_background(use, 4) as put:
            for item in range(4):
                put(item)
            begun.wait()
            threading.Timer(0.2, gate.set).start()
            raise KeyboardInterrupt
    assert used == [0]
