"""The tasks that a config can name."""

from typing import Any

from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training import checks, unet_task, vae_task
from palette_vc_jax.training.loop import Task
from palette_vc_jax.training.rehearsal import Rehearsed

TASKS = {"vae": vae_task.make_task, "unet": unet_task.make_task}


def check(config: Any) -> None:
    """Check a config by itself, before clips, weights or devices are looked at.

    Raises ValueError for a task that is not in the table, and for what a config may not say.
    """
    if config.task not in TASKS:
        raise ValueError(f"config.task={config.task!r}; use one of {', '.join(TASKS)}.")
    checks.check_run(config)


def make_task(config: Any) -> Task:
    """Build the task that `config.task` names.

    Raises ValueError as `check`, and for batches that do not divide over the devices.
    """
    check(config)
    checks.check_mesh(config, make_mesh(config.mesh))
    return TASKS[config.task](config)


def rehearse(config: Any) -> Rehearsed:
    """Give the run of `config` as shapes, for compiling alone.

    Raises ValueError for another task than the UNet's, and for what a config may not say.
    """
    if config.task != "unet":
        raise ValueError(f"config.task={config.task!r}: only 'unet' is compiled ahead.")
    checks.check_run(config)
    return unet_task.rehearse(config)
