"""`train.py` itself in two processes of two devices each, on configs/davis.py with a tiny model."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from palette_vc_jax.checkpoint import read_newest
from palette_vc_jax.models.functional import flatten
from palette_vc_jax.training.workdir import locked
from tests.commands import runtime_environment
from tests.training import small

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
SAVED = 16  # steps of a run that saves each of them


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Write clips and a model; return the flags that make the run small."""
    folder = tmp_path_factory.mktemp("given")
    # What one run has compiled the next one of the same kind reads.
    values = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield small.write_run(folder)


def _start(given, workdir, steps, devices, **environ):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, *small.COMMAND, f"--workdir={workdir}"]
        + [f"--config.optimizer.steps={steps}", *given],
        cwd=ROOT,
        env=runtime_environment() | {"XLA_FLAGS": flags} | environ,
        stderr=subprocess.PIPE,
        text=True,
    )


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _pair(given, workdir, steps):
    """Start two processes as the three variables of JAX describe them."""
    address = f"127.0.0.1:{_free_port()}"
    common = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2")
    return [_start(given, workdir, steps, 2, JAX_PROCESS_ID=str(n), **common) for n in range(2)]


def _srun(given, workdir, steps):
    """Start two tasks on one node as slurm does."""
    common = dict(
        SLURM_JOB_ID="1", SLURM_STEP_NODELIST="127.0.0.1", SLURM_NTASKS="2",
        SLURM_STEP_NUM_TASKS="2", SLURM_STEP_TASKS_PER_NODE="2",
        JAX_COORDINATOR_PORT=str(_free_port()),
    )  # fmt: skip
    tasks = [dict(SLURM_PROCID=str(n), SLURM_LOCALID=str(n)) for n in range(2)]
    return [_start(given, workdir, steps, 2, **common, **task) for task in tasks]


def _ended(processes):
    """Wait for processes; return their exit codes and what they wrote to stderr."""
    errors = [process.communicate(timeout=500)[1] for process in processes]
    return [process.returncode for process in processes], errors


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_what_one_does(given, tmp_path):
    """If this fails, a pod cannot train, or learns something else than one machine."""
    runs = "one", "two"
    # Kernels are split over the processes, not only batches.
    given = [*given, *small.PARTS, "--config.mesh.split_from=64"]
    starts = [_start(given, tmp_path / "one", 3, 1)], _pair(given, tmp_path / "two", 3)
    for processes in starts:
        codes, errors = _ended(processes)
        assert set(codes) == {0}, errors
    one, two = (_lines(tmp_path / name) for name in runs)
    assert [line["step"] for line in two] == [1, 2, 3, 3]
    for ours, theirs in zip(one, two, strict=True):
        for name in ours:
            if name == "loss" or name.startswith("validation"):
                assert abs(ours[name] - theirs[name]) < 1e-5 * ours[name], name
    (_, ours), (_, theirs) = (
        read_newest(tmp_path / name / "checkpoints", "params")[:2] for name in runs
    )
    ours, theirs = flatten(ours), flatten(theirs)
    moved = sum(np.square(ours[name] - theirs[name]).sum() for name in ours)
    size = sum(np.square(leaf).sum() for leaf in ours.values())
    assert np.sqrt(moved / size) < 1e-4
    for name in runs:
        assert (tmp_path / name / "previews" / "step-000003.png").is_file()
        assert (tmp_path / name / "model" / "provenance.json").is_file()


def test_both_leave_when_one_is_terminated_and_resume(given, tmp_path):
    """If this fails, a host that is taken away leaves the others waiting, or costs the run."""
    given = [*given, *small.LIGHT, "--config.save_every=10"]
    processes = _srun(given, tmp_path, STEPS)
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert all(process.poll() is None for process in processes), _ended(processes)
        time.sleep(0.02)
    processes[1].terminate()
    codes, errors = _ended(processes)
    assert codes == [75, 75], errors
    assert "terminated; saved step" in errors[0]
    left = max(line["step"] for line in _lines(tmp_path))
    assert left < STEPS
    codes, errors = _ended(_srun(given, tmp_path, STEPS))
    assert codes == [0, 0], errors
    logged = [line["step"] for line in _lines(tmp_path) if "loss" in line]
    assert logged == list(range(1, STEPS + 1))


def test_a_process_that_cannot_go_on_stops_the_others(given, tmp_path):
    """If this fails, the hosts of a run wait for one that has found a mistake."""
    given = [*given, *small.LIGHT, f"--config.data.cache={tmp_path / 'cache'}"]
    broken = [flag for flag in given if "data.root" not in flag]
    address = f"127.0.0.1:{_free_port()}"
    common = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2")
    processes = [
        _start(given, tmp_path, 3, 2, JAX_PROCESS_ID="0", **common),
        _start(
            [*broken, "--config.data.root=/nowhere"], tmp_path, 3, 2, JAX_PROCESS_ID="1", **common
        ),
    ]
    codes, errors = _ended(processes)
    assert codes == [2, 2], errors
    assert errors[0].splitlines()[-1].startswith("error: process 1: /nowhere: no clips found")
    assert errors[1].splitlines()[-1].startswith("error: /nowhere: no clips found")
    assert not (tmp_path / "config.json").exists()


