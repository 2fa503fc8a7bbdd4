"""The mixture, fitted to clips of any kind."""

import json

import numpy as np
import pytest

from palette_vc_jax.commands import mixture
from palette_vc_jax.data.sources import open_clips
from palette_vc_jax.palette import gmm
from palette_vc_jax.training.mixture import training_pixels
from tests import films
from tests.commands import command


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Write two clips, red and blue with noise, as folders of frames and as films."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    (root / "videos").mkdir()
    for name, color in (("red", (200, 40, 40)), ("blue", (40, 60, 200))):
        pictures = rng.integers(-20, 20, (12, 24, 32, 3)) + np.array(color)
        pictures = list(pictures.clip(0, 255).astype(np.uint8))
        films.write_pictures(root / "folders" / name, pictures, "f{:02}.png")
        films.write_film(root / "videos" / f"{name}.mkv", pictures, "bgr0")
    return root


def test_the_command_fits_clips_of_any_kind(clips, tmp_path):
    """If this fails, a model trained on films has no mixture, or one of other colors."""
    fitted = {}
    for kind in ("folders", "videos"):
        output = tmp_path / f"{kind}.json"
        given = ["--clips", clips / kind, "--source", kind, "--components", 2, "--output", output]
        assert command(mixture.main, *given) == 0
        fitted[kind] = gmm.load(output)
        facts = dict(fitted[kind].fitted_on)
        assert 30.0 < facts.pop("colorfulness") < 150.0
        assert facts == {"clips": 2, "frames": 20, "pixels": 20 * 24 * 32}
    means = sorted(fitted["folders"].means.tolist())
    np.testing.assert_allclose(means, np.array([(40, 60, 200), (200, 40, 40)]) / 255.0, atol=0.02)
    np.testing.assert_array_equal(fitted["videos"].means, fitted["folders"].means)


def test_a_source_gives_the_pixels_of_its_own_frames(clips):
    """If this fails, held-out clips get into the mixture, or frames are drawn twice."""
    source = open_clips("folders", clips / "folders")
    pixels, frames, _ = training_pixels(source, 0)
    assert frames == 20 and pixels.shape == (20 * 24 * 32, 3) and pixels.dtype == np.uint8
    again = training_pixels(source, 0).pixels
    np.testing.assert_array_equal(pixels, again)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--clips": "nowhere"}, "nowhere: no clips found"),
        ({"--output": "nowhere/mixture.json"}, "nowhere/mixture.json: its folder does not exist"),
        ({"--source": "videos"}, "no video files found"),
        ({"--components": 0}, "--components must be 1 or more"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(clips, tmp_path, capsys, changes, said):
    """If this fails, a wrong path ends in a traceback, or after minutes of reading."""
    given = {"--clips": clips / "folders", "--output": tmp_path / "mixture.json"} | changes
    assert command(mixture.main, *(part for pair in given.items() for part in pair)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_mixture_is_replaced_with_overwrite_alone(clips, tmp_path, capsys):
    """If this fails, a model loses the mixture that it was trained with."""
    output = tmp_path / "mixture.json"
    output.write_text("{}")
    given = ["--clips", clips / "folders", "--components", 1, "--output", output]
    assert command(mixture.main, *given) == 2
    assert "mixture.json: exists; give --overwrite" in capsys.readouterr().err
    assert output.read_text() == "{}"
    assert command(mixture.main, *given, "--overwrite") == 0
    assert len(gmm.load(output).means) == 1


def test_gray_clips_are_refused_and_nothing_is_written(tmp_path, capsys):
    """If this fails, old film in gray gives a mixture of nothing, or half a file."""
    rng = np.random.default_rng(0)
    pictures = [np.repeat(rng.integers(0, 256, (24, 32, 1)), 3, axis=-1) for _ in range(3)]
    films.write_pictures(tmp_path / "clips" / "old", [p.astype(np.uint8) for p in pictures])
    output = tmp_path / "mixture.json"
    output.write_text(json.dumps("kept"))
    given = ["--clips", tmp_path / "clips", "--output", output, "--overwrite"]
    assert command(mixture.main, *given) == 2
    assert "pixels have color" in capsys.readouterr().err
    assert json.loads(output.read_text()) == "kept"
