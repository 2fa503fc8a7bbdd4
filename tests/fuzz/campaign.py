"""Try many inputs in a process of their own, so that a crash or a hang is found and survived.

    python -m tests.fuzz.campaign

is that process: it reads lines of a kind and a seed, and writes a line of JSON for each.
"""

import json
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 20  # seconds of CPU time of an input, so that a busy machine makes no failures
COMPILES = 60  # seconds of CPU time of a command, which compiles
WAIT = 600.0  # seconds for an answer, and for the process to start
MEMORY = 6 * 2**30  # bytes
# What is computed is too little for optimizations to pay.
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
FINE = ("ok", "refused")


class Outcome(NamedTuple):
    """What became of an input: `ok`, `refused`, or what is wrong."""

    kind: str
    seed: int
    result: str
    seconds: float


def run(cases: Iterable[tuple[str, int]]) -> Iterator[Outcome]:
    """Try the inputs of kinds and seeds; yield their outcomes in order."""
    worker = None
    try:
        for kind, seed in cases:
            worker = worker or _Worker()
            start = time.monotonic()
            result = worker.ask(kind, seed)
            if result is None:
                result = worker.end()
                worker = None
            yield Outcome(kind, seed, result, time.monotonic() - start)
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory()  # removed even if the process is killed
        environment = QUICK | dict(os.environ)
        environment |= {
            "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "TMPDIR": self._place.name
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.campaign"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # FFmpeg's messages
            text=True,
            bufsize=1,
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        if self._line() is None:
            raise RuntimeError(f"the process that tries inputs does not start: {self.end()}")

    def ask(self, kind: str, seed: int) -> str | None:
        """Return the result of an input; None if there is none in time."""
        self._process.stdin.write(f"{kind} {seed}\n")
        line = self._line()
        return json.loads(line) if line else None

    def end(self) -> str:
        """End the process; return why it gave no result."""
        code = self._process.poll()
        if code is None:
            self._process.kill()
        self._process.communicate()
        self._place.cleanup()
        if code in (None, -signal.SIGXCPU):
            return "no end"
        return f"the process ended with {code}"

    def _line(self) -> str | None:
        if not self._selector.select(WAIT):
            return None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
        return line or None


def main() -> None:
    """Try the inputs that standard input names."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    from palette_vc_jax import cli
    from tests.fuzz.inputs import make
    from tests.fuzz.tries import attempt

    cli.INTERVAL = 3600.0  # no lines of progress among the messages
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    print("ready", file=answers)
    for line in sys.stdin:
        kind, seed = line.split()
        limit = math.ceil(time.process_time()) + (COMPILES if kind == "command" else LONGEST)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        with tempfile.TemporaryDirectory() as folder:
            result = attempt(make(kind, int(seed)), Path(folder))
        print(json.dumps(result), file=answers)


if __name__ == "__main__":
    main()
