"""The table of `benchmarks/fuzz.py`, and the inputs that it keeps."""

import fuzz
import pytest

from tests.fuzz import campaign
from tests.fuzz.inputs import make


def test_failures_are_counted_and_kept(tmp_path, monkeypatch, capsys):
    """If this fails, an input that fails is lost, or the exit code says that all is well."""
    results = {("spec", 7): "KeyError at x.py:1", ("palette", 6): "ok"}

    def run(cases):
        for kind, seed in cases:
            yield campaign.Outcome(kind, seed, results.get((kind, seed), "refused"), 0.1)

    monkeypatch.setattr(campaign, "run", run)
    flags = ["--count", "4", "--seed", "5", "--kinds", "palette,spec", "--failures", str(tmp_path)]
    given = fuzz.cases(["palette", "spec"], 4, 5)
    results[given[1]], results[given[2]] = "KeyError at x.py:1", "ok"
    with pytest.raises(SystemExit) as end:
        fuzz.main(flags)
    assert end.value.code == 1
    kind, seed = given[1]
    out = capsys.readouterr().out
    assert f"{kind} {seed}: KeyError at x.py:1" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("palette ", "spec "))]
    counts = [list(map(int, row[1:])) for row in rows if len(row) == 5 and row[1].isdecimal()]
    assert [sum(column) for column in zip(*counts, strict=True)] == [4, 1, 2, 1]
    (kept,) = tmp_path.glob("*/*")
    assert kept.read_bytes() == make(kind, seed).data


def test_cases_are_half_films_and_few_commands():
    """If this fails, thousands of inputs take hours, or leave out what films can hold."""
    kinds = [kind for kind, _ in fuzz.cases(list(fuzz.KINDS), 1000, 0)]
    assert 400 <= kinds.count("film") <= 500 and kinds.count("command") == 50
    assert set(kinds) == set(fuzz.KINDS)
