"""Models from runs: at a run's end, or from its newest checkpoint while it still goes on."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import palette_vc_jax
from palette_vc_jax import cli, files
from palette_vc_jax.checkpoint import changed_origins, read_newest
from palette_vc_jax.models.functional import Params
from palette_vc_jax.models.store import Model, file_hashes, is_written, sha256, write_model
from palette_vc_jax.palette import gmm
from palette_vc_jax.training import config as configs
from palette_vc_jax.training import mixture, weights
from palette_vc_jax.training.batches import open_split
from palette_vc_jax.training.config import RunConfig

WEIGHTS = {"ema": "ema", "raw": "params"}  # names here -> parts of the training state


def read_config(workdir: Path) -> RunConfig:
    """Return the config of a run.

    Raises ValueError if there is none, or if the run trains another network than the UNet.
    """
    try:
        values = files.read_json(workdir / "config.json")
        task = values.get("task")
    except (OSError, ValueError, AttributeError):
        raise ValueError(
            f"{workdir}: no config.json that can be read; give the --workdir of a run that has "
            "begun to train."
        ) from None
    if task != "unet":
        raise ValueError(f"{workdir}: trains {task!r}; give the run of a UNet.")
    try:
        return configs.read_stored(values)
    except ValueError as error:
        raise ValueError(f"{workdir / 'config.json'}: {error}") from None


def open_run(workdir: Path, kind: str = "ema") -> Model:
    """Read the newest checkpoint of a run as a complete model, whether the run has ended or not.

    Args:
        workdir: of `train.py`.
        kind: `ema`, the moving average over steps, or `raw`, those of the newest step.

    Raises ValueError if the run has no checkpoint yet, if what it began with has changed or is
    missing, or if it trains another network than the UNet.
    """
    if kind not in WEIGHTS:
        raise ValueError(f"weights {kind!r} are not known; use one of {', '.join(WEIGHTS)}.")
    config = read_config(workdir)
    found = read_newest(workdir / "checkpoints", WEIGHTS[kind])
    if found is None:
        raise ValueError(f"{workdir}: no checkpoint yet; wait for the first one.")
    step, params, record = found
    for name, folder in (("init_from", config.init_from), ("vae", config.vae)):
        if folder and not Path(folder).is_dir():
            raise ValueError(
                f"{workdir}: {name}={folder} of the run is no folder here; start the command "
                "where train.py was started, or move the folder back."
            )
    if changed := changed_origins(record, origin(config)):
        raise ValueError(
            f"{workdir}: {', '.join(changed)} changed since the run began; restore it to use the "
            "run."
        )
    return trained_model(config, params, step, kind)


def export_run(workdir: Path, folder: Path, kind: str = "ema", dtype: type = np.float32) -> None:
    """Write the newest checkpoint of a run as a model folder, which appears when it is complete.

    Raises ValueError as `open_run`.
    """
    write_trained(folder, open_run(workdir, kind), read_config(workdir), dtype)


def export_ema(config: RunConfig, params: Params, step: int, folder: Path) -> None:
    """Write the average `params` after `step` as a model folder."""
    dtype = np.dtype(config.export_dtype)
    write_trained(folder, trained_model(config, params, step, "ema"), config, dtype)


def is_exported(config: RunConfig, step: int, folder: Path) -> bool:
    """Return whether `export_ema` has written the model after `step` of this run."""
    model = Model(weights.starting_config(config), {}, origin=_record(config, step, "ema"))
    return is_written(folder, model, np.dtype(config.export_dtype))


def trained_model(config: RunConfig, params: Params, step: int, kind: str) -> Model:
    """Return trained weights, with the frozen ones they were trained with, as a complete model.

    Low-rank updates are added to their kernels; sampling takes the settings of training.

    Args:
        config: of the run.
        params: trained parameters, numpy arrays.
        step: that they are of.
        kind: `ema` or `raw`, for the record.
    """
    start = weights.starting_model(config)
    networks = weights.merge(params, start.params, config.lora.alpha)
    return Model(start.config, networks, start.folder, _record(config, step, kind))


def _record(config: RunConfig, step: int, kind: str) -> dict[str, Any]:
    """Return the provenance of a run's weights."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    data = {"source": config.data.source, "root": config.data.root}
    if config.data.photos:
        data |= {"photos": config.data.photos, "photo_rate": config.data.photo_rate}
    return origin(config) | {
        "step": step,
        "weights": kind,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "data": data,
        "trainer": f"palette_vc_jax {palette_vc_jax.__version__}",
    }


def write_trained(folder: Path, model: Model, config: RunConfig, dtype: type) -> None:
    """Write a trained model as a folder, with the palette mixture of its training clips."""

    def write_mixture(partial: Path) -> None:
        try:
            clips, _ = open_split(config.data)
            gmm.save(mixture.fit(clips, config.seed), partial / "mixture.json")
        except (ValueError, OSError) as error:  # no clips here, or hardly any color in them
            cli.print_line(f"no mixture for --palette gmm: {error}", sys.stderr)

    write_model(folder, model, dtype, write_mixture)


def origin(config: RunConfig) -> dict[str, Any]:
    """Return what a run's weights are updates of: a run that is resumed must not change it."""
    if not config.init_from:
        folder, names = Path(config.vae), weights.frozen_networks(config)
        return {name: sha256(folder / f"{name}.safetensors") for name in names}
    base: dict[str, Any] = {"init_from": file_hashes(Path(config.init_from))}
    return base | ({"lora.alpha": config.lora.alpha} if config.lora.rank else {})
