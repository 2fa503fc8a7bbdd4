"""Get a model out of a run, which may still be going on."""

import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from palette_vc_jax.checkpoint import read_newest
from palette_vc_jax.models.store import Model
from palette_vc_jax.training import unet_task

WEIGHTS = {"ema": "ema", "raw": "params"}  # names here -> parts of the training state


def has_checkpoints(folder: Path) -> bool:
    """Return whether `folder` is what `train.py` calls a workdir."""
    return (folder / "checkpoints").is_dir()


def open_run(workdir: Path, weights: str = "ema") -> Model:
    """Read the newest checkpoint of a run as a complete model, whether the run has ended or not.

    Args:
        workdir: of `train.py`.
        weights: `ema`, the moving average over steps, or `raw`, those of the newest step.

    Raises ValueError if the run has no checkpoint yet, if what it began with has changed or is
    missing, or if it trains another network than the UNet.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights {weights!r} are not known; use one of {', '.join(WEIGHTS)}.")
    config = read_config(workdir)
    found = read_newest(workdir / "checkpoints", WEIGHTS[weights])
    if found is None:
        raise ValueError(f"{workdir}: no checkpoint yet; wait for the first one.")
    step, params, record = found
    for name in ("init_from", "vae"):
        if config[name] and not Path(config[name]).is_dir():
            raise ValueError(
                f"{workdir}: {name}={config[name]} of the run is no folder here; start the command "
                "where train.py was started, or move the folder back."
            )
    origin = unet_task.origin(config)
    changed = [name for name, value in record["origin"].items() if origin.get(name) != value]
    if changed:
        raise ValueError(
            f"{workdir}: {', '.join(changed)} changed since the run began; restore it to use the "
            "run."
        )
    return unet_task.trained_model(config, params, step, weights)


def export_run(workdir: Path, folder: Path, weights: str = "ema", dtype: type = np.float32) -> None:
    """Write the newest checkpoint of a run as a model folder, which appears when it is complete.

    Raises ValueError as `open_run`.
    """
    model = open_run(workdir, weights)
    unet_task.write_trained(folder, model, read_config(workdir), dtype)


def read_config(workdir: Path) -> Any:
    """Return the config of a run. Raises ValueError if it trains another network than the UNet."""
    path = workdir / "config.json"
    try:
        config = ml_collections.ConfigDict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, AttributeError):
        raise ValueError(
            f"{workdir}: no config.json that can be read; give the --workdir of a run that has "
            "begun to train."
        ) from None
    if config.get("task") != "unet":
        raise ValueError(f"{workdir}: trains {config.get('task')!r}; give the run of a UNet.")
    return config
