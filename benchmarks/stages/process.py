"""Measure a case in a process of its own, for as long as it may take."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks.stages.plan import Request

ROOT = Path(__file__).resolve().parents[2]
GRACE = 5.0  # seconds that a process has to end by itself
# JAX would take most of a device's memory at once, and peaks would say nothing.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
# A toy's programs take longer to optimize than to run.
TOY_ENVIRONMENT = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
}


def measure(request: Request, log: IO[str]) -> Iterator[dict[str, Any]]:
    """Run `benchmarks.stages` for one case, and yield its rows as they come.

    What else it prints goes to `log`. A process that is late or that dies adds a row whose `error`
    is the reason.
    """
    before = os.environ.get("PYTHONPATH")
    paths = [str(ROOT), *([before] if before else [])]
    environment = ENVIRONMENT | (TOY_ENVIRONMENT if request.toy else {}) | os.environ
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stages", json.dumps(request._asdict())],
        env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        process_group=0,  # compilers start processes that have to end with it
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        _signal(child, signal.SIGTERM)
        if not _ended(child, GRACE):
            _signal(child, signal.SIGKILL)

    timer = threading.Timer(max(0.0, request.seconds - GRACE), end)
    timer.start()
    failed = False
    try:
        for line in child.stdout:
            row = json.loads(line)
            failed = failed or "error" in row
            yield row
        child.wait()
    finally:
        timer.cancel()
        _signal(child, signal.SIGKILL)
        child.wait()
    if late.is_set():
        yield {"name": request.case, "error": "stopped: its time was up"}
    elif child.returncode and not failed:
        yield {"name": request.case, "error": f"its process ended with {child.returncode}"}


def _signal(child: subprocess.Popen, number: int) -> None:
    """Send a signal to a process and those that it started."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass  # all have ended


def _ended(child: subprocess.Popen, seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
