"""Leave on SIGTERM to any process of a run, and when another process fails.

Between steps the loop saves and leaves; all processes agree on the step. Where the main thread
cannot look, in compilation above all, a thread of its own ends the process in time: schedulers
follow up with SIGKILL, often after 30 seconds.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import jax

from palette_vc_jax import cli
from palette_vc_jax.parallel import processes

GRACE = 15.0  # seconds that work which cannot be interrupted may take on
# Keys that processes publish: the step to leave after, and that they leave at once.
LEAVE_AFTER, LEAVE_NOW = "leave-after", "leave-now"
POLL = 0.5  # seconds
MAIN_FIRST = 1.0  # seconds in which the main thread may report another process' error itself


class Notice:
    """Whether SIGTERM has come, and what to do about it.

    `grace` is the time in seconds after which the process leaves, whatever it is doing; None
    leaves it to the loop, which asks `leaves_after` after each step.
    """

    def __init__(self) -> None:
        self.received = threading.Event()
        self.grace: float | None = 0.0
        self.several = False
        self._agreed: int | None = None

    def joined(self) -> None:
        """Note that the processes have joined, and take SIGTERM back from JAX."""
        self.several = jax.distributed.is_initialized()
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    def leaves_after(self, step: int) -> bool:
        """Return whether the run ends after `step`: the same in every process.

        All processes call this after each step, when the loss of the step before is known. None is
        more than one step ahead of another then, so all of them see what is published for two
        steps later.
        """
        if not self.several:
            return self.received.is_set()
        if self.received.is_set():
            processes.publish(LEAVE_AFTER, str(step + 2))
        if self._agreed is None and (step_after := processes.published(LEAVE_AFTER)):
            self._agreed = int(step_after)
        return self._agreed is not None and step >= self._agreed

    @contextlib.contextmanager
    def busy(self, grace: float = GRACE) -> Iterator[None]:
        """Leave after `grace` seconds within the block, which does not look for SIGTERM."""
        before, self.grace = self.grace, grace
        try:
            yield
        finally:
            self.grace = before


@contextlib.contextmanager
def listening() -> Iterator[Notice]:
    """Listen for SIGTERM, and for the end of other processes, within the block."""
    notice, ended = Notice(), threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # Python runs handlers between bytecode instructions; the descriptor is written immediately.
    descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, lambda number, frame: notice.received.set())
    watcher = threading.Thread(target=_watch, args=(ours, descriptor, notice, ended), daemon=True)
    watcher.start()
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(descriptor)
        ended.set()
        watcher.join()  # a thread that is within JAX when the interpreter ends aborts the process
        ours.close()
        theirs.close()


def _watch(signals: socket.socket, others: int, notice: Notice, ended: threading.Event) -> None:
    """End the process when its grace after SIGTERM is over, or when another process has ended.

    The main thread may be in a collective that will never end. Other signals are passed on to the
    descriptor `others`, -1 for none.
    """
    signals.settimeout(POLL)
    came: float | None = None
    while not ended.wait(0.0 if came is None else POLL):
        if came is None and _terminated(signals, others):
            came = time.monotonic()
            notice.received.set()
        several = notice.several
        if several and (failed := processes.failure()) and not ended.wait(MAIN_FIRST):
            processes.leave(cli.exit_code(failed), cli.message(failed))
        grace = notice.grace
        over = came is not None and grace is not None and time.monotonic() - came >= grace
        if over and several:
            processes.publish(LEAVE_NOW, "1")
        if over or (several and processes.published(LEAVE_NOW)):
            processes.leave(
                cli.PREEMPTED,
                "terminated before the step under way was done; the same command resumes from the "
                "last checkpoint.",
            )


def _terminated(signals: socket.socket, others: int) -> bool:
    """Wait for a signal, `POLL` seconds at most, and return whether it is SIGTERM."""
    try:
        number = signals.recv(1)
    except TimeoutError:
        return False
    if number == bytes([signal.SIGTERM]):
        return True
    if others >= 0:
        os.write(others, number)
    return False
