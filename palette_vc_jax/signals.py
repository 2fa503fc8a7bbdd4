"""End a command on Ctrl-C, SIGTERM and SIGHUP, with partial files removed.

The first signal raises `Terminated` in the main thread, so that `with` blocks clean up. Python
handles signals only between instructions of the main thread, which may be in a compiler for
minutes, and it drops exceptions in callbacks such as those of the garbage collector. Therefore a
thread watches: a second signal, or SIGTERM and SIGHUP after `GRACE` seconds, end the process at
once, and a dropped exception is raised again.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from palette_vc_jax import atomic

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 10.0  # seconds after SIGTERM or SIGHUP; schedulers often send SIGKILL after 30
HINT = 2.0  # seconds after Ctrl-C until a line says how to end at once
PAUSE = 0.02  # seconds until a dropped exception is raised again, when its callback has ended
DROPPED = b"\xff"  # what `_watch` gets for a dropped exception, instead of a signal


class Terminated(KeyboardInterrupt):
    """The end of a command because of a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(message(number))
        self.number = number


def message(number: int) -> str:
    """Return the line that reports the end because of a signal."""
    return "stopped." if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}."


def exit_code(number: int) -> int:
    """Return the exit code after a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number


class Signals:
    """The signals that have come."""

    def __init__(self) -> None:
        self.number = 0  # the first signal, 0 if none has come
        self.dropped = False  # the exception was dropped, and the next call of `handle` raises it
        self.echoes = 0  # signals that this process sends itself, which `_watch` ignores

    def check(self) -> None:
        """Raise `Terminated` if a signal has come, in case its exception was dropped."""
        if self.number:
            raise Terminated(self.number)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise `Terminated` for the first signal; the thread handles a second one."""
        if self.number and not self.dropped:  # a second signal, or the echo of `wake`
            return
        self.number, self.dropped = self.number or number, False
        if _is_importing(frame):  # compiled modules that are half loaded may crash
            leave(self.number)
        raise Terminated(self.number)

    def wake(self, number: int) -> None:
        """Send a signal to the main thread."""
        self.echoes += 1
        signal.pthread_kill(threading.main_thread().ident, number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


_current: Signals | None = None


def check() -> None:
    """Raise `Terminated` if a signal has come to the command under way."""
    if _current is not None:
        _current.check()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handle `HANDLED` within the block; ignored signals, as SIGHUP under nohup, stay ignored."""
    global _current
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = _current, sys.unraisablehook
    _current = found = Signals()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # Python writes the number of a signal here immediately, also while its handler has to wait.
    descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    heard = [number for number in HANDLED if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, found.handle) for number in heard}
    sys.unraisablehook = own = _unraisable(theirs, hook)
    watcher = threading.Thread(target=_watch, args=(ours, found), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        if sys.unraisablehook is own:  # else the block has set another, for the process's end
            sys.unraisablehook = hook
        signal.set_wakeup_fd(descriptor)
        theirs.close()  # ends the thread, which may still send a signal
        watcher.join()
        ours.close()
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        _current = before


def _unraisable(watcher: socket.socket, hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    def report(args: Any) -> None:
        if isinstance(args.exc_value, Terminated):
            with contextlib.suppress(OSError):  # after the block
                watcher.send(DROPPED)
        else:
            hook(args)

    return report


def _watch(signals: socket.socket, found: Signals) -> None:
    """End the process at a second signal, or when the grace after SIGTERM or SIGHUP is over."""
    first = 0
    while True:
        try:
            got = signals.recv(1)
        except TimeoutError:
            if first != signal.SIGINT:
                leave(first)
            print(
                "stopping after the step under way; press Ctrl-C again to stop at once.",
                file=sys.stderr,
                flush=True,
            )
            signals.settimeout(None)
            continue
        if not got:
            return
        if got == DROPPED:
            time.sleep(PAUSE)
            found.dropped = True
            found.wake(found.number)
        if got[0] not in HANDLED:
            continue
        if found.echoes:
            found.echoes -= 1
            continue
        if first:
            leave(first)
        first = got[0]
        found.wake(first)  # if another thread received the signal, the main thread may sleep on
        signals.settimeout(HINT if first == signal.SIGINT else GRACE)


def leave(number: int) -> None:
    """End the process at once, without waiting for threads, and remove partial files."""
    atomic.remove_partial()
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(message(number), file=sys.stderr, flush=True)
    os._exit(exit_code(number))
