"""Run commands: report errors in one line, set the exit code, and show progress.

Exit codes: 0 success; 1 a failure, such as a full disk; 2 a user error; 75 training stopped by
SIGTERM with everything saved, so that the same command resumes; 130 stopped with Ctrl-C, 143 by
SIGTERM, 129 by SIGHUP.
"""

import contextlib
import errno
import gc
import io
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from palette_vc_jax import signals

if TYPE_CHECKING:  # `run` handles signals, so little is imported before it
    from tqdm import tqdm

# New objects between searches for cycles of dead ones. Tracing a network makes millions that live:
# with Python's 700, a short training run spent a seventh of its processor time on the searches.
COLLECT_EVERY = 10_000
INTERVAL = 30.0  # seconds between progress lines if stderr is not a terminal
FAILURE, MISTAKE, PREEMPTED, STOPPED = 1, 2, 75, 130
# Errors of paths that the user has given: missing, too long, or of another kind.
WRONG_NAMES = {errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
KNOWN = (ValueError, OSError, FloatingPointError, MemoryError)  # errors reported in one line


def run(main: Callable[[], object]) -> None:
    """Call `main`, and report an error of `KNOWN` in one line with its exit code.

    ValueError and a wrong path are user errors, the others are failures of the machine. Any other
    exception is a bug and keeps its traceback. Each warning is printed in one line.
    """
    warnings.formatwarning = _format_warning
    gc.set_threshold(COLLECT_EVERY)
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does with names that are not UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with signals.handled():
            try:
                main()
            except Exception:
                signals.check()  # a library may have turned the signal into an error of its own
                raise
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal may be gone
            print_line("; ".join([signals.message(number), *notes(error)]), sys.stderr)
        sys.exit(signals.exit_code(number))
    except KNOWN as error:
        print_line(message(error), sys.stderr)
        sys.exit(exit_code(error))


def _format_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {escaped(str(message))}\n"


def message(error: BaseException) -> str:
    """Return the line that reports an error of `KNOWN`."""
    return escaped("; ".join([f"error: {error}", *notes(error)]))


def escaped(text: str) -> str:
    r"""Return a text as one line that moves no cursor, in which a newline in a name is `\n`."""
    codes = (
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text.strip()
    )
    return "".join(codes)


def print_line(text: str, stream: TextIO | None = None) -> None:
    """Print a text that may hold names of files, as one line; to stdout by default."""
    print(escaped(text), file=stream or sys.stdout, flush=True)


def notes(error: BaseException) -> list[str]:
    """Return the notes that were added to an exception."""
    return getattr(error, "__notes__", [])


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    named_wrongly = isinstance(error, OSError) and error.errno in WRONG_NAMES
    return MISTAKE if isinstance(error, ValueError) or named_wrongly else FAILURE


def silence_cleanup() -> None:
    """Hide exceptions that libraries raise during cleanup after an error that was reported."""
    sys.unraisablehook = lambda *_: None
    threading.excepthook = lambda *_: None


def progress(
    items: Iterable[Any] | None = None,
    title: str = "",
    unit: str = "it",
    total: int | None = None,
    initial: int = 0,
    hidden: bool = False,
    **options: Any,
) -> "tqdm":
    """Return a progress bar over `items`, or one line per `INTERVAL` seconds without a terminal.

    Args:
        items: iterated by the bar; None if the caller updates it.
        title: text before the bar.
        unit: name of one item.
        total: number of items, if known.
        initial: number of items that are already done.
        hidden: show nothing.
        options: further options of `tqdm`.
    """
    from tqdm import tqdm

    given = (
        dict(desc=escaped(title), unit=unit, total=total, initial=initial, disable=hidden) | options
    )
    if sys.stderr.isatty():
        return tqdm(items, **given)
    lines = dict(file=_Lines(), mininterval=INTERVAL, delay=INTERVAL, ncols=0)
    return tqdm(items, **given, **lines)


@contextlib.contextmanager
def reporting(
    title: str, unit: str, total: int | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar, and yield a function that updates it with (done, total)."""
    with progress(None, title, unit, total) as bar:

        def report(done: int, total: int | None) -> None:
            signals.check()
            bar.update(done - bar.n)

        yield report


class _Lines:
    """A file for tqdm that prints each redrawn line as a new line."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


def local_path(text: str, flag: str) -> Path:
    """Return `text` as a local path.

    Args:
        text: value of a flag.
        flag: name of the flag, for the message.

    Raises:
        ValueError: if `text` is a remote address such as gs://bucket/run, which would become a
            local folder on each host.
    """
    if remote := re.match(r"([a-z][a-z0-9+.-]+)://", text, re.IGNORECASE):
        raise ValueError(
            f"{flag}={text}: {remote[1]}:// is not supported; mount the bucket (with gcsfuse, for "
            "example) or a file share on every host, and give its local path."
        )
    return Path(text)
