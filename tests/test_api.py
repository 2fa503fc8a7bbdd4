"""The public names of the package, as a program or a notebook uses them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import palette_vc_jax
from palette_vc_jax import (
    Palette,
    color_film,
    color_frames,
    default_settings,
    load_model,
    open_film,
    plan_film,
)
from palette_vc_jax.commands import sample
from palette_vc_jax.video.color import rgb_to_chroma, rgb_to_luma
from palette_vc_jax.video.read import read_frames
from tests import films, tiny
from tests.commands import command

NO_BACKEND = """
import sys
import palette_vc_jax
assert "jax" not in sys.modules, "loaded by the import"
for name in palette_vc_jax.__all__:
    getattr(palette_vc_jax, name)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


def test_names_are_loaded_late_and_start_no_backend():
    """If this fails, `import palette_vc_jax` is slow, or takes the accelerator at once."""
    done = subprocess.run([sys.executable, "-c", NO_BACKEND], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(palette_vc_jax.__all__) <= set(dir(palette_vc_jax))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = palette_vc_jax.no_such_name


def test_python_and_the_command_color_alike(folder, model, tmp_path):
    """If this fails, there are two pipelines, and a program gets other colors than the command."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(6))
    flags = ["--input", source, "--checkpoint", folder, "--palette", "tomato,teal", "--steps", 2]
    assert command(sample.main, *flags, "--seed", 5, "--output", tmp_path / "command.mkv") == 0
    settings = default_settings(model.config, steps=2)
    palette, counts = Palette.from_colors(["tomato", "teal"]), []
    result = color_film(
        source, tmp_path / "python.mkv", model, palette, settings,
        lambda *count: counts.append(count), seed=5,
    )  # fmt: skip
    assert result.film.read_bytes() == (tmp_path / "command.mkv").read_bytes()
    assert counts[-1] == (6, 6) and counts == sorted(counts)
    records = [json.loads((tmp_path / f"{n}.run.json").read_text()) for n in ("command", "python")]
    names = [record.pop("output") for record in records]
    assert names == ["command.mkv", "python.mkv"] and records[0] == records[1]
    assert result.record["output"] == "python.mkv"
    assert all(path.is_file() for path in result.side_files.values())


def test_a_plan_holds_its_settings(model, tmp_path):
    """If this fails, a film is colored by other settings than the plan that was looked at."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(3))
    plan = plan_film(open_film(source), load_model(model.folder, ()))
    assert plan.frames == 3 and plan.settings == default_settings(model.config)
    with pytest.raises(ValueError, match="plan again"):
        color_film(plan, tmp_path / "out.mkv", model, None, default_settings(model.config, steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_frames_keep_their_luma_and_get_the_films_colors(model, tmp_path):
    """If this fails, frames in memory are colored in another way than the same frames in a film."""
    frames = np.stack(films.lumas(5, full_range=True))
    palette = Palette.from_colors("tomato, teal")
    colored = color_frames(frames, model, palette)
    assert colored.shape == (*frames.shape, 3) and colored.dtype == np.uint8
    luma = rgb_to_luma(colored.astype(np.float32), "bt601")
    assert np.abs(luma - frames).max() <= 1.0
    gray = frames.astype(np.float32) / 255.0
    exact = color_frames(gray, model, palette)
    assert exact.dtype == np.float32
    assert np.abs(255.0 * exact - colored).max() <= 0.51
    rgb = np.repeat(frames[..., None], 3, axis=-1)
    differs = color_frames(rgb, model, palette).astype(int) - colored
    assert np.abs(differs).max() <= 1  # Y' of equal R, G and B is rounded

    folder = films.write_pictures(tmp_path / "frames", list(frames))
    color_film(folder, tmp_path / "out", model, palette)
    for index, path in enumerate(sorted((tmp_path / "out").glob("*.png"))):
        written = np.asarray(Image.open(path), np.float32)
        chroma = rgb_to_chroma(written / 255.0, "bt601")
        assert np.abs(chroma - rgb_to_chroma(exact[index], "bt601")).max() < 0.01


@pytest.mark.parametrize(
    "frames",
    [np.zeros((4, 8), np.uint8), np.zeros((0, 8, 8), np.uint8), np.zeros((2, 8, 8), np.int64)],
    ids=["no time", "no frame", "integers"],
)
def test_wrong_frames_are_refused(model, frames):
    """If this fails, an array of another layout becomes noise, or a traceback of the network."""
    with pytest.raises(ValueError, match=r"\[T, H, W\]"):
        color_frames(frames, model)


def test_palettes_of_every_kind(tmp_path):
    """If this fails, a source of palettes cannot be reached from Python."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = (255, 0, 0)
    Image.fromarray(image).save(tmp_path / "image.png")
    red = Palette.from_colors("#000000,#ff0000")
    assert Palette.from_colors(red.colors).hex() == red.hex()
    assert Palette.from_image(image).hex() == red.hex()
    assert Palette.from_image(tmp_path / "image.png").source == "image:image.png"
    (tmp_path / "palette.json").write_text(json.dumps({"colors": red.hex()}))
    assert Palette.from_file(tmp_path / "palette.json").hex() == red.hex()
    assert Palette.from_words("grass, a red tram").source.startswith("words:grass")
    assert Palette.from_mixture(seed=3).hex() == Palette.from_spec("gmm:3").hex()
    assert Palette.from_spec("none") is None


def test_the_demo_model_is_the_default():
    """If this fails, `load_model()` does not find the bundled model."""
    model = load_model(networks=())
    assert model.folder == palette_vc_jax.DEMO and model.config.name == "demo"


def test_the_films_own_luma_is_written(model, tmp_path):
    """If this fails, `color_film` from Python changes the film's luma."""
    pictures = films.lumas(3)
    source = films.write_film(tmp_path / "in.mkv", pictures)
    result = color_film(source, tmp_path / "out.mkv", model)
    for frame, luma in zip(read_frames(open_film(result.film)), pictures, strict=True):
        np.testing.assert_array_equal(frame.luma, luma)
