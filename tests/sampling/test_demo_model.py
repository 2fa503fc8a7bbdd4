"""The bundled model: what a fresh machine colors with."""

import importlib.util
import itertools
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from palette_vc_jax.models.config import demo
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import load_config, load_model
from palette_vc_jax.palette.gmm import load
from palette_vc_jax.palette.text import parse_colors
from palette_vc_jax.sampling.colorize import colorize, default_settings
from palette_vc_jax.video import color
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import model_size, resize

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.optimized
DEMO = ROOT / "palette_vc_jax" / "demo"


def test_the_bundle_is_whole_small_and_of_its_preset():
    """If this fails, a clone is slow to fetch, or the preset describes another model."""
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= 40e6
    assert load_config(DEMO) == demo()
    load(DEMO / "mixture.json")


def test_training_covers_the_noise_that_sampling_starts_from():
    """If this fails, the sampler's first step, which decides the colors, is untrained."""
    spec = importlib.util.spec_from_file_location("demo_config", ROOT / "configs" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    levels = NormalDist(config.sigma_mean, config.sigma_std)
    assert 1.0 - levels.cdf(np.log(demo().sampling.sigma_max)) > 0.02


@pytest.fixture(scope="module")
def street():
    """Read the first frames of the example at the model's size, as Y'."""
    film = open_film(ROOT / "examples" / "bikes.mp4")
    config = demo()
    grays = []
    for frame in itertools.islice(read_frames(film), 6):
        gray = color.gray(frame.luma, film)
        size = model_size(*gray.shape, config.sampling.short_side, config.pixel_multiple)
        grays.append(resize(gray, *size))
    return np.stack(grays)


def test_the_bundled_model_takes_the_side_of_its_palette(street):
    """If this fails, the shipped weights ignore the palette, or are not weights at all."""
    networks = load_networks(load_model(DEMO))
    settings = default_settings(networks.config)
    sides = {}
    for name, codes in (
        ("blue", "#0b1d3a,#1d4e89,#3a7ca5,#81b1d5,#d9e8f5"),
        ("orange", "#3b1c0a,#8a3d0f,#d2691e,#f4a259,#fbe3c0"),
    ):
        shots = [(0, len(street))]
        chunks = colorize(networks, iter(street), shots, parse_colors(codes), settings, seed=0)
        frames = np.concatenate(list(chunks))
        chroma = color.rgb_to_chroma(frames, "bt601")  # (Cb, Cr)
        sides[name] = (chroma[..., 1] - chroma[..., 0]).mean()  # red against blue
        assert chroma.std(axis=(1, 2)).mean() > 0.005  # more than one tint everywhere
    assert sides["blue"] < -0.03 < 0.03 < sides["orange"]
