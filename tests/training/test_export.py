"""A run is looked at, colored with and exported while it goes on."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from palette_vc_jax.checkpoint import read_newest
from palette_vc_jax.commands import sample
from palette_vc_jax.models import store
from palette_vc_jax.models.store import load_model
from palette_vc_jax.training import export
from tests import films
from tests.commands import command, runtime_environment
from tests.training import small

ROOT = Path(__file__).resolve().parents[2]
EXPORT = ROOT / "convert" / "run_to_model.py"


CHANGES = {
    "optimizer.steps": 3, "shared_noise_fraction": 0.25, "validate_every": 0, "previews_every": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train three steps and keep both checkpoints; return the workdir."""
    folder = tmp_path_factory.mktemp("run")
    flags = small.write_run(folder, **CHANGES)
    done = subprocess.run(
        [sys.executable, *small.COMMAND, f"--workdir={folder / 'workdir'}", *flags],
        cwd=ROOT,
        env=runtime_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "workdir"


def test_a_run_is_not_taken_for_a_model_folder(run):
    """If this fails, load_model of a workdir names config keys instead of the folder to give."""
    with pytest.raises(ValueError, match="the workdir of a run, not a model folder; give .*model"):
        load_model(run)


def test_a_run_is_exported_as_a_model(run, tmp_path):
    """If this fails, an unfinished run is worth nothing, or its model is sampled wrongly."""
    exported = tmp_path / "model"
    flags = ["--weights=raw", "--dtype=float32"]
    command_line = [sys.executable, EXPORT, f"--source={run}", f"--output={exported}", *flags]
    assert subprocess.run(command_line, cwd=tmp_path).returncode == 0
    model = load_model(exported)
    step, params, record = read_newest(run / "checkpoints", "params")
    assert step == 3 and record["samples"] == 3 * small.RUN["batch_size"]
    np.testing.assert_array_equal(
        model.params["unet"]["conv_in"]["kernel"], params["unet"]["conv_in"]["kernel"]
    )
    start = load_model(run.parent / "tiny")
    np.testing.assert_array_equal(
        model.params["vae"]["quant_conv"]["kernel"], start.params["vae"]["quant_conv"]["kernel"]
    )
    sampling = model.config.sampling
    assert (sampling.window, sampling.shared_noise_fraction) == (small.DATA["window"], 0.25)
    record = json.loads((exported / "provenance.json").read_text())
    assert record["step"] == 3 and record["weights"] == "raw" and record["dtype"] == "float32"
    assert set(record["init_from"]) == {f"{n}.safetensors" for n in model.params}
    assert len(record["config_sha256"]) == 64 and record["data"]["source"] == "folders"
    # The folder is taken now.
    assert subprocess.run(command_line, cwd=tmp_path, capture_output=True).returncode == 2


def test_a_film_is_colored_with_the_newest_checkpoint(run, tmp_path, capsys):
    """If this fails, nothing of a run can be seen before its end."""
    film = films.write_pictures(tmp_path / "film", [np.full((16, 24, 3), 90, np.uint8)] * 5)
    for weights in ("ema", "raw"):
        flags = ["--input", film, "--output", tmp_path / f"{weights}.mkv", "--checkpoint", run]
        assert command(sample.main, *flags, "--weights", weights, "--palette", "teal") == 0
        record = json.loads((tmp_path / f"{weights}.run.json").read_text())
        assert record["training"]["step"] == 3 and record["training"]["weights"] == weights
    assert (tmp_path / "ema.mkv").read_bytes() != (tmp_path / "raw.mkv").read_bytes()
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    for text in ('{"task": "unet"}', '{"task": "vae"}', "[]", "{"):
        (tmp_path / "empty" / "config.json").write_text(text)
        flags = ["--input", film, "--output", tmp_path / "x.mkv", "--checkpoint"]
        assert command(sample.main, *flags, tmp_path / "empty") == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_a_run_is_not_merged_with_another_base(run, tmp_path):
    """If this fails, a run's updates are added to weights that it was not trained on."""
    base = run.parent / "tiny"
    unet = (base / "unet.safetensors").read_bytes()
    try:
        (base / "unet.safetensors").write_bytes((base / "vae.safetensors").read_bytes())
        with pytest.raises(ValueError, match="init_from changed since the run began"):
            export.open_run(run)
        base.rename(run.parent / "moved")
        with pytest.raises(ValueError, match="init_from=.* is no folder here; start the command"):
            export.open_run(run)
    finally:
        (run.parent / "moved").rename(base)
        (base / "unet.safetensors").write_bytes(unet)
    assert export.open_run(run).origin["step"] == 3


def test_an_exported_model_is_known_again(run):
    """If this fails, repeating a finished command deletes what was put beside the model."""
    config = export.read_config(run)
    assert export.is_exported(config, 3, run / "model")
    assert not export.is_exported(config, 2, run / "model")
    other = dataclasses.replace(config, export_dtype="float16")
    assert not export.is_exported(other, 3, run / "model")
    assert not export.is_exported(config, 3, run)


def test_a_model_of_another_version_of_the_package_is_left_alone(run, tmp_path):
    """If this fails, training the same run again deletes what was added to its model folder."""
    model = export.open_run(run)
    store.write_model(tmp_path / "m", model)
    assert store.is_written(tmp_path / "m", model, np.float32)
    other = model.origin | {"config_sha256": "another", "trainer": "palette_vc_jax 0.0.1"}
    assert store.is_written(tmp_path / "m", model._replace(origin=other), np.float32)
    for changed in ({"step": 1}, {"weights": "raw"}, {"init_from": {}}):
        later = model._replace(origin=model.origin | changed)
        assert not store.is_written(tmp_path / "m", later, np.float32)
    assert not store.is_written(tmp_path / "m", model, np.float16)
