"""The report on a colored film: what it measures, and which frames it names."""

import films
import numpy as np

from palette_vc_jax.evaluation import quality
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.video.film import open_film

SHOTS = [(0, 6), (6, 12)]


def write(path, pictures, chroma="colored"):
    return films.write_film(path, pictures, "yuv444p", chroma=chroma)


def test_luma_color_and_shots_are_measured(tmp_path):
    """If this fails, a cut counts as a change of color, or equal luma is not found equal."""
    pictures = films.lumas(12)
    source = open_film(write(tmp_path / "gray.mkv", pictures, 128))
    colored = open_film(write(tmp_path / "colored.mkv", pictures))
    palette = Palette.of(np.eye(3), "test")
    found = quality.measure(source, colored, SHOTS, palette)
    assert len(found.colorfulness) == len(found.change) == len(found.luma) == 12
    assert np.isposinf(found.luma).all() and found.colorfulness.min() > 5.0
    assert list(np.flatnonzero(np.isnan(found.change))) == [0, 6]
    assert set(found.palettes) == set(SHOTS)
    pictures[4] = pictures[4] // 2
    changed = open_film(write(tmp_path / "changed.mkv", pictures))
    luma = quality.measure(source, changed, SHOTS, None).luma
    assert list(np.flatnonzero(np.isfinite(luma))) == [4] and luma[4] < 30.0


def test_the_worst_frames_are_named(tmp_path):
    """If this fails, the frames shown are not those with the fault."""
    count = 12
    found = quality.Quality(
        np.linspace(30.0, 40.0, count),
        np.where(np.arange(count) == 9, 0.5, 0.001),
        np.full(count, np.inf),
        {},
    )
    worst = quality.worst_frames(found)
    assert "least colorful, 30.0" in worst[0]
    assert "largest change of color, 0.5000" in worst[9]
    assert not any("luma" in why for why in worst.values())


def test_the_page_is_one_file(tmp_path):
    """If this fails, images lie in other files, a name is read as HTML, or one frame fails."""
    pictures = films.lumas(1)
    source = open_film(write(tmp_path / "gray.mkv", pictures, 128))
    output = write(tmp_path / "<b>.mkv", pictures)
    page = tmp_path / "page.html"
    quality.write_report(page, source, output, [(0, 1)], Palette.of(np.eye(3), "test"))
    text = page.read_text()
    assert "data:image/jpeg;base64," in text and "&lt;b&gt;" in text and "<b>" not in text
    assert "equal to the source&#x27;s in 1 of 1 frames" in text
    assert "http" not in text and 'src="/' not in text
