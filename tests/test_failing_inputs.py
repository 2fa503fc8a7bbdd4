"""Files that a command once failed on: the real command reads them, or refuses in one line."""

import os
import shutil
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palette_vc_jax.commands import evaluate, palette, sample
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from tests import films, tiny
from tests.commands import command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def inputs(shared):
    folder = shared / "reviews" / "inputs"
    if not folder.is_dir():
        pytest.skip("needs ../shared/reviews/inputs")
    return folder


@pytest.fixture
def run(tmp_path, capsys):
    """Run a command; return its exit code, what it prints to stderr, and its warnings."""

    def call(main, *arguments):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            code = command(main, *arguments)
        lines = capsys.readouterr().err.splitlines()
        return code, lines, [str(warning.message) for warning in warned]

    return call


@pytest.mark.parametrize(
    ("name", "suffix", "words"),
    [
        ("bomb13500.png", ".png", "cannot be read as an image"),
        ("svg.png", ".png", "cannot be read as an image"),
        ("playlist.png", ".png", "a playlist"),
        ("eperm.gif", ".mkv", "truncated or damaged"),
        ("tag_not_utf8.mkv", ".mkv", "truncated or damaged"),
        ("cut_28_of_48_frames.avi", ".mkv", "1.2 of 2.0 seconds"),
        ("huge.flo", ".mkv", "cannot be read as a film"),
    ],
)
def test_films_and_images_are_refused(run, inputs, model, tmp_path, name, suffix, words):
    """If this fails, a damaged file ends in a traceback, or is taken for a whole film."""
    given = ["--output", tmp_path / f"o{suffix}", "--checkpoint", model, "--palette", "teal"]
    code, lines, _ = run(sample.main, "--input", inputs / name, *given)
    assert code == 2 and len(lines) == 1 and name in lines[0] and words in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "frames"), [("superscript", 1), ("tag_not_utf8.webm", 5), ("flip.ts", 4)]
)
def test_films_are_colored(run, inputs, model, tmp_path, name, frames):
    """If this fails, a name or a tag that is odd costs the film."""
    given = ["--output", tmp_path / "o.mkv", "--checkpoint", model, "--palette", "teal", "--report"]
    code, lines, _ = run(sample.main, "--input", inputs / name, *given)
    assert (code, lines) == (0, [])
    assert len(list(read_frames(open_film(tmp_path / "o.mkv")))) == frames


def test_palettes_and_models_are_refused(run, inputs, model, tmp_path):
    """If this fails, a file that is nested too deeply, or too large, ends in a traceback."""
    film = films.write_film(tmp_path / "a.mkv", films.lumas(2))
    copies = {}
    for kind, name in (("deep", "mixture"), ("mixture_scalar", "mixture"), ("deep", "config")):
        copies[kind, name] = shutil.copytree(model, tmp_path / f"{kind}_{name}")
        shutil.copy(inputs / f"{kind}.json", tmp_path / f"{kind}_{name}" / f"{name}.json")
    color = ["--input", film, "--output", tmp_path / "o.mkv", "--checkpoint", model]
    print_ = ["--output", tmp_path / "p.json"]
    films.write_pictures(tmp_path / "data" / "a", films.lumas(2, full_range=True))
    measure = ["--checkpoint", model, "--data", tmp_path / "data", "--metrics", "colorfulness"]
    cases = [
        (sample, [*color, "--palette", f"image:{inputs / 'bomb13500.png'}"], "too many pixels"),
        (sample, [*color, "--palette", f"file:{inputs / 'deep.json'}"], "not a palette"),
        (palette, [f"file:{inputs / 'deep.json'}", *print_], "not a palette"),
        (palette, ["gmm", "--checkpoint", copies["deep", "mixture"], *print_], "mixture.json"),
        (palette, ["gmm", "--checkpoint", copies["mixture_scalar", "mixture"], *print_], "shapes"),
        (sample, [*color, "--checkpoint", copies["deep", "config"]], "config.json"),
        (sample, [*color, "--checkpoint", inputs / "svg.png"], "not a checkpoint folder"),
        (evaluate, [*measure, "--palettes", inputs / "deep.json"], "deep.json"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for module, arguments, words in cases:
        code, lines, _ = run(module.main, *arguments)
        assert code == 2 and len(lines) == 1 and words in lines[0], (arguments, lines)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_wrong_value_in_the_vae_is_noticed(run, model, tmp_path, value):
    """If this fails, a flipped bit of a checkpoint makes a film of garbage, and exits with 0."""
    film = films.write_film(tmp_path / "a.mkv", films.lumas(2))
    broken = shutil.copytree(model, tmp_path / "broken")
    tensors = load_file(broken / "vae.safetensors")
    name = sorted(tensors)[len(tensors) // 2]
    tensors[name] = tensors[name].copy()
    tensors[name].reshape(-1)[0] = value
    save_file(tensors, broken / "vae.safetensors")
    given = ["--input", film, "--output", tmp_path / "o.mkv", "--palette", "tomato"]
    code, lines, warned = run(sample.main, *given, "--checkpoint", broken)
    assert code == 1 and len(lines) == 1 and "not finite" in lines[0] and not warned
    assert not (tmp_path / "o.mkv").exists()


def test_a_name_that_is_not_utf8(run, model, tmp_path):
    """If this fails, a film with a Latin-1 name is colored, and then its report is not written."""
    film = films.write_film(tmp_path / os.fsdecode(b"caf\xe9.mkv"), films.lumas(2))
    output = tmp_path / os.fsdecode(b"o\xe9.mkv")
    given = ["--input", film, "--output", output, "--palette", "teal", "--report"]
    assert run(sample.main, *given, "--checkpoint", model)[:2] == (0, [])
    assert output.with_suffix(".report.html").exists()


def test_wrong_paths_are_mistakes_of_the_user(run, model, tmp_path):
    """If this fails, a script takes a mistyped path for a failure of the machine."""
    film = films.write_film(tmp_path / "a.mkv", films.lumas(2))
    for name in ("folder", "link"):
        films.write_pictures(tmp_path / name, films.lumas(2, full_range=True))
    (tmp_path / "folder" / "f2.png").mkdir()
    (tmp_path / "link" / "f2.png").symlink_to("missing.png")
    for source, output, words in (
        (tmp_path / ("x" * 300 + ".mkv"), tmp_path / "o.mkv", "File name too long"),
        (film, tmp_path / ("x" * 300 + ".mkv"), "at most 2"),
        (tmp_path / "folder", tmp_path / "o.mkv", "f2.png: a folder"),
        (tmp_path / "link", tmp_path / "o.mkv", "f2.png: the link leads nowhere"),
        (film, "/proc/o.mkv", "/proc"),
    ):
        given = ["--input", source, "--output", output, "--checkpoint", model, "--palette", "teal"]
        code, lines, _ = run(sample.main, *given)
        assert code == 2 and len(lines) == 1 and words in lines[0], lines
    assert {path.name for path in tmp_path.iterdir()} == {"a.mkv", "folder", "link"}


@pytest.mark.parametrize(("length", "expected"), [(240, 0), (255, 2)])  # bytes of a name
def test_a_palette_is_written_whole_or_not_at_all(run, tmp_path, length, expected):
    """If this fails, a palette with a long name is left without its swatch."""
    output = tmp_path / ("p" * (length - 5) + ".json")
    code, lines, _ = run(palette.main, "teal", "--output", output)
    written = {path.suffix for path in tmp_path.iterdir()}
    assert (code, written) == (expected, set() if expected else {".json", ".png"})
    assert len(lines) == (expected == 2)
