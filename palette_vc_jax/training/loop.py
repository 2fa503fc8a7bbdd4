"""The loop: restore, step, log, validate, save, and export the model at the end."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from palette_vc_jax import atomic, cli
from palette_vc_jax.checkpoint import Checkpoints, Mismatch, changed_origins
from palette_vc_jax.parallel import placement, processes
from palette_vc_jax.parallel.device_memory import device_memory
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training.config import RunConfig, keys, rules
from palette_vc_jax.training.monitoring import MetricsWriter, Throughput, profiling, summary
from palette_vc_jax.training.preemption import Notice
from palette_vc_jax.training.ranges import PATH, PATH_OR_NONE
from palette_vc_jax.training.step import Loss, PlacedStep, State, place_step

# Keys that may differ between hosts, on which the same files may lie in other places.
LESS_MEMORY = (
    "give --config.remat=layers, raise config.accumulate, lower config.batch_size or "
    "config.data.window, or split the state over more devices with config.mesh.fsdp"
)
PATHS = {key for key, rule in rules().items() if rule in (PATH, PATH_OR_NONE)}


class Previews(NamedTuple):
    """How held-out clips are colored during training."""

    # (EMA params, frozen) -> latents on the host; called in every process, on the run's mesh
    sample: Callable[[Any, Any], Any]
    # (latents, PNG to write); called in the first process alone, on its own devices
    write: Callable[[Any, Path], None]


class Task(NamedTuple):
    """What is trained: everything the loop does not need to know."""

    init: Callable[[], Any]  # -> params where a fresh run starts
    frozen: Any  # what is used and not trained
    loss: Loss
    # (sample to begin with, rows of a batch that this process reads) -> its share of batches
    batches: Callable[[int, tuple[int, ...]], Iterator[Any]]
    validate: Callable[[Any, Any], dict[str, float]]  # EMA params, frozen -> values to log
    export: Callable[[Any, int, Path], None]  # EMA params, step, folder for the finished model
    # (step, folder) -> whether the folder holds the model that was exported after this step
    is_exported: Callable[[int, Path], bool] = lambda step, folder: False
    previews: Previews | None = None
    shapes: Any = None  # of what `init` returns; None: `init` is traced for them
    # What a run must not change when it goes on: name -> value that JSON holds.
    origin: Callable[[], dict[str, Any]] = dict


class Run(NamedTuple):
    """A run that has begun: its step on the mesh, and its progress."""

    workdir: Path
    mesh: Mesh
    placed: PlacedStep
    state: State
    frozen: Any
    samples: int  # seen so far
    origin: dict[str, Any]


def run(
    task: Task,
    config: RunConfig,
    workdir: Path,
    notice: Notice | None = None,
    profile: range | None = None,
) -> None:
    """Train until `config.optimizer.steps`; the same call again goes on where the last stopped.

    Writes `config.json`, `metrics.jsonl`, `tensorboard/`, `previews/`, `checkpoints/` and, at the
    end, `model/` under `workdir`, and in `profile/` a trace of the steps in `profile`. After
    SIGTERM it saves and leaves with exit code `cli.PREEMPTED`.

    Raises FloatingPointError naming the step when the loss is not finite, and whatever reading
    data raises; the last good state is on disk then. Nothing under `workdir` has changed where
    ValueError says that the run cannot go on there.
    """
    notice = notice or Notice()
    processes.wait_for_all("task", "reading weights and clips")
    mesh = make_mesh(config.mesh.sizes())
    with (
        device_memory("training", LESS_MEMORY),
        contextlib.closing(
            Checkpoints(workdir / "checkpoints", config.keep, config.keep_every or None)
        ) as checkpoints,
    ):
        begun = _begin(task, config, workdir, mesh, checkpoints)
        task = task._replace(frozen=None)  # on the devices now: the host's copy is released
        if jax.process_index() == 0:
            text = json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True)
            atomic.write_text(workdir / "config.json", text)
        start = int(begun.state["step"])
        writer = MetricsWriter(workdir, start)
        trace = profiling(profile, workdir / "profile")
        with contextlib.closing(writer), trace as before_step:
            ema = _train(task, config, begun, checkpoints, writer, notice, before_step)
    # A run that had ended before leaves its model alone, with whatever was added to the folder.
    model, last = workdir / "model", config.optimizer.steps
    if jax.process_index() == 0 and not (start == last and task.is_exported(last, model)):
        task.export(ema, last, model)
    processes.wait_for_all("model", "writing the model")


def _train(
    task: Task,
    config: RunConfig,
    run: Run,
    checkpoints: Checkpoints,
    writer: MetricsWriter,
    notice: Notice,
    before_step: Callable[[int, Any], None],
) -> Any:
    """Take the steps that are left, and return the EMA parameters as numpy arrays."""
    start, total = int(run.state["step"]), config.optimizer.steps
    throughput = Throughput(config.batch_size, total)
    stream = task.batches(run.samples, placement.local_rows(run.mesh, config.batch_size))
    began, window, pending = time.time(), [], None
    hidden = jax.process_index() != 0
    bar = cli.progress(range(start, total), "training", "step", total, start, hidden)
    for index in bar:
        done = index + 1
        before_step(done, pending)
        try:
            batch = throughput.fetch(stream)
        except (ValueError, OSError):
            # A file that cannot be read costs nothing of what was learned.
            _finite(pending, index)
            if index > start and jax.process_count() == 1:  # saving is work for all processes
                _save(run, checkpoints)
                checkpoints.finish()
            raise
        state, metrics = _step(run, throughput, batch)
        run = run._replace(state=state, samples=run.samples + config.batch_size)
        if index == start:
            jax.block_until_ready(metrics)
            notice.grace = None  # compiled: from here on there is a step to save
        # The last step's loss is looked at while this one runs.
        _finite(pending, index)
        pending = metrics
        window.append(metrics)
        due, leaves = _due(task, config, done), notice.leaves_after(done)
        if any(due) or leaves:
            _finite(pending, done)
        throughput.count_step()
        if due.log:
            values = {name: float(np.mean([m[name] for m in window])) for name in window[0]}
            window = []
            values |= throughput.report(done)
            bar.set_postfix_str(summary(values), refresh=False)
            writer.write({"step": done, "seconds": round(time.time() - began, 1)} | values)
        if due.save or leaves:
            _save(run, checkpoints)
        if leaves:
            checkpoints.finish()
            print(f"terminated; saved step {done}, the same command resumes.", file=sys.stderr)
            sys.exit(cli.PREEMPTED)
        with notice.busy():
            if due.validate:
                _validate(task, run, done, writer)
            if due.previews:
                _preview(task.previews, run, done, writer)
    checkpoints.finish()
    notice.grace = 0.0
    return placement.fetch(run.state["ema"])


class Due(NamedTuple):
    """What happens after a step."""

    log: bool
    validate: bool
    save: bool
    previews: bool


def _due(task: Task, config: RunConfig, done: int) -> Due:
    """Return what happens after step `done`; the last step is followed by all that is not off."""
    every = (
        config.log_every,
        config.validate_every,
        config.save_every,
        config.previews_every if task.previews else 0,
    )
    return Due(*(n > 0 and (done % n == 0 or done == config.optimizer.steps) for n in every))


def _step(run: Run, throughput: Throughput, batch: Any) -> tuple[State, Any]:
    """Dispatch a step on this process's share of a batch; return the new state and the metrics."""
    with jax.set_mesh(run.mesh):
        batch = placement.put_batch(batch, run.mesh)
        return throughput.dispatch(run.placed.step, run.state, run.frozen, batch)


