"""Check the user's files before they are opened, and read text and JSON."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_TEXT = 2**24  # bytes; lists of empty lists take 20 times as much memory
SAMPLED = 4096  # bytes at the start and at the end of a file that `fingerprint` reads
MAX_DEPTH = 100  # lists and objects inside of each other, in JSON
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_regular(path: str | Path) -> None:
    """Check that a path is a regular file, because reading a FIFO or a device may never end.

    A path that does not exist passes, because the code that opens it has a better message.

    Raises:
        ValueError: if `path` exists and, with links followed, is not a regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    for is_kind, kind in KINDS:
        if is_kind(mode):
            raise ValueError(f"{path}: {kind}; give a regular file.")


def beside(name: str, folder: Path | None) -> Path:
    """Return the path of a file that a file in `folder` names.

    It is in `folder`, or else in the current folder, as it is without `folder`.
    """
    path = Path(name) if folder is None else folder / name
    return path if path.exists() else Path(name)


def within(path: Path, folder: Path) -> str:
    """Return the name of a file as a file in `folder` names it, so that `beside` finds it."""
    return str(path) if path.is_absolute() else os.path.relpath(path.resolve(), folder.resolve())


def read_text(path: str | Path) -> str:
    """Read a file of UTF-8 text, without the byte order mark that Windows programs write.

    Raises:
        ValueError: if it is not a regular file, not UTF-8, or larger than `MAX_TEXT`.
        OSError: if it is missing or cannot be read.
    """
    check_regular(path)
    size = os.stat(path).st_size
    if size > MAX_TEXT:
        raise ValueError(f"{path}: {size} bytes; at most {MAX_TEXT} bytes of text are read.")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:  # whose representation holds the whole file
        raise ValueError("not text in UTF-8") from None


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: as `read_text`, and if it is not JSON or is nested too deeply.
        OSError: if it is missing or cannot be read.
    """
    text = read_text(path)
    try:
        values = json.loads(text)
        _check_depth(values, MAX_DEPTH)
    except RecursionError:
        raise ValueError("lists and objects are nested too deeply") from None
    return values


def _check_depth(values: Any, left: int) -> None:
    """Raise RecursionError for values that could be read, but not written again."""
    if not isinstance(values, dict | list):
        return
    if not left:
        raise RecursionError
    for value in values.values() if isinstance(values, dict) else values:
        _check_depth(value, left - 1)


def fingerprint(paths: Iterable[Path], root: Path) -> str:
    """Return a hash of the files' paths below `root`, sizes, and first and last `SAMPLED` bytes.

    A copy of the files has the same hash, because data are often copied to another disk.
    """
    code = hashlib.sha256()
    for path in paths:
        name = str(path.relative_to(root)).encode(errors="surrogateescape")
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            code.update(name + f"\0{size}\n".encode())
            for start in (0, max(0, size - SAMPLED)):
                stream.seek(start)
                code.update(stream.read(SAMPLED))
    return code.hexdigest()
