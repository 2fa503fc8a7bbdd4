"""Train the demo model for the time that is left, on latents that came along without their clips.

The run is that of configs/demo.py, from the weights of a model folder with a fresh optimizer. How
many steps fit is not known beforehand, so the learning rate stays constant after its warm-up, and
the moving average of the weights is what counts. It is written again and again, so that a call
that is killed leaves weights.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.stages.plan import Request
from palette_vc_jax.data.cache import CacheReader, stored_key
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.loader import LoaderConfig, batches
from palette_vc_jax.data.samples import SampleConfig
from palette_vc_jax.models.store import Model, load_model, save_model
from palette_vc_jax.training import export, loop, tasks, trainable, weights
from palette_vc_jax.training.config import RunConfig, load, read

PART_BYTES = 14 * 2**20  # of a file with weights, at most
CROPS = ("frames", "crops", "mirrored", "reference_every")  # keys of a cache and of a config
MARGIN = 20.0  # seconds kept for the last weights and for leaving
EVERY = 50  # steps between looks at the clock
WRITE_EVERY = 60.0  # seconds between weights

# What differs from configs/demo.py: steady rates for weights that are trained already, batches
# for a device with memory to spare.
CHANGES = {
    "batch_size": 48,
    "compute_dtype": "bfloat16",
    "ema_decay": 0.9995,
    "log_every": EVERY,
    "validate_every": EVERY,
    "previews_every": 0,
    "save_every": 10**8,
    "optimizer.steps": 10**8,
    "optimizer.decay": "constant",
    "optimizer.learning_rate": 2e-4,
    "optimizer.muon_learning_rate": 2e-3,
}
TOY = {
    "batch_size": 2,
    "compute_dtype": "float32",
    "log_every": 1,
    "validate_every": 3,
    "optimizer.kind": "adamw",  # compiles sooner
}


class TimeIsUp(Exception):
    """Leaves the loop; raised where the last weights have been written."""


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Train, and report the steps that were taken."""
    if not request.cache:
        raise ValueError("no latents to train on; give --cache, a folder that train.py wrote")
    # A toy stops at its first look at the clock.
    stop = time.monotonic() + (0.0 if request.toy else request.seconds - MARGIN)
    model = load_model(Path(request.model))
    encoder = Encoder(model, embeds=False)
    key = stored_key(Path(request.cache), encoder)
    config = _config(request, key)
    with tempfile.TemporaryDirectory() as workdir:
        task, seen = _task(request, config, model, encoder, key, stop)
        try:
            loop.run(task, config, Path(workdir))
        except TimeIsUp:
            pass
        log = Path(workdir, "metrics.jsonl")
        seen["loss"] = json.loads(log.read_text().splitlines()[-1])["loss"]
        shutil.copy(log, Path(request.output, "demo", log.name))
    yield {"name": request.case} | seen


def _config(request: Request, key: dict[str, Any]) -> RunConfig:
    """Return the run's config: crops are what the cache has, windows are configs/demo.py's."""
    config = load("demo")
    config.init_from = request.model
    config.data.cache = request.cache
    config.data.update({name: key[name] for name in CROPS})
    config.data.size = tuple(key["size"])
    config.data.window = min(config.data.window, key["frames"])
    config.update_from_flattened_dict(CHANGES | (TOY if request.toy else {}))
    return read(config)


def _task(
    request: Request,
    config: RunConfig,
    model: Model,
    encoder: Encoder,
    key: dict[str, Any],
    stop: float,
) -> tuple[loop.Task, dict[str, Any]]:
    """Build the task, and what it reports of itself while it runs."""
    folder = Path(request.output, "demo")
    networks = {name: model.params[name] for name in weights.TRAINABLE}
    trained, frozen = trainable.split(networks, config.trained)
    reader = CacheReader(Path(request.cache), key)
    data = config.data
    windows = SampleConfig(data.window, data.strides, data.reversed, seed=config.seed)
    began = written = time.monotonic()
    seen: dict[str, Any] = {"steps": 0, "clips": 0, "train_s": 0.0}

    def stream(first: int, rows: tuple[int, ...]) -> Iterator[Any]:
        loader = LoaderConfig(config.batch_size, rows=rows)
        for batch in batches(reader, windows, config.data.reference_every, loader, first):
            yield encoder.batch(batch)

    def watch(ema: Any, frozen: Any) -> dict[str, float]:
        nonlocal written
        del frozen
        now = time.monotonic()
        seen["steps"] += config.validate_every
        seen["clips"] = seen["steps"] * config.batch_size
        seen["train_s"] = now - began
        if now > min(stop, written + WRITE_EVERY):
            _write(config, jax.device_get(ema), seen["steps"], folder)
            written = now
        if now > stop:
            raise TimeIsUp
        return {}

    return loop.Task(
        init=lambda: trained,
        frozen=frozen,
        loss=tasks.abstract_run(config).loss,
        batches=stream,
        validate=watch,
        export=lambda ema, step, _: _write(config, ema, step, folder),
    ), seen


def _write(config: RunConfig, ema: Any, step: int, folder: Path) -> None:
    """Write the model under `folder` in files that can travel; the VAE stays as it was."""
    with tempfile.TemporaryDirectory() as made:
        model = export.trained_model(config, ema, step, "ema")
        save_model(Path(made), model.config, model.params, np.float16)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("unet", "image_encoder"):
            for number, part in enumerate(_parts(load_file(Path(made, f"{name}.safetensors")))):
                partial = folder / f".{name}.partial"
                save_file(part, partial)
                partial.replace(folder / f"{name}-{number}.safetensors")
        shutil.copy(Path(made, "config.json"), folder)


def _parts(tensors: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Split tensors into parts of at most `PART_BYTES`."""
    parts: list[dict[str, np.ndarray]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        if parts[-1] and held + tensor.nbytes > PART_BYTES:
            parts.append({})
            held = 0
        parts[-1][name] = tensor
        held += tensor.nbytes
    return parts
