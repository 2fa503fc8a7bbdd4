"""Train a model: `train --config davis --workdir runs/davis`.

The same command resumes a run. `--config` takes the path of a config file or the name of one that
comes with the package, and `:ARG` behind it an argument for the file, such as `davis:runlocal`.
`--config.key=value` overrides a value, as in `--config.optimizer.steps=100`.

`--compile_only --topology v5e:4x4` compiles the step for a TPU slice that is not there, and
`--topology h100:8` for GPUs (with `pip install "jax[tpu]"` or `"jax[cuda13]"`, on any machine),
reports the memory and the operations it takes of each device, and stops; the exit code is 1 if the
step does not fit.
"""

import argparse
import os
import re

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from palette_vc_jax import cli
from palette_vc_jax.commands.flags import add_compile_cache
from palette_vc_jax.training.config import RunConfig, load, read, rules

TO_NONE = re.compile(r"--config\.([\w.]+)=None")
NO_KEY = "the config has no key {!r}; palette_vc_jax/training/config.py lists all keys."


def main(argv: list[str] | None = None) -> None:
    """Read the flags, and train or compile."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:ARG]", help="config file, or a name: davis")
    add("--workdir", help="folder for metrics, checkpoints and the model")
    add(
        "--profile",
        default="",
        metavar="START:STOP",
        help="write a trace of these steps into WORKDIR/profile, counted from 1, STOP included "
        "(default: none)",
    )
    add("--compile_only", action="store_true", help="compile for --topology, report, and stop")
    add("--topology", help="hardware to compile for, such as v5e:4x4 or h100:8")
    add_compile_cache(parser)
    options, overrides = parser.parse_known_args(argv)
    # Orbax logs every step it takes, and repeats errors that are raised anyway.
    logging.set_verbosity(logging.FATAL)
    file, _, argument = options.config.partition(":")
    config = read(_override(load(file, argument), overrides))
    if options.compile_only:
        compile_only(config, options.topology)
    else:
        from palette_vc_jax.parallel.compile_cache import use_compile_cache

        use_compile_cache(options.compile_cache)
        train(config, options.workdir, options.profile)


def train(config: RunConfig, folder: str | None, profile: str) -> None:
    """Train in `folder`, in this process or as one of several."""
    from palette_vc_jax.parallel.processes import check_joined, failing_together, join_processes
    from palette_vc_jax.training import loop, monitoring, preemption, tasks
    from palette_vc_jax.training.checks import check_run
    from palette_vc_jax.training.workdir import locked

    if not folder:
        raise ValueError("--workdir is missing; give the folder for metrics and checkpoints.")
    workdir = cli.local_path(folder, "--workdir")
    check_run(config)
    steps = monitoring.profile_steps(profile, config.optimizer.steps)
    with preemption.listening() as notice:
        join_processes()
        notice.joined()
        check_joined()
        with failing_together(), locked(workdir):
            loop.check_agreed(config)
            # The loop alone holds the task, so that it can release the host's weights.
            loop.run(tasks.make_task(config), config, workdir, notice, steps)


def compile_only(config: RunConfig, topology: str | None) -> None:
    """Compile the step for hardware that is not there, print a report, and end the process."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the devices are not there
    from palette_vc_jax.training import tasks
    from palette_vc_jax.training.aot import report, targets

    if not topology:
        raise ValueError("--topology is missing; give a TPU slice or GPUs, as v5e:4x4 or h100:8.")
    devices = targets.topology_devices(topology)
    found = report.compile_step(tasks.abstract_run(config), config, devices)
    print(report.table(found), flush=True)
    # The compiler goes on in a thread that cannot be stopped.
    os._exit(0 if report.fits(found) else cli.FAILURE)


def _override(config: ConfigDict, arguments: list[str]) -> ConfigDict:
    """Apply flags such as `--config.seed=1` to `config`.

    Raises ValueError for an unknown key or flag, and for a value of another type.
    """
    values = flags.FlagValues()
    # ml_collections cannot parse None, so these flags are read here.
    to_none = {match[1] for argument in arguments if (match := TO_NONE.fullmatch(argument))}
    if unknown := sorted(to_none - rules().keys()):
        raise ValueError(NO_KEY.format(unknown[0]))
    config.update_from_flattened_dict(dict.fromkeys(to_none))
    command = ["train", *(text for text in arguments if not TO_NONE.fullmatch(text))]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=command)
        rest = values(command)[1:]
    except (AttributeError, KeyError) as error:
        key = str(error).strip("\"'")
        raise ValueError(NO_KEY.format(key)) from None
    except (flags.Error, ValueError, TypeError, IndexError) as error:
        raise ValueError([line for line in str(error).splitlines() if line.strip()][-1]) from None
    if rest:
        raise ValueError(f"{rest[0]!r} is not a flag; --help lists the flags.")
    return values.config