def _save(run: Run, checkpoints: Checkpoints) -> None:
    """Begin to save the state, with what a resumed run needs to know."""
    record = {"samples": run.samples, "origin": run.origin}
    checkpoints.save(int(run.state["step"]), run.state, record)


def _validate(task: Task, run: Run, done: int, writer: MetricsWriter) -> None:
    """Write the validation's values after step `done`."""
    with jax.set_mesh(run.mesh):
        values = task.validate(run.state["ema"], run.frozen)
    writer.write({"step": done} | values)


def _preview(previews: Previews, run: Run, done: int, writer: MetricsWriter) -> None:
    """Color the held-out clips after step `done`; the first process writes the picture."""
    with jax.set_mesh(run.mesh):
        latents = previews.sample(run.state["ema"], run.frozen)
    if jax.process_index() == 0:
        path = run.workdir / "previews" / f"step-{done:06d}.png"
        previews.write(latents, path)
        writer.image(done, "previews", path)


def _begin(
    task: Task, config: RunConfig, workdir: Path, mesh: Mesh, checkpoints: Checkpoints
) -> Run:
    """Return the newest state of the run, or a fresh one, on the mesh.

    Raises ValueError if the checkpoints are those of a run with another origin.
    """
    shapes = task.shapes or jax.eval_shape(task.init)
    placed = place_step(task.loss, shapes, task.frozen, config, mesh)
    # Hashes of gigabytes: the first process reads them, and decides for all.
    origin = task.origin() if jax.process_index() == 0 else {}

    def check(record: dict[str, Any]) -> None:
        if jax.process_index() != 0:
            return
        if changed := changed_origins(record, origin):
            raise Mismatch(
                f"the run in this --workdir began with another {', '.join(changed)}; give what it "
                "began with, or another --workdir."
            )

    restored = checkpoints.restore(placed.state, check)
    frozen = placement.put(task.frozen, placed.frozen)
    if restored:
        state, record = restored
        if (step := int(state["step"])) > config.optimizer.steps:
            raise ValueError(
                f"optimizer.steps={config.optimizer.steps}, but the run has taken {step} steps; "
                f"give {step} or more."
            )
        return Run(workdir, mesh, placed, state, frozen, record["samples"], origin)
    state = placed.begin(placement.put(task.init(), placed.state["params"]))
    return Run(workdir, mesh, placed, state, frozen, 0, origin)


def check_agreed(config: RunConfig) -> None:
    """Raise ValueError if a process has another config than the first; paths may differ."""
    own = dict(keys(dataclasses.asdict(config)))
    advice = "start all processes with the same config."
    processes.agree("config", own, "starting", advice, PATHS)


def _finite(metrics: Any, step: int) -> None:
    """Raise FloatingPointError if the loss of `step` is not finite; `metrics` None is fine."""
    if metrics is not None and not np.isfinite(metrics["loss"]):
        raise FloatingPointError(
            f"the loss of step {step} is not finite; lower optimizer.learning_rate and run the "
            "same command to go on from the last checkpoint."
        )
