"""What the image tower sees, SVD's micro-conditioning, and models that lack a part."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import sample
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import load_model, save_model
from palette_vc_jax.palette.text import parse_colors
from palette_vc_jax.sampling.colorize import _with_noise, colorize, default_settings
from palette_vc_jax.sampling.reference import GRAY, NONE, Reference
from palette_vc_jax.sampling.shot_settings import ShotSettings
from tests import films, tiny
from tests.commands import command

ROOT = Path(__file__).resolve().parents[2]
FRAMES, HEIGHT, WIDTH = 8, 16, 24


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def color(model):
    """Color frames of noise: `color(reference, shots, **settings)` gives frames [N, H, W, 3]."""
    networks = load_networks(load_model(model))
    codes = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH)).astype(np.float32)

    def run(reference=GRAY, shots=((0, FRAMES),), **overrides):
        settings = default_settings(networks.config, **overrides)
        grays = codes[shots[0][0] : shots[-1][1]] / 255.0
        given = [ShotSettings(parse_colors("tomato,teal"), reference)] * len(shots)
        # With progress, as the job: nothing is compiled for a film's length.
        chunks = colorize(networks, iter(grays), list(shots), given, settings, lambda *_: None)
        return np.concatenate(list(chunks))

    run.codes = codes
    return run


def test_a_picture_is_seen_in_the_place_of_the_middle_frame(color):
    """If this fails, `image:` is not what the image tower gets, or at another scale than frames."""
    middle = color.codes[FRAMES // 2].astype(np.uint8)[..., None].repeat(3, axis=-1)
    gray = color(GRAY)
    np.testing.assert_allclose(color(Reference("image:x", middle)), gray, atol=1e-5)
    red = color(Reference("image:x", middle * np.array([1, 0, 0], np.uint8)))
    none = color(NONE)
    for one, other in ((red, gray), (none, gray), (red, none)):
        assert np.abs(one - other).max() > 1e-3


def test_one_picture_serves_all_shots(color):
    """If this fails, films of several shots cannot have a reference, or only the first has it."""
    picture = np.random.default_rng(1).integers(0, 256, (30, 20, 3)).astype(np.uint8)
    shots = ((0, 4), (4, 8))
    both = color(Reference("image:x", picture), shots)
    last = color(Reference("image:x", picture), shots[1:])
    np.testing.assert_allclose(both[4:], last, atol=1e-5)
    assert np.abs(both[4:] - color(GRAY, shots)[4:]).max() > 1e-3


def test_noise_augmentation_is_added_to_the_frames(color):
    """If this fails, the network gets a wrong noise level, or one that depends on the run."""
    strength = {"noise_augmentation": 0.3}
    noisy = color(shots=((0, 4), (4, 8)), **strength)
    assert np.abs(noisy - color(shots=((0, 4), (4, 8)))).max() > 1e-3
    np.testing.assert_allclose(noisy[4:], color(shots=((4, 8),), **strength), atol=1e-5)
    gray = np.full((64, 64), 0.5, np.float32)
    noise = [2.0 * (_with_noise(gray, 0.3, 7, index) - 0.5) for index in (3, 4)]
    assert noise[0].shape == (64, 64, 3) and noise[0].dtype == np.float32
    assert abs(noise[0].std() - 0.3) < 0.01 and abs(noise[0].mean()) < 0.01
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    assert _with_noise(gray, 0.0, 7, 3) is gray


@pytest.mark.parametrize("change", [{"fps": 24}, {"motion_bucket": 20}])
def test_micro_conditioning_reaches_the_network(color, change):
    """If this fails, a flag is recorded that changes nothing."""
    assert np.abs(color(**change) - color()).max() > 1e-4


def test_the_command_records_what_was_seen(model, tmp_path):
    """If this fails, a film cannot be colored again from its record."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(3))
    picture = tmp_path / "reference.png"
    Image.fromarray(np.full((20, 30, 3), (200, 40, 30), np.uint8)).save(picture)
    given = ["--input", source, "--checkpoint", model, "--palette", "tomato", "--output"]
    flags = ["--reference", f"image:{picture}", "--fps", 12, "--noise_augmentation", 0.02]
    records, planes = {}, {}
    for name, more in (("gray", []), ("image", flags)):
        assert command(sample.main, *given, tmp_path / f"{name}.mkv", *more) == 0
        records[name] = json.loads((tmp_path / f"{name}.run.json").read_text())
        planes[name] = (tmp_path / f"{name}.mkv").read_bytes()
    assert records["gray"]["reference"] == "gray"
    assert records["image"]["reference"] == f"image:{picture}"
    assert [records[name]["settings"]["fps"] for name in ("gray", "image")] == [6, 12]
    assert records["image"]["settings"]["noise_augmentation"] == 0.02
    assert planes["gray"] != planes["image"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--reference", "dark"], "reference 'dark' is not known; use gray"),
        (["--reference", "image:"], "reference 'image:' is not known"),
        (["--reference", "image:nowhere.png"], "nowhere.png: no such file"),
        (["--fps", -1], "fps=-1; give a whole number from 0"),
        (["--motion_bucket", 256], "motion_bucket=256; give a whole number from 0 to 255"),
        (["--noise_augmentation", "nan"], "noise_augmentation=nan; give a number from 0 to 1"),
    ],
)
def test_wrong_conditions_are_refused_in_one_line(model, tmp_path, capsys, flags, said):
    """If this fails, a mistyped condition ends in a traceback, or in a film without it."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    given = ["--input", source, "--output", tmp_path / "out.mkv", "--checkpoint", model]
    assert command(sample.main, *given, *flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_default_is_what_the_model_was_trained_with(tmp_path, model, capsys):
    """If this fails, a model sees what it never saw in training, without a warning."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    given = ["--input", source, "--output", tmp_path / "out.mkv", "--palette", "none", "--dry_run"]
    values = json.loads((model / "config.json").read_text())
    for favored, used in (("gray", "gray"), ("none", "none"), ("color", "gray")):
        values["sampling"]["reference"] = favored
        (tmp_path / "config.json").write_text(json.dumps(values))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert command(sample.main, *given, "--checkpoint", tmp_path) == 0
        assert json.loads(capsys.readouterr().out)["reference"] == used
        said = [str(warning.message) for warning in caught if warning.category is UserWarning]
        assert len(said) == (favored == "color")
        assert all("--reference image:PATH" in line and "\n" not in line for line in said)


