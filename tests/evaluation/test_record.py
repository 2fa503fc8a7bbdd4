"""The JSON file of an evaluation: what it may replace."""

import pytest

from tests.evaluation.clips import run
from tests.special import special


@pytest.mark.parametrize("kind", ["device", "fifo", "socket", "folder"])
def test_the_report_replaces_nothing_but_a_file(films, capsys, kind):
    """If this fails, /dev/null becomes a file of JSON."""
    place = special(films / "place", kind)
    before = place.stat()
    assert run(films, "--json", place) == 2
    assert "place" in capsys.readouterr().err
    assert (place.stat().st_mode, place.stat().st_ino) == (before.st_mode, before.st_ino)


def test_the_report_replaces_no_input_and_no_other_file(films, capsys):
    """If this fails, a mistyped flag deletes a frame, a palette or another file of the user."""
    (films / "mine.txt").write_text("mine")
    (films / "link.json").symlink_to(films / "truth" / "a" / "000.png")
    before = {path: path.read_bytes() for path in films.rglob("*") if path.is_file()}
    for name in ("truth/a/000.png", "mine/b/003.png", "link.json", "mine.txt"):
        assert run(films, "--json", films / name) == 2
        assert name in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: path.read_bytes() for path in films.rglob("*") if path.is_file()} == before


def test_an_evaluation_is_replaced_with_overwrite_alone(films, capsys):
    """If this fails, the numbers of an earlier evaluation are lost."""
    (films / "out.json").write_text("numbers")
    assert run(films) == 2
    assert "out.json: exists; give --overwrite" in capsys.readouterr().err
    assert (films / "out.json").read_text() == "numbers"
    assert run(films, "--overwrite") == 0
    assert (films / "out.json").read_text() != "numbers"
