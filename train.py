"""Train a model: `python train.py --config configs/demo.py --workdir runs/demo`.

The same command again resumes. `--config FILE:ARG` hands ARG to the file's `get_config`, and
`--config.key=value` overrides a value. `--profile 10:12` puts a trace of steps 10 to 12 into
WORKDIR/profile.
"""

from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder for metrics, checkpoints and the model")
PROFILE = flags.DEFINE_string("profile", "", "steps to profile: START:STOP, from 1, STOP included")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Build the task that the config names and run the loop."""
    del argv
    from palette_vc_jax import cli
    from palette_vc_jax.training import loop, tasks, watch

    logging.set_verbosity(logging.WARNING)  # orbax tells every step it takes
    config = CONFIG.value

    def train() -> None:
        steps = watch.profile_steps(PROFILE.value, config.optimizer.steps)
        loop.run(tasks.make_task(config), config, Path(WORKDIR.value), steps)

    cli.run(train)


if __name__ == "__main__":
    app.run(main)
