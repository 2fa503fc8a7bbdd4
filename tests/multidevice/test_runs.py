"""Whole runs on several devices."""

import json

import pytest

from palette_vc_jax.training import loop
from tests.multidevice.test_meshes import start
from tests.training import toy

TOY = "tests.training.toy"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return toy.write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def alone(clips, tmp_path_factory):
    """Run six steps on one device and return the losses."""
    return _here(clips, tmp_path_factory.mktemp("alone"), 6)


def _here(clips, workdir, steps, accumulate=1):
    """Run on the one device of this process; return the losses."""
    loop.run(toy.task(clips), toy.config(steps, accumulate=accumulate), workdir)
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
    whole = _here(clips, tmp_path / "1", 4, accumulate=2)
    _finish(start(TOY, clips, tmp_path / "4", 4, 2, devices=4))
    losses = _losses(tmp_path / "4")
    assert losses.keys() == whole.keys() == {2, 4}
    for step, loss in whole.items():
        assert abs(losses[step] - loss) < 1e-5 * loss
