"""FIFOs, devices and sockets under the names of inputs: one line at once, instead of a wait."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import evaluate, palette, sample
from palette_vc_jax.data.sources import open_clips
from tests import films, tiny
from tests.commands import command
from tests.special import special

KINDS = ["fifo", "device", "socket"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(tmp_path, model):
    """Make a film, frames, a truth, outputs and a model, any file of which can be replaced."""
    films.write_film(tmp_path / "film.mkv", films.lumas(2))
    for name in ("frames", "truth/a", "mine/a"):
        films.write_pictures(tmp_path / name, films.lumas(3, full_range=True))
    for folder in ("truth", "mine"):
        films.write_film(tmp_path / folder / "b.mkv", films.lumas(2))
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / "picture.png")
    (tmp_path / "palette.json").write_text('{"colors": ["teal"]}')
    (tmp_path / "words.tsv").write_text("")
    (tmp_path / "palettes.json").write_text(json.dumps({"a": ["teal"], "b": ["teal"]}))
    shutil.copytree(model, tmp_path / "model")
    return tmp_path


COLOR = ["--input", "film.mkv", "--output", "out.mkv", "--checkpoint", "model"]
MEASURE = ["--reference", "truth", "--output", "mine", "--metrics", "colorfulness"]
CASES = [
    (sample, "film.mkv", COLOR),
    (sample, "picture.png", [*COLOR[2:], "--input", "picture.png"]),
    (sample, "frames/f0.png", [*COLOR[2:], "--input", "frames"]),
    (sample, "frames/f2.png", [*COLOR[2:], "--input", "frames"]),
    (sample, "picture.png", [*COLOR, "--palette", "image:picture.png"]),
    (sample, "palette.json", [*COLOR, "--palette", "file:palette.json"]),
    (sample, "words.tsv", [*COLOR, "--palette", "words:grass", "--lexicon", "words.tsv"]),
    (sample, "model/mixture.json", [*COLOR, "--palette", "gmm"]),
    (sample, "model/config.json", COLOR),
    (sample, "model/vae.safetensors", COLOR),
    (palette, "palette.json", ["file:palette.json", "--output", "p.json"]),
    (palette, "model/mixture.json", ["gmm", "--checkpoint", "model", "--output", "p.json"]),
    (evaluate, "truth/b.mkv", MEASURE),
    (evaluate, "mine/a/f1.png", MEASURE),
    (evaluate, "palettes.json", ["--checkpoint", "model", "--data", "truth", "--metrics",
                                 "colorfulness", "--palettes", "palettes.json"]),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("module", "name", "arguments"), CASES)
def test_an_input_that_is_no_file_is_refused(place, monkeypatch, capsys, module, name, arguments,
                                             kind):  # fmt: skip
    """If this fails, a command waits for ever on a FIFO, or reads a device."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    (place / name).unlink()
    special(place / name, kind)
    before = sorted(place.rglob("*"))
    assert command(module.main, *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line]
    assert len(lines) == 1 and name in lines[0] and kind.replace("fifo", "FIFO") in lines[0]
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["list.mkv", "list.m3u8", "list.png"])
@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile film.mkv\n", "{hls}"])
def test_a_playlist_is_refused(place, monkeypatch, capsys, name, text):
    """If this fails, a film or picture from elsewhere makes other files of the machine be read."""
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mkv\n#EXT-X-ENDLIST\n"
    monkeypatch.chdir(place)
    (place / name).write_text(text.format(hls=hls))
    output = "out.png" if name.endswith("png") else "out.mkv"
    assert command(sample.main, "--input", name, "--output", output, *COLOR[4:]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and f"{name}: a playlist" in lines[0]
    assert not [*place.glob("out*")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_that_is_no_file_is_refused_in_training(place, kind):
    """If this fails, training waits for ever on a frame or a video."""
    for name in ("truth/a/f1.png", "truth/b.mkv"):
        (place / name).unlink()
        special(place / name, kind)
    with pytest.raises(ValueError, match="f1.png.*regular file"):
        open_clips("folders", place / "truth").read(0, [0, 1])
    with pytest.raises(ValueError, match="b.mkv.*regular file"):
        open_clips("videos", place / "truth").length(0)
