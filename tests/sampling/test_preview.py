"""`palette-vc preview`: shots of a film under several palettes, before it is colored."""

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import preview as command_preview
from palette_vc_jax.sampling.preview import GAP, LABEL, middle
from tests import films, tiny
from tests.commands import command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """Run `palette-vc preview` on a film of three shots."""
    monkeypatch.chdir(tmp_path)
    films.write_film(tmp_path / "in.mkv", films.lumas(12))
    shots = '{"start": 0, "end": 2}, {"start": 2, "end": 9}, {"start": 9, "end": 12}'
    (tmp_path / "plan.json").write_text(f'{{"version": 1, "shots": [{shots}]}}')
    short = shots.rpartition(", {")[0]
    (tmp_path / "short.json").write_text(f'{{"version": 1, "shots": [{short}]}}')
    given = ["in.mkv", "--checkpoint", model, "--plan", "plan.json", "--output", "sheet.png"]
    return lambda *flags: command(command_preview.main, *given, *flags)


def test_a_sheet_has_a_row_for_each_shot_and_a_column_for_each_palette(run, tmp_path):
    """If this fails, a restorer chooses a palette by the frames of another one."""
    flags = ["--palettes", "tomato", "#1d4e89,navy", "--seeds", "0,1", "--shots", "2,3"]
    assert run(*flags) == 0
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image).astype(int)
    width, height = 64 + GAP, 48 + LABEL + GAP
    assert sheet.shape[1] == GAP + 5 * width and (sheet.shape[0] - 2 * height) < 60
    head = sheet.shape[0] - 2 * height
    cells = [
        [
            sheet[head + row * height + LABEL :, GAP + place * width :][:48, :64]
            for place in range(5)
        ]
        for row in range(2)
    ]
    for row in cells:
        assert (np.ptp(row[0], axis=-1) == 0).all()  # gray
        assert all(np.ptp(cell, axis=-1).max() > 8 for cell in row[1:])
        assert all((one != other).any() for one, other in zip(row[1:], row[2:], strict=False))
    assert (cells[0][0] != cells[1][0]).any()  # other frames
    # The swatch of the first palette stands above its columns.
    assert [255, 99, 71] in sheet[GAP + LABEL + 4, GAP + width : GAP + 3 * width].tolist()


def test_an_automatic_palette_is_shown(run, tmp_path):
    """If this fails, the default palette cannot be seen before a film is colored."""
    assert run("--palettes", "auto") == 0
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(("flags", "word"), [(["--shots", "4"], "the film has 3"),
                                             (["--seeds", "-1"], "seed -1"),
                                             (["--palettes", "nothing"], "nothing"),
                                             (["--plan", "short.json"], "ends at frame 9"),
                                             (["--output", "in.mkv"], "PNG")])  # fmt: skip
def test_a_mistake_is_one_line(run, tmp_path, capsys, flags, word):
    """If this fails, a wrong number is a traceback, or the film is replaced by its preview."""
    assert run(*flags) == 2
    said = capsys.readouterr().err
    assert word in said and len(said.splitlines()) == 1
    assert not (tmp_path / "sheet.png").exists()


def test_a_preview_is_not_written_over_a_file(run, tmp_path, capsys):
    """If this fails, a sheet of another film is lost."""
    (tmp_path / "sheet.png").write_text("mine")
    assert run("--palettes", "none") == 2 and "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "sheet.png").read_text() == "mine"


def test_the_middle_of_a_shot_is_shown():
    """If this fails, a shot is judged by frames of its neighbor."""
    assert middle((10, 30), 8) == (16, 24)
    assert middle((10, 13), 8) == (10, 13)
