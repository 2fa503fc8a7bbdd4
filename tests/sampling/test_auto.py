"""The automatic palette: the model's own colors of a few frames, at the training's colorfulness."""

import json

import numpy as np
import pytest

from palette_vc_jax import auto_palette, cli, default_settings, load_model, plan_film
from palette_vc_jax.commands import sample
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.palette import gmm
from palette_vc_jax.palette.file import load_palette
from palette_vc_jax.sampling import auto
from palette_vc_jax.video import color
from tests import films, tiny

MIXTURE = np.ones(1), np.full((1, 3), 0.5), 0.05 * np.eye(3)[None]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return films.write_film(tmp_path_factory.mktemp("film") / "in.mkv", films.lumas(9))


def test_frames_are_spread_over_the_film():
    """If this fails, a film's palette is that of its first seconds."""
    assert auto.spread((0, 80), 4) == [10, 30, 50, 70]
    assert auto.spread((100, 102), 4) == [100, 101]
    assert auto.spread((7, 8), 4) == [7]


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.5])
def test_saturation_changes_and_luma_does_not(gain):
    """If this fails, colors get darker as they are saturated, or the frames' cast is scaled too."""
    colors = np.random.default_rng(0).uniform(0.45, 0.55, (5, 3))
    mean = np.array([0.02, -0.03])
    found = auto.saturate(colors, gain, mean, "bt601")
    np.testing.assert_allclose(
        color.rgb_to_luma(found, "bt601"), color.rgb_to_luma(colors, "bt601"), atol=1e-6
    )
    before, after = (color.rgb_to_chroma(x, "bt601") for x in (colors, found))
    np.testing.assert_allclose(after - auto.CAST * mean, gain * (before - mean), atol=1e-6)
    vivid = auto.saturate(np.array([[1.0, 0.0, 0.0]]), 3.0, mean, "bt601")  # limited to the gamut
    assert (vivid >= 0.0).all() and (vivid <= 1.0).all()


@pytest.mark.parametrize(("target", "gain"), [(None, 1.0), (1e-3, 0.5), (1e6, 3.0)])
def test_the_gain_follows_the_mixture_within_limits(model, film, tmp_path, target, gain):
    """If this fails, the training film's colorfulness is not aimed at, or gray fog turns neon."""
    facts = {} if target is None else {"colorfulness": target}
    gmm.save(gmm.Mixture(*MIXTURE, facts), tmp_path / "mixture.json")
    loaded = load_model(model)
    palette = auto_palette(plan_film(film, loaded), loaded, tmp_path / "mixture.json")
    assert palette.source == "auto" and palette.details["gain"] == gain
    assert palette.details["frames"] == [1, 3, 5, 7]


def test_frames_share_a_chunk_of_the_decoder(model):
    """If this fails, the decoder takes four times as long, or frames are lost between chunks."""
    loaded = load_model(model)
    networks, settings = load_networks(loaded), default_settings(loaded.config, decode_chunk=18)
    chunks = []

    def decode(latents):
        chunks.append(latents.shape[1])
        return networks.decode(latents)

    size = settings.short_side
    grays = np.random.default_rng(0).random((auto.FRAMES, size, size), np.float32)
    auto.palette_of_grays(grays, networks._replace(decode=decode), None, settings)
    assert chunks == [18]


@pytest.mark.parametrize("value", ["much", -1.0, float("inf")])
def test_a_mixture_with_a_bad_colorfulness_is_refused(tmp_path, value):
    """If this fails, a damaged mixture is a traceback or a palette of nonsense."""
    gmm.save(gmm.Mixture(*MIXTURE, {"colorfulness": value}), tmp_path / "mixture.json")
    with pytest.raises(ValueError, match="give a number above 0"):
        auto.training_colorfulness(tmp_path / "mixture.json")


def test_it_is_the_commands_default_and_is_recorded(model, film, tmp_path, capsys):
    """If this fails, a film's automatic palette cannot be used again, or differs each time."""
    arguments = ["--input", film, "--checkpoint", model]

    def run(*more):
        cli.run(lambda: sample.main([str(value) for value in (*arguments, *more)]))

    run("--output", tmp_path / "a.mkv")
    run("--output", tmp_path / "b.mkv", "--palette", "auto")
    first, again = (load_palette(tmp_path / f"{name}.palette.json") for name in "ab")
    assert first.hex() == again.hex() and first.details["made_from"] == "auto"
    record = json.loads((tmp_path / "a.run.json").read_text())
    assert record["palette_source"] == "auto" and record["palette"] == first.hex()
    capsys.readouterr()
    run("--output", tmp_path / "c.mkv", "--dry_run")
    assert json.loads(capsys.readouterr().out)["palette_source"] == "auto"
