"""Runs that stop, die, diverge or meet damage: nothing that was learned is lost."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from palette_vc_jax import cli
from palette_vc_jax.training import loop
from palette_vc_jax.training.config import keys
from palette_vc_jax.training.workdir import locked
from tests.commands import runtime_environment
from tests.training import toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return toy.write_clips(tmp_path_factory.mktemp("clips"))


def _state(workdir, step):
    """Read a whole checkpoint: params, average, optimizer and step."""
    handler = ocp.StandardCheckpointer()
    return handler.restore(workdir.absolute() / "checkpoints" / str(step) / "state")


def _steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def _equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def _files(workdir):
    """Read what a refused run must leave as it is."""
    files = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert workdir / "metrics.jsonl" in files
    return files


def _start(clips, workdir, steps):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.toy", str(clips), str(workdir), str(steps)],
        cwd=ROOT,
        env=runtime_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stopped_run_resumes_to_the_same_state(clips, tmp_path):
    """If this fails, stopping and resuming changes what is learned: 2 + 2 steps are not 4."""
    whole, parts = {}, {}
    loop.run(toy.task(clips, whole), toy.config(4), tmp_path / "whole")
    loop.run(toy.task(clips, parts), toy.config(2), tmp_path / "parts")
    loop.run(toy.task(clips, parts), toy.config(4), tmp_path / "parts")
    _equal(whole["params"], parts["params"])
    _equal(_state(tmp_path / "whole", 4), _state(tmp_path / "parts", 4))
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line)["step"] for line in lines]
    assert logged == [2, 2, 4, 4]  # each a training and a validation line


def test_a_run_does_not_go_on_from_another_origin(clips, tmp_path):
    """If this fails, LoRA's pairs are merged into a model that they were not trained for."""
    task = toy.task(clips)._replace(origin=lambda: {"init_from": "aa", "lora.alpha": 16.0})
    loop.run(task, toy.config(2), tmp_path)
    before = _files(tmp_path)
    for changed in ("init_from", "lora.alpha"):
        other = task._replace(origin=lambda changed=changed: task.origin() | {changed: 1.0})
        with pytest.raises(ValueError, match=f"began with another {changed};"):
            loop.run(other, toy.config(4), tmp_path)
    assert _files(tmp_path) == before
    loop.run(task, toy.config(4), tmp_path)
    assert _steps(tmp_path) == [2, 4]


def test_the_hosts_copy_of_frozen_weights_is_released(clips, tmp_path):
    """If this fails, LoRA of the full model holds 6 GB of host memory that it never reads."""
    held, released = [], []

    def make():
        kernel = np.ones(3, np.float32)
        held.append(weakref.ref(kernel))
        task = toy.task(clips)

        def batches(first, rows):
            for batch in task.batches(first, rows):
                released.append(held[0]() is None)
                yield batch

        return task._replace(frozen={"kernel": kernel}, batches=batches)

    loop.run(make(), toy.config(2, compute_dtype="bfloat16"), tmp_path)
    assert released == [True, True]


def test_accumulated_gradients_are_those_of_the_whole_batch(clips, tmp_path):
    """If this fails, a batch in parts trains something else, or is weighed by their number."""
    whole, parts = {}, {}
    for exported, accumulate in ((whole, 1), (parts, 4)):
        task = toy.task(clips, exported)
        # Without the noise, whose key is each part's own.
        task = task._replace(
            loss=lambda p, f, b, k, loss=task.loss: loss(p, f, b, jax.random.key(0))
        )
        given = toy.config(3, accumulate=accumulate)
        loop.run(task, given, tmp_path / str(accumulate))
    noise = 0.1  # the same noise for each part is not the whole batch's: means differ a little
    for name in ("slope", "offset"):
        one, other = (np.asarray(run["params"][name]) for run in (whole, parts))
        assert np.abs(one - other).max() < noise * np.abs(one).max()


def test_sigterm_saves_and_leaves_with_a_code_of_its_own(clips, tmp_path):
    """If this fails, a machine that is taken away costs the steps since the last checkpoint."""
    run = _start(clips, tmp_path, 100000)
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 4):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == cli.PREEMPTED
    said = run.stderr.read().splitlines()[-1]
    assert said == f"terminated; saved step {_steps(tmp_path)[-1]}, the same command resumes."


def test_a_diverged_run_names_the_step_and_keeps_its_checkpoint(clips, tmp_path):
    """If this fails, a run whose loss is NaN goes on and saves NaN over its good state."""
    task = toy.task(clips)

    def broken(first, rows):
        for index, batch in enumerate(task.batches(first, rows)):
            yield batch | {"frames": batch["frames"] * (np.nan if index == 1 else 1.0)}

    loop.run(task, toy.config(2), tmp_path)
    with pytest.raises(FloatingPointError, match="the loss of step 4 is not finite"):
        loop.run(task._replace(batches=broken), toy.config(8), tmp_path)
    assert _steps(tmp_path) == [2]