def test_a_file_that_one_process_cannot_read_stops_the_others(given, tmp_path):
    """If this fails, a broken disk on one host leaves the others in a collective without end."""
    (root,) = (flag.partition("=")[2] for flag in given if "data.root" in flag)
    copy = shutil.copytree(root, tmp_path / "clips")
    given = [*given, *small.LIGHT]
    flags = [given, [*given, f"--config.data.root={copy}"]]
    address = f"127.0.0.1:{_free_port()}"
    common = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2")
    processes = [
        _start(flags[n], tmp_path / "run", 10**6, 2, JAX_PROCESS_ID=str(n), **common)
        for n in range(2)
    ]
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert all(process.poll() is None for process in processes), _ended(processes)
        time.sleep(0.02)
    for frame in copy.rglob("*.png"):
        frame.write_bytes(b"not a picture")
    codes, errors = _ended(processes)
    assert codes == [2, 2], errors
    assert errors[0].splitlines()[-1].startswith(f"error: process 1: {copy}"), errors[0]
    assert errors[1].splitlines()[-1].startswith(f"error: {copy}"), errors[1]


def test_sigterm_while_compiling_leaves_at_once(given, tmp_path):
    """If this fails, a scheduler kills a run that still compiles, and calls it a failure."""
    run = _start(given, tmp_path, 3, 2, JAX_ENABLE_COMPILATION_CACHE="false")
    while not (tmp_path / "config.json").exists():  # written before the first step is compiled
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    time.sleep(1.0)
    run.terminate()
    began = time.monotonic()
    codes, errors = _ended([run])
    assert codes == [75], errors
    assert time.monotonic() - began < 20
    assert "terminated before the step under way was done" in errors[0]


@pytest.fixture(scope="module")
def saving(given):
    """Return the flags of a light run that saves after each step."""
    return [*given, *small.LIGHT, "--config.save_every=1"]


@pytest.fixture(scope="module")
def whole(saving, tmp_path_factory):
    """Return the folder of a run of `SAVED` steps, each saved, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    codes, errors = _ended([_start(saving, folder, SAVED, 1)])
    assert codes == [0], errors
    return folder


def test_killed_at_any_moment_it_goes_on_as_if_nothing_were(saving, whole, tmp_path):
    """If this fails, a power cut costs more than the steps since the last checkpoint."""
    rng = random.Random(0)
    checkpoints, writing = tmp_path / "killed" / "checkpoints", 0
    for kill in range(5):
        run = _start(saving, tmp_path / "killed", SAVED, 1)
        before = set(checkpoints.glob("*"))
        if kill < 2:  # while a checkpoint is being written
            while not (partial := _partial(checkpoints) - before) and run.poll() is None:
                time.sleep(0.001)
            writing += bool(partial)
        elif kill < 4:  # some time after one was begun
            while not set(checkpoints.glob("*")) - before and run.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.3))
        else:  # while starting
            time.sleep(rng.uniform(0.0, 4.0))
        run.kill()
        assert _ended([run])[0] == [-signal.SIGKILL]
    assert writing == 2
    codes, errors = _ended([_start(saving, tmp_path / "killed", SAVED, 1)])
    assert codes == [0], errors
    states = [_state(run / "checkpoints" / str(SAVED)) for run in (whole, tmp_path / "killed")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    logged = [line["step"] for line in _lines(tmp_path / "killed") if "loss" in line]
    assert logged == list(range(1, SAVED + 1))


def _partial(checkpoints):
    """Return the folders of checkpoints that are being written."""
    return {path for path in checkpoints.glob("*") if "tmp" in path.name}


def _state(checkpoint):
    return ocp.StandardCheckpointer().restore(checkpoint.absolute() / "state")


def _refused(given, workdir, *flags):
    """Run until a mistake is found; return the exit code and the line that names it."""
    (code,), (error,) = _ended([_start([*given, *flags], workdir, 3, 1)])
    assert "Traceback" not in error
    return code, error.splitlines()[-1]


def test_a_folder_that_cannot_serve_is_refused_in_a_line(given, tmp_path):
    """If this fails, a mistyped folder or a second start costs minutes, or another run's files."""
    (tmp_path / "workdir").mkdir()
    with locked(tmp_path / "workdir"):
        code, line = _refused(given, tmp_path / "workdir")
        assert code == 2 and line.endswith("another run is using it; wait for its end, or give "
                                           "another --workdir.")  # fmt: skip
    code, line = _refused(given, Path("/sys/run"))  # which not even root can write
    assert code == 2 and line.startswith("error: /sys/run: cannot be written (")
    (tmp_path / "cache" / "train").mkdir(parents=True)
    (tmp_path / "cache" / "train" / "index.json").write_text("[]")
    code, line = _refused(given, tmp_path / "new", f"--config.data.cache={tmp_path / 'cache'}")
    assert code == 2 and "index.json: the index of a latent cache, damaged; delete" in line
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]


def test_a_damaged_checkpoint_and_a_full_disk(saving, whole, tmp_path):
    """If this fails, train.py ends in a traceback where the disk gives out."""
    checkpoints = shutil.copytree(whole, tmp_path / "run") / "checkpoints"
    for path in (checkpoints / str(SAVED) / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:20])
    (code,), (error,) = _ended([_start(saving, tmp_path / "run", SAVED + 1, 1)])
    aside = f"damaged-{SAVED}"
    assert code == 0 and f"checkpoint {SAVED} was set aside as {aside}." in error
    kept = {path.name for path in checkpoints.iterdir()}
    assert kept == {str(SAVED), str(SAVED + 1), aside}
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "none", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        code, line = _refused(saving, disk)
        assert code == 1 and "a checkpoint could not be written" in line, line
    finally:
        subprocess.run(["umount", disk], check=True)
