"""How every command ends: one line for what went wrong, and the exit code that says whose it is.

0 done; 1 a failure, such as a full disk; 2 the user's mistake; 75 told to leave by SIGTERM, with
everything saved: the same command goes on; 130 stopped with Ctrl-C.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

FAILURE, MISTAKE, PREEMPTED, STOPPED = 1, 2, 75, 130


def run(main: Callable[[], object]) -> None:
    """Call `main` and exit: ValueError is a user's mistake, OSError a failure of the machine.

    Any other exception is a defect of the program and keeps its traceback. Warnings are printed
    in one line each.
    """
    warnings.formatwarning = _format_warning
    try:
        main()
    except KeyboardInterrupt:
        _end("stopped.", STOPPED)
    except ValueError as error:
        _end(f"error: {error}", MISTAKE)
    except (OSError, FloatingPointError, MemoryError) as error:
        _end(f"error: {error}", FAILURE)


def _format_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


def _end(line: str, code: int) -> None:
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(code)
