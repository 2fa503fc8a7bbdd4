"""The loop: restore, step, log, validate, save, and export the model at the end."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from palette_vc_jax.checkpoint import Checkpoints
from palette_vc_jax.training.optimizer import make_optimizer
from palette_vc_jax.training.step import Loss, init_state, make_step


class Task(NamedTuple):
    """What is trained: everything the loop does not need to know."""

    params: Any  # where a fresh run starts
    frozen: Any  # what is used and not trained
    loss: Loss
    batch: Callable[[int], Any]  # step -> batch, the same for the same step
    validate: Callable[[Any], dict[str, float]]  # averaged params -> values to log
    export: Callable[[Any, Path], None]  # averaged params, folder for the finished model


def run(task: Task, config: Any, workdir: Path) -> None:
    """Train until `config.optimizer.steps`; the same call again goes on where the last stopped.

    Writes `metrics.jsonl`, `checkpoints/` and, at the end, `model/` under `workdir`.

    Raises FloatingPointError naming the step when the loss is not finite; the last saved state
    stays as it is.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(config.to_json_best_effort(indent=2))
    optimizer = make_optimizer(config.optimizer)
    step = jax.jit(
        make_step(task.loss, optimizer, config.average_decay, config.seed), donate_argnums=0
    )
    state = init_state(task.params, optimizer)
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = checkpoints.restore(state) or state
    start, total = int(state["step"]), config.optimizer.steps

    log = (workdir / "metrics.jsonl").open("a")
    started, window = time.time(), []
    bar = tqdm(range(start, total), initial=start, total=total, unit="step", disable=None)
    for index in bar:
        state, metrics = step(state, task.frozen, task.batch(index))
        window.append(metrics)
        done = index + 1
        if done % config.log_every == 0 or done == total:
            entry = {"step": done, "seconds": round(time.time() - started, 1)}
            entry |= _mean(window, done)
            window = []
            bar.set_postfix(loss=entry["loss"])
            _write(log, entry)
        if done % config.validate_every == 0 or done == total:
            _write(log, {"step": done} | task.validate(state["average"]))
        if done % config.save_every == 0 or done == total:
            checkpoints.save(done, state)
    checkpoints.close()
    log.close()
    task.export(jax.device_get(state["average"]), workdir / "model")


def _mean(window: list[dict[str, jax.Array]], step: int) -> dict[str, float]:
    """Average the metrics since the last log; reading them here waits for the device once."""
    values = {name: float(np.mean([m[name] for m in window])) for name in window[0]}
    if not np.isfinite(values["loss"]):
        raise FloatingPointError(
            f"the loss is not finite within the {len(window)} steps up to {step}; "
            "lower optimizer.learning_rate and run the same command to resume."
        )
    return values


def _write(log: Any, entry: dict[str, float]) -> None:
    log.write(json.dumps(entry) + "\n")
    log.flush()
