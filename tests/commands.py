"""Run a command in this process, so that what is compiled is compiled once."""

from collections.abc import Callable

from palette_vc_jax import cli


def command(main: Callable[[list[str]], object], *arguments: object) -> int:
    """Return the exit code of `main` called with `arguments`."""
    try:
        cli.run(lambda: main([str(value) for value in arguments]))
    except SystemExit as end:
        return end.code
    return 0
