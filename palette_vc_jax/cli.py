"""How every command ends: one line for what went wrong, and the exit code that says whose it is.

0 done; 1 a failure, such as a full disk; 2 the user's mistake; 75 told to leave by SIGTERM, with
everything saved: the same command goes on; 130 stopped with Ctrl-C.
"""

import contextlib
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

INTERVAL = 30.0  # seconds between progress lines where stderr is no terminal
FAILURE, MISTAKE, PREEMPTED, STOPPED = 1, 2, 75, 130
KNOWN = (ValueError, OSError, FloatingPointError, MemoryError)  # errors that end in one line


def run(main: Callable[[], object]) -> None:
    """Call `main` and exit: ValueError is a user's mistake, OSError a failure of the machine.

    Any other exception is a defect of the program and keeps its traceback. Warnings are printed
    in one line each.
    """
    warnings.formatwarning = _format_warning
    try:
        main()
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(STOPPED)
    except KNOWN as error:
        print(message(error), file=sys.stderr, flush=True)
        sys.exit(exit_code(error))


def _format_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


def message(error: BaseException) -> str:
    """Return the line that reports an error of `KNOWN`."""
    return " ".join(f"error: {error}".split())


def exit_code(error: BaseException) -> int:
    """Return the exit code that belongs to an error."""
    return MISTAKE if isinstance(error, ValueError) else FAILURE


def silence_cleanup() -> None:
    """Print nothing that libraries raise while they clean up after an error that was reported."""
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
) -> tqdm:
    """Return a progress bar over `items`; in a log file it is a line each `INTERVAL` seconds."""
    given = dict(desc=title, unit=unit, total=total, initial=initial, disable=hidden) | options
    if sys.stderr.isatty():
        return tqdm(items, **given)
    lines = dict(file=_Lines(), mininterval=INTERVAL, delay=INTERVAL, ncols=0)
    return tqdm(items, **given, **lines)


@contextlib.contextmanager
def reporting(
    title: str, unit: str, total: int | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar; yields a function that takes (done, total)."""
    with progress(None, title, unit, total) as bar:
        yield lambda done, total: bar.update(done - bar.n)


class _Lines:
    """A file for tqdm that prints each redrawn line as a new line."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


def local_path(text: str, flag: str) -> Path:
    """Return `text` as a path of this machine.

    Raises ValueError for a remote address such as gs://bucket/run: a path of that name would be
    a local folder, one on each host.
    """
    if remote := re.match(r"([a-z][a-z0-9+.-]+)://", text, re.IGNORECASE):
        raise ValueError(
            f"{flag}={text}: {remote[1]}:// is not read or written; mount the bucket (gcsfuse, "
            "for instance) or a file share on every host, and give its path."
        )
    return Path(text)
