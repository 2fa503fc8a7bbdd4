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
from palette_vc_jax.sampling.keyframes import Keyframe, track_keyframes
from palette_vc_jax.sampling.regions import RegionMaps
from palette_vc_jax.sampling.shot_settings import ShotSettings
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
        chunks = colorize(
            networks, iter(street), shots, [ShotSettings(parse_colors(codes))], settings
        )
        frames = np.concatenate(list(chunks))
        chroma = color.rgb_to_chroma(frames, "bt601")  # (Cb, Cr)
        sides[name] = (chroma[..., 1] - chroma[..., 0]).mean()  # red against blue
        assert chroma.std(axis=(1, 2)).mean() > 0.005  # more than one tint everywhere
    assert sides["blue"] < -0.03 < 0.03 < sides["orange"]


def _hue_side(frames):
    """Return red against blue of frames `[T, H, W, 3]`, for each pixel."""
    chroma = color.rgb_to_chroma(frames, "bt601")  # (Cb, Cr)
    return chroma[..., 1] - chroma[..., 0]


def test_regions_and_keyframes_steer_the_bundled_model(street):
    """If this fails, a region tints the rest of the picture, or a repaired frame stays alone."""
    networks = load_networks(load_model(DEMO))
    settings, shots = default_settings(networks.config), [(0, len(street))]
    orange, blue = (parse_colors(c) for c in ("#8a3d0f,#d2691e,#f4a259", "#1d4e89,#3a7ca5,#81b1d5"))
    height, width = street.shape[1:]

    def run(palette, **steering):
        chunks = colorize(
            networks, iter(street), shots, [ShotSettings(palette)], settings, **steering
        )
        return np.concatenate(list(chunks))

    factor = networks.config.vae.downscale
    half = np.zeros((len(street), height // factor, width // factor, 1), np.uint8)
    half[:, :, : width // factor // 2] = 255
    parts = _hue_side(run(blue, regions=RegionMaps((orange,), {0: half}, half.shape[1:3])))
    assert parts[..., width // 2 + factor :].mean() < -0.03
    assert parts[..., : width // 2 - factor].mean() > 0.03

    image = np.rint(255.0 * run(orange)[2]).astype(np.uint8)
    plain = _hue_side(run(blue)).mean((1, 2))
    film = open_film(ROOT / "examples" / "bikes.mp4")
    shape = height // factor, width // factor
    tracked = track_keyframes(film, shots, shape, [Keyframe(2, image)])
    keyed = _hue_side(run(blue, keyframes=tracked)).mean((1, 2))
    assert plain.max() < 0.0 and keyed.min() > 0.03
