"""A run that takes a moment: a line fitted to the brightness of real frames' pixels, with noise.

All that a resumed run could get wrong is in it: the order of the data, the step's random key, the
average, the optimizer's state. `python -m tests.training.toy CLIPS WORKDIR STEPS` runs it.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.loader import LoaderConfig, batches
from palette_vc_jax.data.samples import ClipReader, SampleConfig
from palette_vc_jax.data.sources import open_clips
from palette_vc_jax.training.config import MeshConfig, OptimizerConfig, RunConfig
from palette_vc_jax.training.loop import Task
from tests import films

CROPS = CropConfig(frames=4, size=(8, 8), short_sides=(8, 10), crops=2, reference_every=2)


def write_clips(folder: Path) -> Path:
    """Write six clips of random frames."""
    rng = np.random.default_rng(0)
    for clip in range(6):
        pictures = [rng.integers(0, 256, (12, 16, 3)).astype(np.uint8) for _ in range(5)]
        films.write_pictures(folder / f"clip{clip}", pictures)
    return folder


def config(steps: int, **changes: Any) -> RunConfig:
    """Return the settings of the loop and the optimizer."""
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=2, steps=steps, b2=0.99)
    values = dict(
        optimizer=optimizer, ema_decay=0.9, batch_size=8, log_every=2, validate_every=2,
        previews_every=0, save_every=2, mesh=MeshConfig(split_from=8),
    )  # fmt: skip
    return RunConfig(**values | changes)


def loss(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
    """Fit `2 x` by `slope x + offset`, with noise from the step's key."""
    x = batch["frames"].astype(jnp.float32).mean((2, 3)) / 255.0  # [B, T, 3]
    error = params["slope"] * x + params["offset"] - 2.0 * x
    error = error + 0.1 * jax.random.normal(key, error.shape)
    return jnp.square(error).mean(), {"error": jnp.abs(error).mean()}


def task(clips: Path, exported: dict | None = None, delay: float = 0.0) -> Task:
    """Make the run over frame folders at `clips`; each batch comes after `delay` seconds."""

    def stream(first: int, rows: tuple[int, ...]) -> Iterator[dict[str, np.ndarray]]:
        reader = ClipReader(open_clips("folders", clips), CROPS)
        for batch in batches(reader, SampleConfig(2), 2, LoaderConfig(8, rows=rows), first):
            time.sleep(delay)
            yield batch

    def export(params: Any, step: int, folder: Path) -> None:
        if exported is not None:
            exported.update(params=params)

    return Task(
        init=lambda: {"slope": jnp.zeros((16, 1, 1)), "offset": jnp.ones((2, 3))},
        frozen={},
        loss=lambda p, f, b, k: loss(p | {"slope": p["slope"].mean(0)}, f, b, k),
        batches=stream,
        validate=lambda params, frozen: {"validation": float(params["slope"].mean())},
        export=export,
    )


if __name__ == "__main__":
    from palette_vc_jax import cli
    from palette_vc_jax.parallel.processes import failing_together, join_processes
    from palette_vc_jax.training import loop, preemption
    from palette_vc_jax.training.workdir import locked

    folder, workdir, steps, *accumulate = sys.argv[1:]
    settings = config(int(steps), save_every=1, accumulate=int((accumulate or ["1"])[0]))

    def main() -> None:
        with preemption.listening() as notice:
            join_processes()
            notice.joined()
            with failing_together(), locked(Path(workdir)):
                loop.run(task(Path(folder), delay=0.02), settings, Path(workdir), notice)

    cli.run(main)
