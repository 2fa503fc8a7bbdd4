"""Monitoring of a run: metrics as JSON lines and for TensorBoard, throughput, and profiles.

Only the first process writes.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from palette_vc_jax import atomic, cli
from palette_vc_jax.training.aot.flops import peak_flops, step_flops

DIGITS = 4  # of measured speeds


class MetricsWriter:
    """Writes metrics to `metrics.jsonl`, and metrics and images to `tensorboard/`.

    Lines after the step that is resumed from are removed, and so is one that was cut short.
    """

    def __init__(self, workdir: Path, start: int):
        self._file = self._board = None
        if jax.process_index() != 0:
            return
        path = workdir / "metrics.jsonl"
        text = path.read_text(errors="replace") if path.exists() else ""
        lines = text.splitlines()
        kept = [line for line in lines if _step_of(line) <= start]
        if len(kept) < len(lines) or (text and not text.endswith("\n")):
            atomic.write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        # TensorBoard then drops what an earlier run wrote from this step on.
        with _without_torch():
            from tensorboardX import SummaryWriter
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start + 1, filename_suffix=f".{start}"
        )

    def write(self, values: Mapping[str, float]) -> None:
        """Write a record; `step` is among the values."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(dict(values)) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"{self._file.name}: could not be written ({error.strerror}); make room and run "
                "the same command again."
            ) from None
        for name, value in values.items():
            if name != "step":
                self._board.add_scalar(name, value, values["step"])

    def image(self, step: int, name: str, path: Path) -> None:
        """Write the PNG at `path`."""
        if self._file is None:
            return
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        if self._file is not None:
            for part in (self._file, self._board):
                try:
                    part.close()
                except OSError:  # of a full disk, reported by whoever wrote last
                    cli.silence_cleanup()  # TensorBoard's writer tries once more at the end


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Hide PyTorch from tensorboardX, which imports it, in seconds, and does not use it here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None
    try:
        yield
    finally:
        del sys.modules["torch"]


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut short when the run was killed


class Throughput:
    """Measures how fast a run trains, and how long its devices wait for data.

    A step is dispatched and the next batch read while it runs, so reading costs nothing until the
    step has ended: a thread notes when that is. Compiling is left out, and so is what happens
    between `count_step` and the next `fetch`: validation, previews and saving.
    """

    def __init__(self, clips: int, total: int):
        """Measure steps of `clips` clips, in a run of `total` steps."""
        self._clips, self._total = clips, total
        self._peak = peak_flops(jax.devices())
        self._flops: float | None = None  # of a step
        self._watcher = ThreadPoolExecutor(1)
        self._ended: Future[float] | None = None  # when the last step did
        self._first = (0.0, 0)  # when the first step began, and how many were counted since
        self._clear()

    def fetch(self, stream: Iterator[Any]) -> Any:
        """Read the next batch; StopIteration and the reader's errors pass."""
        self._began = time.monotonic()
        batch = next(stream)
        if self._ended is not None and self._ended.done():
            self._waited += time.monotonic() - max(self._began, self._ended.result())
        return batch

    def dispatch(self, step: Callable, *args: Any) -> Any:
        """Call the jitted `step`, which returns a state and metrics; the first call compiles it."""
        if self._flops is None:
            self._flops = step_flops(step, *args)
            result = step(*args)
            self._began = time.monotonic()
            self._first = (self._began, 0)
        else:
            result = step(*args)
        self._ended = self._watcher.submit(_end_of, result[1])
        return result

    def count_step(self) -> None:
        """Count the step that was dispatched."""
        self._steps += 1
        self._seconds += time.monotonic() - self._began
        self._first = (self._first[0], self._first[1] + 1)

    def report(self, done: int) -> dict[str, float]:
        """Return measures of the steps since the last report; the newest one, `done`, has ended.

        `peak_share` is reported for known devices only.
        """
        rate = self._steps / max(self._seconds, 1e-9)
        speed = rate * self._flops
        began, count = self._first
        values = {
            "clips_per_second": rate * self._clips,
            "tflops_per_second": speed / 1e12,
            "data_wait": self._waited / max(self._seconds, 1e-9),
            "seconds_left": (self._total - done) * (time.monotonic() - began) / count,
        }
        if self._peak is not None:
            values["peak_share"] = speed / self._peak
        self._clear()
        return {name: float(f"{value:.{DIGITS}g}") for name, value in values.items()}

    def _clear(self) -> None:
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0


def _end_of(metrics: Any) -> float:
    jax.block_until_ready(metrics)
    return time.monotonic()


def summary(values: Mapping[str, float]) -> str:
    """Return a report and the loss as a line for the progress bar."""
    parts = [
        f"loss {values['loss']:.4g}",
        f"{values['clips_per_second']:.3g} clips/s",
        f"{values['tflops_per_second']:.3g} TFLOP/s",
    ]
    if "peak_share" in values:
        parts[-1] += f" ({values['peak_share']:.0%} of peak)"
    if values["data_wait"] >= 0.01:
        parts.append(f"{values['data_wait']:.0%} waiting for data")
    return ", ".join(parts)


def profile_steps(text: str, total: int) -> range | None:
    """Parse `START:STOP`, the first and last step to profile, counted from 1; None if empty.

    Raises ValueError for anything else, and for steps beyond the `total` of the run.
    """
    if not text:
        return None
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= total):
        raise ValueError(
            f"--profile {text}; START:STOP is needed, steps from 1 to {total}: the first and the "
            "last one to profile, such as 10:12."
        )
    return range(int(first), int(last) + 1)


@contextlib.contextmanager
def profiling(steps: range | None, folder: Path) -> Iterator[Callable[[int, Any], None]]:
    """Yield a function to call before each step with its number and the pending metrics.

    The trace holds whole steps, the reading of their data included; a run that resumes after
    them writes none. XProf, or TensorBoard's profile plugin, reads `folder`.
    """
    running = False

    def before(step: int, pending: Any) -> None:
        nonlocal running
        wanted = steps is not None and step in steps and jax.process_index() == 0
        if wanted == running:
            return
        jax.block_until_ready(pending)
        if wanted:
            jax.profiler.start_trace(folder)
        else:
            jax.profiler.stop_trace()
        running = wanted

    try:
        yield before
    finally:
        if running:
            jax.profiler.stop_trace()
