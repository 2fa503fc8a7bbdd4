"""Compile cases in processes of their own, because the compiler runs on in a thread at the end."""

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any


def choose(cases: Iterable[str], names: list[str]) -> list[str]:
    """Return the names of the cases to compile; all if none are given.

    Raises ValueError for a name that is not among the cases.
    """
    known = list(cases)
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"case {unknown[0]!r} is not known; use some of {', '.join(known)}.")
    return names or known


def compile_alone(script: str, *arguments: str) -> dict[str, Any] | None:
    """Run `script --child ARGUMENTS`; return the JSON in its last line, None if it fails."""
    command = [sys.executable, script, "--child", *arguments]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return None if child.returncode else json.loads(child.stdout.splitlines()[-1])