def test_older_files_lack_the_reference_and_no_other_key():
    """If this fails, models that were written before cannot be read, or damaged ones can."""
    values = model_config.to_dict(tiny.CONFIG)
    old = values | {"sampling": dict(values["sampling"])}
    del old["sampling"]["reference"]
    assert model_config.from_dict(old) == tiny.CONFIG
    for change, said in (
        (lambda sampling: sampling.pop("fps"), "unknown or missing ['fps']"),
        (lambda sampling: sampling.update(speed=1), "unknown or missing ['speed']"),
        (lambda sampling: sampling.update(reference="blue"), "reference='blue'; use one of gray"),
        (lambda sampling: sampling.update(fps=None), "fps = None; a value of type int is needed"),
    ):
        damaged = old | {"sampling": dict(old["sampling"])}
        change(damaged["sampling"])
        with pytest.raises(ValueError) as error:
            model_config.from_dict(damaged)
        assert said in str(error.value) and "\n" not in str(error.value)


def test_a_palette_that_changes_nothing_is_told(model, tmp_path):
    """If this fails, nobody knows that a converted model colors alike under all palettes."""
    read = load_model(model)
    layer = read.params["unet"]["palette_embedding"]
    layer |= {name: np.zeros_like(leaf) for name, leaf in layer.items()}
    save_model(tmp_path / "zero", read.config, read.params)
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    given = ["--input", source, "--output", tmp_path / "out.mkv", "--overwrite", "--palette"]
    said = f"the palette layer of {tmp_path / 'zero'} is all zeros"
    with pytest.warns(UserWarning, match=said):
        assert command(sample.main, *given, "tomato", "--checkpoint", tmp_path / "zero") == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert command(sample.main, *given, "none", "--checkpoint", tmp_path / "zero") == 0
        assert command(sample.main, *given, "tomato", "--checkpoint", model) == 0


def test_the_mixture_of_another_model_is_told_in_one_line(model, tmp_path):
    """If this fails, a model is steered by the colors of the demo's clips, and nobody knows.

    The command runs in a process of its own, where warnings are printed.
    """
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    output = tmp_path / "out.mkv"
    for palette, count in (("gmm", 1), ("auto", 0), ("none", 0)):
        given = ["--input", source, "--output", output, "--checkpoint", tmp_path, "--dry_run"]
        done = subprocess.run(
            [sys.executable, ROOT / "sample.py", *given, "--palette", palette],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        )
        said = [line for line in done.stderr.splitlines() if "warn" in line.lower()]
        assert len(said) == count
        for line in said:
            assert line.startswith(f"warning: {tmp_path} has no mixture.json")
            assert f"--output {tmp_path / 'mixture.json'}" in line
