"""Get a model out of a run that may still be going on."""

import json
from pathlib import Path

import ml_collections
import numpy as np

from palette_vc_jax.checkpoint import read_newest
from palette_vc_jax.training import unet_task

WEIGHTS = {"ema": "average", "raw": "params"}  # names here -> parts of the training state


def has_checkpoints(folder: Path) -> bool:
    """Tell whether `folder` is what `train.py` calls a workdir."""
    return (folder / "checkpoints").is_dir()


def export_newest(workdir: Path, folder: Path, weights: str = "ema") -> None:
    """Write the newest checkpoint of a run as a model folder, in float32.

    Args:
        workdir: of `train.py`.
        folder: to write.
        weights: `ema`, the average over steps, or `raw`, those of the newest step.

    Raises ValueError if the run has none yet, or trains another network than the UNet.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights {weights!r} are not known; use one of {', '.join(WEIGHTS)}.")
    try:
        config = ml_collections.ConfigDict(json.loads((workdir / "config.json").read_text()))
    except (OSError, ValueError):
        raise ValueError(
            f"{workdir}: no config.json that can be read; give a run's folder."
        ) from None
    if config.task != "unet":
        raise ValueError(f"{workdir}: trains {config.task!r}; give the run of a UNet.")
    params = read_newest(workdir / "checkpoints", WEIGHTS[weights])
    if params is None:
        raise ValueError(f"{workdir}: no checkpoint yet; wait for the first one.")
    unet_task.export(config, params, folder, np.float32)
