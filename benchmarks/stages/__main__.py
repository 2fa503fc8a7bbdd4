"""Measure one case in this process: `python -m benchmarks.stages REQUEST`.

The request is a `plan.Request` as JSON.
Rows go to the standard output, a line of JSON each; whatever else is printed goes to the standard
error. Rows with the same `name` belong together: later values are added to earlier ones. A case
that fails ends with a row whose `error` is the reason in one line.
"""

import importlib
import importlib.util
import json
import os
import sys
import traceback
from unittest.mock import MagicMock

from benchmarks.stages.plan import Request, reason

FILMS = ("av", "av.container", "av.error", "av.video", "av.video.frame", "av.video.stream")


def main() -> None:
    """Measure what the command line asks for."""
    request = Request(**json.loads(sys.argv[1]))
    rows = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to the standard output too
    if importlib.util.find_spec("av") is None:
        # PyAV is too large to travel with everything else. No stage reads a film, but training
        # imports the modules that do.
        sys.modules.update(dict.fromkeys(FILMS, MagicMock()))
    try:
        module = importlib.import_module(f"benchmarks.stages.{_module(request)}")
        for row in module.measure(request):
            print(json.dumps(row), file=rows)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"name": request.case, "error": reason(error)}), file=rows)


def _module(request: Request) -> str:
    return "diffusers_side" if request.case == "diffusers" else request.stage


if __name__ == "__main__":
    main()