def test_data_that_cannot_be_read_costs_nothing(clips, tmp_path):
    """If this fails, a broken file after hours costs the steps since the last checkpoint."""
    task, whole, parts = toy.task(clips), {}, {}

    def broken(first, rows):
        for index, batch in enumerate(task.batches(first, rows)):
            if index == 3:
                raise ValueError("f3.png: cannot be read")
            yield batch

    with pytest.raises(ValueError, match="f3.png"):
        loop.run(task._replace(batches=broken), toy.config(6), tmp_path / "parts")
    assert _steps(tmp_path / "parts")[-1] == 3
    loop.run(toy.task(clips, parts), toy.config(6), tmp_path / "parts")
    loop.run(toy.task(clips, whole), toy.config(6), tmp_path / "whole")
    _equal(whole["params"], parts["params"])


def _damage(checkpoint):
    """Cut every file that holds numbers."""
    for path in (checkpoint / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:20])


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(clips, tmp_path, capsys):
    """If this fails, one bad sector stops a run for good, or is not reported."""
    whole, parts = {}, {}
    loop.run(toy.task(clips, whole), toy.config(6), tmp_path / "whole")
    checkpoints = tmp_path / "parts" / "checkpoints"
    for name in ("damaged-4", "damaged-4-2"):
        loop.run(toy.task(clips), toy.config(4), tmp_path / "parts")
        _damage(checkpoints / "4")
        loop.run(toy.task(clips), toy.config(4), tmp_path / "parts")
        said = capsys.readouterr().err
        assert "checkpoint 4 is damaged (OUT_OF_RANGE" in said
        assert f"checkpoint 4 was set aside as {name}." in said
        assert (checkpoints / name).is_dir()
    loop.run(toy.task(clips, parts), toy.config(6), tmp_path / "parts")
    _equal(whole["params"], parts["params"])
    assert _steps(tmp_path / "parts") == [4, 6]


FILES = ("record/metadata", "state/_METADATA", "state/manifest.ocdbt", "state/_sharding")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "lost", "garbage"])
def test_a_checkpoint_may_be_damaged_anywhere(clips, tmp_path, capsys, name, damage):
    """If this fails, damage to some file of a checkpoint ends a run that has an older one."""
    loop.run(toy.task(clips), toy.config(4), tmp_path)
    path = tmp_path / "checkpoints" / "4" / name
    data = path.read_bytes()
    path.unlink()
    if damage != "lost":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\xfe" * len(data))
    loop.run(toy.task(clips), toy.config(4), tmp_path)
    # Shardings are known without their file.
    harmless = name == "state/_sharding" and damage == "lost"
    assert ("checkpoint 4 is damaged" in capsys.readouterr().err) != harmless
    assert _steps(tmp_path) == [2, 4]


def test_a_device_without_memory_is_named_with_the_keys_that_help(clips, tmp_path):
    """If this fails, a batch that is too large for the device ends in a traceback."""

    def batches(*given):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: allocating 24.00GiB")
        yield

    task = toy.task(clips)._replace(batches=batches)
    with pytest.raises(ValueError, match=r"24.00GiB; give --config.remat=layers, raise"):
        loop.run(task, toy.config(4), tmp_path)


def test_a_run_whose_checkpoints_are_all_damaged_stops(clips, tmp_path):
    """If this fails, a run begins at step 0 beside its own checkpoints."""
    loop.run(toy.task(clips), toy.config(4), tmp_path)
    for step in (2, 4):
        _damage(tmp_path / "checkpoints" / str(step))
    before = _files(tmp_path)
    with pytest.raises(OSError, match="all 2 checkpoints are damaged, nothing was changed"):
        loop.run(toy.task(clips), toy.config(6), tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    "raised",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 24 GiB"),
        ValueError("RESOURCE_EXHAUSTED: too many open files"),
        ValueError("UNAVAILABLE: Error reading local file: Stale file handle"),
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
    ],
    ids=lambda error: str(error)[:12],
)
def test_what_is_no_damage_stops_the_run(clips, tmp_path, monkeypatch, raised):
    """If this fails, a device without memory or a hiccup of the disk costs a run its state."""
    loop.run(toy.task(clips), toy.config(4), tmp_path)
    before = _files(tmp_path)

    def fail(*args, **kwargs):
        raise Exception("Encountered error while reading array index") from raised

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "restore", fail)
    with pytest.raises(OSError, match="4: cannot be read .*; the checkpoint is left as it is"):
        loop.run(toy.task(clips), toy.config(6), tmp_path)
    assert _files(tmp_path) == before


