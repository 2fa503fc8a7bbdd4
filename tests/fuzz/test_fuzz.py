"""Damaged inputs of all kinds, made from seeds; `benchmarks/fuzz.py` tries more of them."""

import json

import pytest

from palette_vc_jax import Palette
from palette_vc_jax.conversion.source import read_json
from tests.fuzz import campaign, tries
from tests.fuzz.inputs import KINDS, Input, make

COUNTS = {"film": 90, "command": 4, "source": 12, "weights": 12}
USUAL = 26  # inputs of the other kinds


def test_damaged_inputs_are_read_or_refused_in_one_line():
    """If this fails, a damaged file ends in a traceback, a crash or a hang, or loses a file."""
    cases = [(kind, seed) for kind in KINDS for seed in range(COUNTS.get(kind, USUAL))]
    *outcomes, crash = campaign.run([*cases, ("no kind", 0)])
    assert crash.result == "the process ended with 1", "a crash passes for a sound input"
    assert [one for one in outcomes if one.result not in campaign.FINE] == []
    assert len(outcomes) >= 300
    for kind in ("film", "picture", "mixture", "flow", "source"):
        found = {one.result for one in outcomes if one.kind == kind}
        assert found == set(campaign.FINE), f"{kind}: no sound input, or no damaged one"


@pytest.mark.parametrize(
    ("act", "result"),
    [
        (lambda path, seed: None, "ok"),
        (lambda path, seed: read_json(path), "refused"),
        (lambda path, seed: {}["x"], "KeyError at "),
        (lambda path, seed: json.loads(path.read_text("latin-1")), "JSONDecodeError at "),
        (lambda path, seed: path.read_bytes().decode("ascii"), "UnicodeDecodeError at "),
        (lambda path, seed: Palette.from_spec("x"), "a message without the file's name"),
        (lambda path, seed: path.unlink(), "the input was changed"),
        (lambda path, seed: path.write_text(""), "the input was changed"),
        (lambda path, seed: path.with_name(".x.partial.json").touch(), "left over"),
    ],
)
def test_what_counts_as_a_failure(tmp_path, monkeypatch, act, result):
    """If this fails, the fuzzing passes whatever a reader does."""
    monkeypatch.setitem(tries.TRIES, "palette", act)
    given = Input("palette", 0, "palette.json", "{\xe9".encode("latin-1"))
    assert tries.attempt(given, tmp_path).startswith(result)


def test_a_seed_makes_the_same_input():
    """If this fails, a failure that was found cannot be looked at."""
    for kind in set(KINDS) - {"film", "command"}:  # encoders write times and random numbers
        assert make(kind, 3) == make(kind, 3) and make(kind, 3).data != make(kind, 4).data
