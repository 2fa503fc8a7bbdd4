"""The loop: restore, step, log, validate, save, and export the model at the end."""

import contextlib
import fcntl
import functools
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from palette_vc_jax import cli
from palette_vc_jax.checkpoint import Checkpoints
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training import watch
from palette_vc_jax.training.step import Loss, PlacedStep, State, place_step


class Task(NamedTuple):
    """What is trained: everything the loop does not need to know."""

    init: Callable[[], Any]  # -> params where a fresh run starts
    frozen: Any  # what is used and not trained
    loss: Loss
    # (sample to begin with, rows of a batch that this process reads) -> its share of batches
    batches: Callable[[int, tuple[int, ...]], Iterator[Any]]
    validate: Callable[[Any, Any], dict[str, float]]  # averaged params, frozen -> values to log
    export: Callable[[Any, Path], None]  # averaged params, folder for the finished model
    # (averaged params, frozen, PNG of samples to write)
    strips: Callable[[Any, Any, Path], None] | None = None
    shapes: Any = None  # of what `init` returns; None: `init` is traced for them


def run(task: Task, config: Any, workdir: Path, profile: range | None = None) -> None:
    """Train until `config.optimizer.steps`; the same call again goes on where the last stopped.

    Writes `metrics.jsonl`, `tensorboard/`, `strips/`, `checkpoints/` and, at the end, `model/`
    under `workdir`, and in `profile/` a trace of the steps in `profile`. SIGTERM saves and leaves
    with exit code `cli.PREEMPTED`.

    Raises FloatingPointError naming the step when the loss is not finite, and whatever reading
    data raises; the last good state is on disk then.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    trace = watch.profiling(profile, workdir / "profile")
    with _locked(workdir), _terminated() as stop, trace as before_step:
        _run(task, config, workdir, stop, before_step)


def _run(task: Task, config: Any, workdir: Path, stop: list[int], before_step: Callable) -> None:
    if jax.process_index() == 0:
        (workdir / "config.json").write_text(config.to_json_best_effort(indent=2))
    mesh = make_mesh(config.mesh)
    rows = placement.local_rows(mesh, config.batch_size)
    checkpoints = Checkpoints(workdir / "checkpoints", config.keep, config.keep_every or None)
    beside = _fingerprint(task.frozen)
    placed, state, samples = _begin(task, config, mesh, checkpoints, beside)
    frozen = placement.put(task.frozen, placed.frozen)
    start, total = int(state["step"]), config.optimizer.steps
    log, pace = watch.Log(workdir, start), watch.Pace(config.batch_size, total)

    def save() -> None:
        done = int(state["step"])
        checkpoints.save(done, state, {"samples": samples, "frozen": beside})

    began, window, pending = time.time(), [], None
    stream = task.batches(samples, rows)
    strips_every = config.get("strips_every", 0) if task.strips else 0
    hidden = True if jax.process_index() else None  # None: where nobody looks, as in a pipe
    bar = tqdm(range(start, total), initial=start, total=total, unit="step", disable=hidden)
    for index in bar:
        before_step(index + 1, pending)
        try:
            batch = pace.fetch(stream)
        except (ValueError, OSError):
            # A file that cannot be read costs nothing of what was learned.
            _finite(pending, index)
            if index > start and jax.process_count() == 1:  # saving is work for all processes
                save()
                checkpoints.close()
            raise
        with jax.set_mesh(mesh):
            batch = placement.put_batch(batch, mesh)
            state, metrics = pace.dispatch(placed.step, state, frozen, batch)
        samples += config.batch_size
        # The last step's loss is looked at while this one runs.
        _finite(pending, index)
        pending, done = metrics, index + 1
        window.append(metrics)
        every = (config.log_every, config.validate_every, config.save_every)
        logs, validates, saves, strips = (
            n > 0 and (done % n == 0 or done == total) for n in (*every, strips_every)
        )
        told = _told_to_stop(stop, done)
        if logs or validates or saves or strips or told:
            _finite(pending, done)
        pace.counted()
        if logs:
            values = {name: float(np.mean([m[name] for m in window])) for name in window[0]}
            window = []
            values |= pace.report(done)
            bar.set_postfix_str(watch.summary(values))
            log.write({"step": done, "seconds": round(time.time() - began, 1)} | values)
        if validates:
            with jax.set_mesh(mesh):
                values = task.validate(state["average"], frozen)
            log.write({"step": done} | values)
        if saves or told:
            save()
        if told:
            checkpoints.close()
            print(f"terminated; saved step {done}, the same command resumes.", file=sys.stderr)
            sys.exit(cli.PREEMPTED)
        if strips:
            path = workdir / "strips" / f"step-{done:06d}.png"
            with jax.set_mesh(mesh):
                task.strips(state["average"], frozen, path)
            log.picture(done, "strips", path)
    checkpoints.close()
    log.close()
    average = placement.fetch(state["average"])
    if jax.process_index() == 0:
        task.export(average, workdir / "model")


def _begin(
    task: Task, config: Any, mesh: Mesh, checkpoints: Checkpoints, beside: int
) -> tuple[PlacedStep, State, int]:
    """Give the step, the newest state or a fresh one, and how many samples it has seen.

    Raises ValueError if the state was trained beside other frozen weights than `beside` tells.
    """
    shapes = task.shapes or jax.eval_shape(task.init)
    placed = place_step(task.loss, shapes, task.frozen, config, mesh)
    restored = checkpoints.restore(placed.state)
    if restored:
        state, record = restored
        if record.get("frozen", beside) != beside:
            raise ValueError(
                "the checkpoints were trained beside other frozen weights; give the "
                "config.init_from that the run began with, or another --workdir."
            )
        return placed, state, record["samples"]
    return placed, placed.begin(placement.put(task.init(), placed.state["params"])), 0


def _fingerprint(frozen: Any) -> int:
    """Tell weights from others of the same shapes, by the first numbers of each."""
    parts = (np.asarray(leaf.reshape(-1)[:4096]).tobytes() for leaf in jax.tree.leaves(frozen))
    return functools.reduce(lambda code, part: zlib.crc32(part, code), parts, 0)


def _finite(metrics: Any, step: int) -> None:
    """Raise FloatingPointError if the loss of `step` is not finite; `metrics` None is fine."""
    if metrics is not None and not np.isfinite(metrics["loss"]):
        raise FloatingPointError(
            f"the loss of step {step} is not finite; lower optimizer.learning_rate and run the "
            "same command to go on from the last checkpoint."
        )


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
