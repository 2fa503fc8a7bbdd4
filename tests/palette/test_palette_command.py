"""`palette-vc palette`: palettes without coloring a film."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import palette
from palette_vc_jax.palette.file import SWATCH, load_palette
from tests.commands import command


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Keep the environment from naming a language model."""
    monkeypatch.delenv("OPENAI_MODEL", raising=False)


def test_a_palette_is_made_printed_and_drawn(tmp_path, capsys):
    """If this fails, a palette cannot be looked at before a night's work."""
    file = tmp_path / "p.json"
    assert command(palette.main, "words:snow, a red tram, xyzzy", "--output", file) == 0
    printed = capsys.readouterr()
    made = load_palette(file)
    assert ",".join(made.hex()) in printed.out and str(file) in printed.out
    assert "xyzzy" in printed.err
    drawn = np.asarray(Image.open(tmp_path / "p.swatch.png"))
    middles = drawn[SWATCH // 2, SWATCH // 2 :: SWATCH]
    np.testing.assert_array_equal(middles, np.rint(255 * made.colors))
    assert command(palette.main, f"file:{file}", "--output", tmp_path / "again.json") == 0
    assert load_palette(tmp_path / "again.json").hex() == made.hex()


@pytest.mark.parametrize("spec", ["words:autumn, a red tram, the sea", "gmm"])
def test_proposals_differ_and_are_the_same_again(tmp_path, spec):
    """If this fails, a sheet shows one palette many times, or a choice cannot be had again."""
    for name in ("a", "b"):
        file = tmp_path / f"{name}.json"
        assert command(palette.main, spec, "--proposals", 4, "--output", file) == 0
    palettes = [load_palette(tmp_path / f"a.{n}.json").hex() for n in range(1, 5)]
    assert len({tuple(colors) for colors in palettes}) > 1
    assert palettes == [load_palette(tmp_path / f"b.{n}.json").hex() for n in range(1, 5)]
    sheet = Image.open(tmp_path / "a.swatch.png")
    assert sheet.height > 4 * SWATCH and sheet.width > 5 * SWATCH


def test_other_specs_serve_too(tmp_path):
    """If this fails, the command knows fewer sources than sample.py."""
    picture = tmp_path / "p.png"
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(picture)
    for spec in (f"image:{picture}", "gmm:3", "tomato,#123456"):
        assert command(palette.main, spec, "--output", tmp_path / "p.json", "--overwrite") == 0
        assert len(json.loads((tmp_path / "p.json").read_text())["colors"]) == 5
    assert Image.open(picture).size == (8, 8)  # the swatch has not taken its place


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["words", "--output", "p.json"], "--frame"),
        (["words:snow", "--frame", "f.mp4@1", "--output", "p.json"], "words alone"),
        (["words", "--frame", "f.mp4@noon", "--output", "p.json"], "noon"),
        (["words", "--frame", "f.mp4@1", "--output", "p.json"], "text_table"),
        (["none", "--output", "p.json"], "none"),
        (["red", "--output", "p.png"], ".json"),
        (["red", "--output", "nowhere/p.json"], "nowhere"),
        (["red", "--proposals", "3", "--output", "p.json"], "one palette only"),
        (["words:snow", "--proposals", "0", "--output", "p.json"], "0 proposals"),
        (["words:snow", "--temperature", "9", "--output", "p.json"], "temperature"),
        (["gmm", "--seed", "-1", "--output", "p.json"], "seed"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, word):
    """If this fails, a mistyped flag is a traceback, or leaves a file."""
    monkeypatch.chdir(tmp_path)
    assert command(palette.main, *arguments) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and word in said
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_replaced_with_overwrite_alone(tmp_path, monkeypatch, capsys):
    """If this fails, a picture, a palette or another file of the user is lost."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), "teal").save("p.swatch.png")
    Path("q.2.json").write_text('{"mine": 1}')
    Path("r.json").write_text('{"colors": ["red"]}')
    Path("link.json").symlink_to("r.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments, word in [
        (["tomato", "--output", "p.json"], "p.swatch.png"),
        (["image:p.swatch.png", "--output", "p.json"], "p.swatch.png"),
        (["gmm", "--proposals", 3, "--output", "q.json"], "q.2.json"),
        (["teal", "--output", "r.json"], "r.json: exists; give --overwrite"),
        (["file:r.json", "--output", "r.json", "--overwrite"], "r.json"),
        (["file:r.json", "--output", "r.json"], "r.json"),
        (["file:r.json", "--output", "link.json"], "link.json"),
    ]:
        assert command(palette.main, *arguments) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and word in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert command(palette.main, "teal", "--output", "p.json", "--overwrite") == 0
    assert Path("p.swatch.png").read_bytes() != before["p.swatch.png"]


def test_times():
    """If this fails, another frame is read than the one given."""
    times = {"12.5": 12.5, "1:02": 62.0, "1:00:03.5": 3603.5, "0": 0.0}
    assert {text: palette.parse_time(text) for text in times} == times
