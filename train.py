"""Train a model: `python train.py --config configs/demo.py --workdir runs/demo`.

The same command again resumes. `--config FILE:ARG` hands ARG to the file's `get_config`, and
`--config.key=value` overrides a value.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder for metrics, checkpoints and the model")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Build the task that the config names and run the loop."""
    del argv
    from palette_vc_jax import cli
    from palette_vc_jax.training import loop, tasks

    logging.set_verbosity(logging.WARNING)  # orbax tells every step it takes
    config = CONFIG.value
    cli.run(lambda: loop.run(tasks.make_task(config), config, Path(WORKDIR.value)))


def parse(argv: list[str]) -> list[str]:
    """Read the flags; what is wrong with them ends the command in one line."""
    try:
        rest = flags.FLAGS(argv)
        _ = CONFIG.value.task  # a config file that is missing is told when it is used
        return rest
    except AttributeError as error:
        key = str(error).strip("\"'")
        _refuse(f"the config has no key {key!r}; its file lists those that there are.")
    except (flags.Error, ValueError, TypeError, OSError) as error:
        # An error inside the config file comes with its traceback, the reason last.
        _refuse([line for line in str(error).splitlines() if line.strip()][-1])


def _refuse(reason: str) -> None:
    print(f"error: {reason.strip().removeprefix('ValueError: ')}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