def test_another_optimizer_is_refused(clips, tmp_path):
    """If this fails, a changed setting is taken for damage, and the run begins again."""
    loop.run(toy.task(clips), toy.config(2), tmp_path)
    before = _files(tmp_path)
    other = toy.config(4)
    muon = dataclasses.replace(other.optimizer, kind="muon", muon_learning_rate=1e-2)
    other = dataclasses.replace(other, optimizer=muon)
    with pytest.raises(ValueError, match="holds the run of another optimizer"):
        loop.run(toy.task(clips), other, tmp_path)
    assert _files(tmp_path) == before


def test_a_workdir_is_for_one_run(clips, tmp_path):
    """If this fails, two runs overwrite each other, or one goes on with another's weights."""
    with locked(tmp_path), pytest.raises(ValueError, match="another run is using it"):
        with locked(tmp_path):
            pass
    loop.run(toy.task(clips), toy.config(2), tmp_path)
    other = toy.task(clips)._replace(init=lambda: {"slope": np.zeros((3, 1, 1), np.float32)})
    with pytest.raises(ValueError, match="another model or way to train.*params.offset"):
        loop.run(other, toy.config(4), tmp_path)
    assert _steps(tmp_path) == [2]


def test_checkpoints_kept_for_good(clips, tmp_path):
    """If this fails, the states that were to be compared later are gone."""
    loop.run(toy.task(clips), toy.config(9, save_every=1, keep=2, keep_every=4), tmp_path)
    assert _steps(tmp_path) == [4, 8, 9]


def _fail(monkeypatch, failing):
    """Make some of the saves fail, counted from 1, as on a full disk."""
    write, calls = ocp.JsonCheckpointHandler.async_save, []

    async def full(self, *args, **kwargs):
        calls.append(args)
        if len(calls) in failing:
            raise OSError(28, "No space left on device")
        return await write(self, *args, **kwargs)

    monkeypatch.setattr(ocp.JsonCheckpointHandler, "async_save", full)


def test_a_save_that_fails_is_reported_and_the_next_one_works(clips, tmp_path, monkeypatch, capsys):
    """If this fails, a disk that is full for a moment stops a run, or all later saves."""
    _fail(monkeypatch, {2})
    loop.run(toy.task(clips), toy.config(8), tmp_path)
    said = capsys.readouterr().err
    assert said.count("a checkpoint could not be written ([Errno 28] No space left") == 1
    assert _steps(tmp_path) == [6, 8]


def test_a_full_disk_is_told_and_costs_two_checkpoints(clips, tmp_path, monkeypatch):
    """If this fails, a run ends in orbax's traceback, or goes on without saving."""
    _fail(monkeypatch, {2, 3, 4})
    with pytest.raises(OSError, match="a checkpoint could not be written .*; earlier"):
        loop.run(toy.task(clips), toy.config(8), tmp_path)
    assert _steps(tmp_path) == [2]
    again = _start(clips, tmp_path, 8)
    assert again.wait() == 0, again.stderr.read()
    assert _steps(tmp_path)[-1] == 8


def test_the_last_save_has_to_work(clips, tmp_path, monkeypatch):
    """If this fails, a run succeeds although its last steps are not on disk."""
    _fail(monkeypatch, {2})
    with pytest.raises(OSError, match="a checkpoint could not be written"):
        loop.run(toy.task(clips), toy.config(4), tmp_path)


def test_a_finished_run_leaves_its_model_alone_until_it_is_continued(clips, tmp_path):
    """If this fails, a stale model is kept, or a user's changes to a finished one are lost."""
    written = []
    task = toy.task(clips)._replace(
        export=lambda params, step, folder: written.append(step),
        is_exported=lambda step, folder: True,
    )
    loop.run(task, toy.config(2), tmp_path)
    assert written == [2]
    loop.run(task, toy.config(2), tmp_path)
    assert written == [2]
    loop.run(task, toy.config(4), tmp_path)
    assert written == [2, 4]
    loop.run(task._replace(is_exported=lambda step, folder: False), toy.config(4), tmp_path)
    assert written == [2, 4, 4]


@pytest.mark.parametrize(
    ("changes", "named"), [({}, None), ({"seed": 1}, "seed"), ({"vae": "elsewhere"}, None)]
)
def test_processes_with_other_configs_are_refused(monkeypatch, changes, named):
    """If this fails, one process waits for steps that the other never takes."""
    other = dict(keys(dataclasses.asdict(toy.config(2, **changes))))

    def gather(name, text, doing):
        return [text, json.dumps(other)]

    monkeypatch.setattr(loop.processes, "gather", gather)
    if named is None:
        loop.check_agreed(toy.config(2))
        return
    with pytest.raises(ValueError, match=f"process 1 has another {named} than process 0"):
        loop.check_agreed(toy.config(2))
