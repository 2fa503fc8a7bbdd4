"""The folder of a run: one run at a time, seen by all processes."""

import contextlib
import fcntl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import jax

from palette_vc_jax.parallel import processes

LOCK = ".lock"
SEEN_WITHIN = 30.0  # seconds until a file written on one host shows on the others


def has_checkpoints(folder: Path) -> bool:
    """Return whether `folder` is what `train.py` calls a workdir."""
    return (folder / "checkpoints").is_dir()


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make `workdir` and keep other runs out; the lock ends with the process, however it ends.

    Raises ValueError in all processes if another run uses the folder, if it cannot be written, or
    if not every process sees it.
    """
    with contextlib.ExitStack() as stack:
        token = uuid.uuid4().hex
        error = ""
        if jax.process_index() == 0:
            error = _take(workdir, token, stack)
        error, token = processes.gather("workdir", f"{error}\n{token}")[0].split("\n")
        if not error and not _sees(workdir, token):
            error = f"{workdir}: not the first process' folder; give one that all hosts share."
        for text in processes.gather("workdir-seen", error):
            if text:
                raise ValueError(text)
        yield


def _take(workdir: Path, token: str, stack: contextlib.ExitStack) -> str:
    """Take the lock and write `token` into it; return what is wrong, in one line."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context((workdir / LOCK).open("a"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(token)
        file.flush()
    except BlockingIOError:
        return f"{workdir}: another run is using it; wait for its end, or give another --workdir."
    except OSError as error:
        reason = error.strerror or str(error)
        return f"{workdir}: cannot be written ({reason}); give a --workdir that can be."
    return ""


def _sees(workdir: Path, token: str) -> bool:
    deadline = time.monotonic() + SEEN_WITHIN
    while True:
        try:
            if (workdir / LOCK).read_text() == token:
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
