"""`palette-vc verify`: one report of what works on a machine."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palette_vc_jax.commands import verify
from tests import tiny
from tests.commands import command, runtime_environment

ROOT = Path(__file__).resolve().parents[1]


def test_a_report_says_what_works_and_names_nothing(tmp_path):
    """If this fails, whoever holds the weights cannot say what works, or shares private paths."""
    model = tiny.write_model(tmp_path / "secret_model", tiny.MICRO)
    flags = ["--frames", 4, "--height", 16, "--width", 24, "--steps", 1, "--train_steps", 2]
    given = ["--weights", model, "--output", tmp_path / "report", *flags]
    assert command(verify.main, *given) == 0
    found = json.loads((tmp_path / "report.json").read_text())
    stages = {row["stage"]: row for row in found["stages"]}
    assert list(stages) == ["sample", "sample again, compiled", "train"]
    assert "every bit of luma kept" in stages["sample"]["detail"]
    assert "s a step, loss" in stages["train"]["detail"]
    assert all(row["seconds"] > 0 and row["host_gib"] > 0.1 for row in stages.values())
    text = (tmp_path / "report.md").read_text()
    assert "secret" not in text and str(tmp_path) not in text and "| train | passed |" in text
    assert command(verify.main, *given) == 2  # nothing is replaced


def test_a_folder_that_cannot_be_written_is_reported_first(tmp_path, capsys):
    """If this fails, the stages run for an hour, and their report is lost."""
    for folder in (tmp_path / "none", Path("/proc/self")):
        assert command(verify.main, "--output", folder / "report") == 2
        said = capsys.readouterr().err
        assert "no folder that can be written" in said and "sample ..." not in said


@pytest.mark.parametrize("given", ["a/28.11", "a/28.11.md", "a/28.11.json"])
def test_names_with_dots_stay_whole(given):
    """If this fails, the reports of several versions have one name."""
    assert [str(path) for path in verify.report_files(Path(given))] == [
        "a/28.11.md",
        "a/28.11.json",
    ]


@pytest.mark.parametrize("flag", ["--height", "--width", "--steps"])
def test_a_size_of_zero_is_refused(tmp_path, capsys, flag):
    """If this fails, the report is of another size or number of steps than was asked for."""
    assert command(verify.main, "--output", tmp_path / "report", flag, 0) == 2
    assert f"{flag} 0; give a number from 1" in capsys.readouterr().err


def test_no_stage_outlives_the_command(tmp_path):
    """If this fails, a stage keeps the accelerator after the command was stopped."""
    flags = ["--output", tmp_path / "report", "--train_steps", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "palette_vc_jax", "verify", *flags],
        env=runtime_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "sample ...\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (stages := children.read_text().split()):
        time.sleep(0.05)
    time.sleep(1.0)
    process.terminate()
    assert process.wait() == 143
    assert not any(Path("/proc", stage).exists() for stage in stages)


def test_a_model_in_this_folder_hides_no_dots(tmp_path, monkeypatch):
    """If this fails, the report of a failure in the model's own folder cannot be read."""
    tiny.write_model(tmp_path / "model", tiny.MICRO)
    monkeypatch.chdir(tmp_path / "model")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    given = ["--weights", ".", "--output", tmp_path / "report", "--steps", "99999"]
    assert command(verify.main, *given, "--train_steps", "0") == 1
    row = json.loads((tmp_path / "report.json").read_text())["stages"][0]
    assert row["detail"].endswith("steps=99999; give a whole number from 1 to 10000.")


@pytest.mark.parametrize("weights", ["none", "empty"])
def test_weights_that_are_none_are_reported(tmp_path, capsys, weights):
    """If this fails, a wrong folder is a traceback, or a report that says that all is well."""
    (tmp_path / "empty").mkdir()
    given = ["--weights", tmp_path / weights, "--output", tmp_path / "report"]
    assert command(verify.main, *given) == (2 if weights == "none" else 1)
    said = capsys.readouterr()
    if weights == "none":
        assert "no such folder" in said.err
    else:
        assert "| convert | failed |" in said.out and str(tmp_path) not in said.out
