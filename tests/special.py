"""Files that are no regular files, for tests."""

import os
import socket
import stat
from pathlib import Path

import pytest


def special(path: Path, kind: str) -> Path:
    """Make a `folder`, `fifo`, `socket` or `device` at `path`; skip where that is not permitted."""
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # as /dev/null
        except PermissionError:
            pytest.skip("making a device needs rights that this user lacks")
    return path
