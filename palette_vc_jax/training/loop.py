"""The loop: restore, step, log, validate, save, and export the model at the end."""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from palette_vc_jax import cli
from palette_vc_jax.checkpoint import Checkpoints
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training.step import Loss, place_step


class Task(NamedTuple):
    """What is trained: everything the loop does not need to know."""

    init: Callable[[], Any]  # -> params where a fresh run starts
    frozen: Any  # what is used and not trained
    loss: Loss
    # (sample to begin with, rows of a batch that this process reads) -> its share of batches
    batches: Callable[[int, tuple[int, ...]], Iterator[Any]]
    validate: Callable[[Any], dict[str, float]]  # averaged params -> values to log
    export: Callable[[Any, Path], None]  # averaged params, folder for the finished model


def run(task: Task, config: Any, workdir: Path) -> None:
    """Train until `config.optimizer.steps`; the same call again goes on where the last stopped.

    Writes `metrics.jsonl`, `checkpoints/` and, at the end, `model/` under `workdir`. SIGTERM saves
    and leaves with exit code `cli.PREEMPTED`.

    Raises FloatingPointError naming the step when the loss is not finite, and whatever reading
    data raises; the last good state is on disk then.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with _locked(workdir), _terminated() as stop:
        _run(task, config, workdir, stop)


def _run(task: Task, config: Any, workdir: Path, stop: list[int]) -> None:
    leads = jax.process_index() == 0
    if leads:
        (workdir / "config.json").write_text(config.to_json_best_effort(indent=2))
    mesh = make_mesh(config.mesh)
    rows = placement.local_rows(mesh, config.batch_size)
    checkpoints = Checkpoints(workdir / "checkpoints", config.keep, config.keep_every or None)
    params = task.init()
    placed = place_step(task.loss, params, task.frozen, config, mesh)
    restored = checkpoints.restore(placed.state)
    if restored:
        state, record = restored
    else:
        state = placed.begin(placement.put(params, placed.state["params"]))
        record = {"samples": 0}
    del params, restored  # while training there is one copy
    frozen = placement.put(task.frozen, placed.frozen)
    start, total = int(state["step"]), config.optimizer.steps
    log = _Log(workdir / "metrics.jsonl" if leads else Path(os.devnull), start)

    def save() -> None:
        done = int(state["step"])
        checkpoints.save(done, state, {"samples": record["samples"]})

    began, window, pending = time.time(), [], None
    stream = task.batches(record["samples"], rows)
    bar = tqdm(range(start, total), initial=start, total=total, unit="step", disable=None)
    for index in bar:
        try:
            batch = next(stream)
        except (ValueError, OSError):
            # A file that cannot be read costs nothing of what was learned.
            _finite(pending, index)
            if index > start and jax.process_count() == 1:  # saving is work for all processes
                save()
                checkpoints.close()
            raise
        with jax.set_mesh(mesh):
            state, metrics = placed.step(state, frozen, placement.put_batch(batch, mesh))
        record = {"samples": record["samples"] + config.batch_size}
        # The last step's loss is looked at while this one runs.
        _finite(pending, index)
        pending, done = metrics, index + 1
        window.append(metrics)
        logs, validates, saves = (
            done % every == 0 or done == total
            for every in (config.log_every, config.validate_every, config.save_every)
        )
        told = _told_to_stop(stop, done)
        if logs or saves or told:
            _finite(pending, done)
        if logs:
            values = {name: float(np.mean([m[name] for m in window])) for name in window[0]}
            window = []
            bar.set_postfix(loss=values["loss"])
            log.write({"step": done, "seconds": round(time.time() - began, 1)} | values)
        if validates:
            with jax.set_mesh(mesh):
                values = task.validate(state["average"])
            log.write({"step": done} | values)
        if saves or told:
            save()
        if told:
            checkpoints.close()
            print(f"terminated; saved step {done}, the same command resumes.", file=sys.stderr)
            sys.exit(cli.PREEMPTED)
    checkpoints.close()
    log.close()
    average = placement.fetch(state["average"])
    if leads:
        task.export(average, workdir / "model")


def _finite(metrics: Any, step: int) -> None:
    """Raise FloatingPointError if the loss of `step` is not finite; `metrics` None is fine."""
    if metrics is not None and not np.isfinite(metrics["loss"]):
        raise FloatingPointError(
            f"the loss of step {step} is not finite; lower optimizer.learning_rate and run the "
            "same command to go on from the last checkpoint."
        )


class _Log:
    """JSON lines, one a record; those after the step that is resumed from are taken out."""

    def __init__(self, path: Path, start: int):
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= start]
        if len(kept) < len(lines):
            partial = path.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in kept))
            partial.rename(path)
        self._file = path.open("a")

    def write(self, values: dict[str, float]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # cut short when the run was killed


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Keep other runs out of `workdir`; the lock ends with the process, however it ends."""
    with (workdir / ".lock").open("w") as file:
        if jax.process_index() == 0:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{workdir}: another run is using it; wait for its end, or give another "
                    "--workdir."
                ) from None
        yield


def _told_to_stop(received: list[int], step: int) -> bool:
    """Tell whether SIGTERM came, to any process: all of them agree on the step to leave after."""
    if jax.process_count() == 1:
        return bool(received)
    return multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def _terminated() -> Iterator[list[int]]:
    """Give a list that SIGTERM makes non-empty; where processes are several, JAX listens."""
    received: list[int] = []
    if jax.process_count() > 1:
        yield received
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
