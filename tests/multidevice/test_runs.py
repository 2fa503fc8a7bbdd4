"""Whole runs on several devices and in several processes."""

import json
import socket
import time

import pytest

from tests.multidevice.test_meshes import start
from tests.training import toy

TOY = "tests.training.toy"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return toy.write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def alone(clips, tmp_path_factory):
    """Run six steps on one device and give the losses."""
    workdir = tmp_path_factory.mktemp("alone")
    _finish(start(TOY, clips, workdir, 6, devices=1))
    return _losses(workdir)


def _finish(*processes):
    for process in processes:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 0, error


def _losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_run_goes_on_with_fewer_devices(clips, alone, tmp_path):
    """If this fails, a run is bound to the machine that it began on."""
    for steps, devices in ((2, 8), (4, 4), (6, 1)):
        _finish(start(TOY, clips, tmp_path, steps, devices=devices))
    losses = _losses(tmp_path)
    assert losses.keys() == alone.keys() == {2, 4, 6}
    for step, loss in alone.items():
        assert abs(losses[step] - loss) < 1e-5 * loss


def test_parts_of_a_batch_are_split_over_devices(clips, tmp_path):
    """If this fails, accumulated gradients are of other rows on a mesh than on one device."""
    losses = []
    for devices in (1, 4):
        _finish(start(TOY, clips, tmp_path / str(devices), 4, 2, devices=devices))
        losses.append(_losses(tmp_path / str(devices)))
    assert losses[0].keys() == losses[1].keys() == {2, 4}
    for step, loss in losses[0].items():
        assert abs(losses[1][step] - loss) < 1e-5 * loss


def _pair(*arguments, program=TOY):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    given = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2")
    return [start(program, *arguments, devices=4, JAX_PROCESS_ID=str(n), **given) for n in range(2)]


def test_two_processes_are_one_run(clips, alone, tmp_path):
    """If this fails, a pod sees other data than one machine, or cannot resume."""
    for steps in (4, 6):
        _finish(*_pair(clips, tmp_path, steps))
    losses = _losses(tmp_path)
    assert losses.keys() == alone.keys()
    for step, loss in alone.items():
        assert abs(losses[step] - loss) < 1e-5 * loss


def test_two_processes_leave_together(clips, tmp_path):
    """If this fails, a host that is taken away leaves the others waiting for it forever."""
    processes = _pair(clips, tmp_path, 100000)
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 4):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[1].terminate()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], errors
    assert "terminated; saved step" in errors[0]


def test_who_waits_says_for_what_and_gives_up_at_the_limit():
    """If this fails, hosts wait in silence while one encodes, or for ever for one that is gone."""
    for late, code in ((1, 0), (4, 1)):
        processes = _pair(late, program="tests.multidevice.waiting")
        errors = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [code, code], errors
        assert "process 0: waiting for the latent cache since 0 minutes" in errors[0]
        if code:
            said = "error: process 0 of 2 waited for the latent cache: the limit of 2 s has passed"
            assert errors[0].splitlines()[-1].startswith(said)
