"""Read a film from standard input, and write one to standard output as Y4M.

A film is read three times and a pipe only once, so both are kept in a folder of temporary files.
"""

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from palette_vc_jax import atomic

PIPE = "-"  # the name of standard input and output


@contextlib.contextmanager
def from_stdin(name: str) -> Iterator[str]:
    """Yield the path of a copy of standard input if `name` is `PIPE`, else `name`.

    Raises:
        ValueError: if nothing is piped to standard input.
        OSError: if the disk of the temporary folder is full.
    """
    if name != PIPE:
        yield name
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("--input -: standard input is a terminal; pipe a film to it.")
    with _folder() as folder:
        path = folder / "input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.stat().st_size:
            raise ValueError("--input -: standard input is empty; pipe a film to it.")
        yield str(path)


@contextlib.contextmanager
def to_stdout(name: str, only_text: bool = False) -> Iterator[str]:
    """Yield a path to write Y4M to, and copy it to standard output, if `name` is `PIPE`.

    After an error, nothing is written. Files beside the path are removed with it.

    Args:
        name: the output.
        only_text: the block writes no film; its text goes to standard output, and is dropped
            otherwise.
    """
    if name != PIPE:
        yield name
        return
    if sys.stdout.isatty() and not only_text:
        raise ValueError("--output -: standard output is a terminal; pipe it to a program.")
    with _folder() as folder:
        path = folder / "output.y4m"
        with contextlib.redirect_stdout(sys.stdout if only_text else io.StringIO()):
            yield str(path)
        if path.exists():
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yield a temporary folder, which is removed at the end, whatever ends the block."""
    with tempfile.TemporaryDirectory(prefix="palette_vc_jax_") as name, atomic.held(Path(name)):
        yield Path(name)
