"""Damaged inputs of all kinds, made from seeds; `benchmarks/fuzz.py` tries more of them."""

from tests.fuzz import campaign
from tests.fuzz.inputs import KINDS, make

COUNTS = {"film": 90, "command": 4, "source": 12, "weights": 12}
USUAL = 26  # inputs of the other kinds


def test_damaged_inputs_are_read_or_refused_in_one_line():
    """If this fails, a damaged file ends in a traceback, a crash or a hang, or loses a file."""
    cases = [(kind, seed) for kind in KINDS for seed in range(COUNTS.get(kind, USUAL))]
    outcomes = list(campaign.run(cases))
    assert [one for one in outcomes if one.result not in campaign.FINE] == []
    assert len(outcomes) >= 300
    for kind in ("film", "picture", "mixture", "flow", "source"):
        found = {one.result for one in outcomes if one.kind == kind}
        assert found == set(campaign.FINE), f"{kind}: no sound input, or no damaged one"


def test_a_seed_makes_the_same_input():
    """If this fails, a failure that was found cannot be looked at."""
    for kind in set(KINDS) - {"film", "command"}:  # encoders write times and random numbers
        assert make(kind, 3) == make(kind, 3) and make(kind, 3).data != make(kind, 4).data
