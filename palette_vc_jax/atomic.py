"""Write files and folders atomically: they are complete or absent, and replace only files.

Output is written under a hidden name in the same folder and moved into place at the end. It is
locked while it is written, so that two runs cannot write the same file at once. The next run
overwrites the hidden file of a run that was killed.
"""

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

_held: set[Path] = set()  # temporary files and folders that this process writes


def check_targets(
    targets: Iterable[Path], inputs: Iterable[Path] = (), overwrite: bool = True
) -> None:
    """Check that files may be written at `targets`, following links, before any work is done.

    Args:
        targets: files that will be written or replaced.
        inputs: files that the run reads.
        overwrite: whether regular files that exist may be replaced.

    Raises:
        ValueError: if a target exists and is not a regular file (a folder, a device, a FIFO), or
            is one of the inputs; if it exists, unless `overwrite`; or if its name is too long.
    """
    targets = list(targets)
    for target in targets:
        check_name(target)
    existing = {target: found for target in targets if (found := _status(target))}
    for target, found in existing.items():
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{target}: exists and is not a regular file; give another name.")
    # A film may be thousands of files: they are looked at only where something may be replaced.
    candidates = inputs if existing else ()
    read = {(found.st_dev, found.st_ino) for path in candidates if (found := _status(path))}
    for target, found in existing.items():
        if (found.st_dev, found.st_ino) in read:
            raise ValueError(
                f"{target}: the run reads this file and would replace it; give the output another "
                "name."
            )
    for target in [] if overwrite else targets:
        if os.path.lexists(target):  # a link that leads nowhere is somebody's, too
            raise ValueError(
                f"{target}: exists; give --overwrite to replace it, or give the output another "
                "name."
            )


def check_name(target: Path) -> None:
    """Check that the file system takes the names of `target` and of its temporary file.

    Raises:
        ValueError: if one of them is too long.
    """
    extra = len(os.fsencode(_partial(target).name)) - len(os.fsencode(target.name))
    try:
        longest = os.pathconf(target.absolute().parent, "PC_NAME_MAX") - extra
    except (OSError, ValueError):  # the folder is missing, which is reported elsewhere
        return
    length = len(os.fsencode(target.name))
    if length > longest:
        raise ValueError(
            f"{target.name}: this name has {length} bytes, and at most {longest} are possible; "
            "give the output a shorter name."
        )


def check_folder(path: Path) -> None:
    """Check that a folder may be written at `path`.

    Raises:
        ValueError: if `path` exists and is not an empty folder, its name is too long, or its parent
            does not exist.
    """
    check_name(path)
    if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: exists already; give another name.")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder; create it first.")


@contextlib.contextmanager
def file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and move it to `path` unless an exception is raised.

    The temporary path has the extension of `path`. If `path` is a link, its target is replaced and
    the link stays.

    Raises:
        ValueError: as `check_targets`.
        OSError: if another run is writing the same file.
    """
    check_targets([path])
    target = Path(os.path.realpath(path))
    partial = _partial(target)
    with partial.open("ab") as opened:
        _lock(opened.fileno(), path)
        try:
            with held(partial):
                yield partial
                partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill, and move it to `path` unless an exception is raised.

    Args:
        path: path of the folder.
        replace: replace an existing folder at `path` when the new one is complete.

    Raises:
        ValueError: as `check_folder`, unless `replace`.
        OSError: if another run is writing the same folder.
    """
    if not replace:
        check_folder(path)
    target = Path(os.path.realpath(path))
    partial = _partial(target)
    partial.mkdir(exist_ok=True)
    opened = os.open(partial, os.O_RDONLY)
    try:
        _lock(opened, path)
        _held.add(partial)
        try:
            for entry in partial.iterdir():  # left by a run that was killed
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            yield partial
            before = partial.with_name(f"{partial.name}-before")
            if replace and target.exists():
                shutil.rmtree(before, ignore_errors=True)  # left by a run that was killed
                target.replace(before)
            partial.replace(target)
            shutil.rmtree(before, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        _held.discard(partial)
        os.close(opened)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 at `path`; raise as `file` does.

    What has no form in UTF-8, as a part of a file name, becomes a question mark.
    """
    with file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Have `remove_partial` remove a file or folder within the block."""
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)


def remove_partial() -> None:
    """Remove the temporary files and folders of this process, before it ends without cleanup."""
    for partial in list(_held):
        with contextlib.suppress(OSError):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.stem}.partial{target.suffix}")


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):  # missing or not a valid name, which opening it will report
        return None


def _lock(descriptor: int, path: Path) -> None:
    """Lock a file or folder until it is closed, if the file system supports locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"{path}: another run is writing it; wait until it ends.") from None
    except OSError:
        pass
