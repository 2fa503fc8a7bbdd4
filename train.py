"""Train a model: `python train.py --config configs/demo.py --workdir runs/demo`.

The same command again resumes. `--config FILE:ARG` hands ARG to the file's `get_config`, and
`--config.key=value` overrides a value. `--profile 10:12` puts a trace of steps 10 to 12 into
WORKDIR/profile.

`--compile_only --topology v5e:4x4` compiles the step for a TPU slice that is not there, and
`--topology h100:8` for GPUs (with `pip install "jax[tpu]"` or `"jax[cuda13]"`, on any machine),
reports what it would take of each device, and stops; exit code 1 if it does not fit.
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder for metrics, checkpoints and the model")
PROFILE = flags.DEFINE_string("profile", "", "steps to profile: START:STOP, from 1, STOP included")
COMPILE_ONLY = flags.DEFINE_bool("compile_only", False, "compile for --topology, report, stop")
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "hardware to compile for, such as v5e:4x4 or h100:8"
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Build the task that the config names and run the loop."""
    del argv
    from palette_vc_jax import cli

    # Orbax tells every step it takes, and of errors that come as exceptions too.
    logging.set_verbosity(logging.FATAL)
    cli.run(rehearse if COMPILE_ONLY.value else train)


def train() -> None:
    """Train, in this process or as one of several."""
    from palette_vc_jax import cli
    from palette_vc_jax.parallel.processes import check_joined, failing_together, join_processes
    from palette_vc_jax.training import loop, preemption, tasks, watch
    from palette_vc_jax.training.workdir import locked

    if not WORKDIR.value:
        raise ValueError("--workdir is missing; give the folder for metrics and checkpoints.")
    workdir, config = cli.local_path(WORKDIR.value, "--workdir"), CONFIG.value
    tasks.check(config)
    steps = watch.profile_steps(PROFILE.value, config.optimizer.steps)
    with preemption.listening() as notice:
        join_processes()
        notice.joined()
        check_joined()
        with failing_together(), locked(workdir):
            # The loop alone holds the task, so that it can release the host's weights.
            loop.run(tasks.make_task(config), config, workdir, notice, steps)


def rehearse() -> None:
    """Compile for hardware that is not there."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the devices are not there
    from palette_vc_jax import cli
    from palette_vc_jax.training import rehearsal, targets, tasks

    if not TOPOLOGY.value:
        raise ValueError("--topology is missing; give a TPU slice or GPUs, as v5e:4x4 or h100:8.")
    config, devices = CONFIG.value, targets.topology_devices(TOPOLOGY.value)
    report = rehearsal.compile_step(tasks.rehearse(config), config, devices)
    print(rehearsal.table(report), flush=True)
    # The compiler goes on in a thread that cannot be stopped.
    os._exit(0 if rehearsal.fits(report) else cli.FAILURE)


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
