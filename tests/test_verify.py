"""`palette-vc verify`: one report of what works on a machine."""

import json

import pytest

from palette_vc_jax.commands import verify
from tests import tiny
from tests.commands import command


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
