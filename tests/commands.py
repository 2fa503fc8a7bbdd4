"""Run a command in this process, so that what is compiled is compiled once."""

import os
from collections.abc import Callable
from pathlib import Path

from palette_vc_jax import cli


def command(main: Callable[[list[str]], object], *arguments: object) -> int:
    """Return the exit code of `main` called with `arguments`."""
    try:
        cli.run(lambda: main([str(value) for value in arguments]))
    except SystemExit as end:
        return end.code
    return 0


def runtime_environment() -> dict[str, str]:
    """Return the environment of a user's process: on the CPU, without torch."""
    hidden = str(Path(__file__).parent / "without_torch")
    return dict(os.environ) | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": hidden}
