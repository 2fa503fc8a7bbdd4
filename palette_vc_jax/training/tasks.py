"""The tasks that a config can name."""

from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training import checks, tower_task, unet_task, vae_task
from palette_vc_jax.training.aot.report import AbstractRun
from palette_vc_jax.training.config import RunConfig
from palette_vc_jax.training.loop import Task

TASKS = {
    "vae": vae_task.make_task,
    "image_encoder": tower_task.make_task,
    "unet": unet_task.make_task,
}


def make_task(config: RunConfig) -> Task:
    """Build the task that `config.task` names.

    Raises ValueError if keys contradict each other, if batches do not divide over the devices, or
    if a model, clips or a cache cannot be used.
    """
    checks.check_run(config)
    checks.check_mesh(config, make_mesh(config.mesh.sizes()))
    return TASKS[config.task](config)


def abstract_run(config: RunConfig) -> AbstractRun:
    """Return a run as shapes, to compile its step without clips or weights.

    Raises ValueError for another task than the UNet's, and if keys contradict each other.
    """
    if config.task != "unet":
        raise ValueError(f"config.task={config.task!r}: only 'unet' is compiled ahead.")
    checks.check_run(config)
    return unet_task.abstract_run(config)
