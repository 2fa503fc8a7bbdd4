"""A run of `train.py` that takes seconds: configs/davis.py:runlocal, a tiny model, small clips."""

from pathlib import Path

from tests import tiny
from tests.training import toy

COMMAND = ("train.py", "--config=configs/davis.py:runlocal")
RUN = dict(batch_size=4, log_every=1, validate_every=3, previews_every=3, save_every=2)
DATA = dict(hold_out_every=3, size="(6, 8)", short_sides="(6, 8)", window=2, frames=5)
# A step of less than the whole UNet is traced, compiled, taken and saved sooner.
PARTS = ("--config.trained=attention", "--config.trained=palette")
# For tests of how a run starts, ends and goes on.
LIGHT = (*PARTS, "--config.validate_every=0", "--config.previews_every=0")


def write_run(folder: Path, **changes: object) -> list[str]:
    """Write a model and clips under `folder`; return the flags that make the run small."""
    values = RUN | {f"data.{name}": value for name, value in DATA.items()}
    values |= {
        "validation_clips": 4,
        "validation_sigmas": "(2.0,)",
        "init_from": tiny.write_model(folder / "tiny", tiny.MICRO),
        "data.root": toy.write_clips(folder / "clips"),
    }
    return [f"--config.{name}={value}" for name, value in (values | changes).items()]
