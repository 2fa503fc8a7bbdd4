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
DEMO = ROOT / "palette_vc_jax" / "demo"
PALETTES = {
    "blue": parse_colors("#0b1d3a,#1d4e89,#3a7ca5,#81b1d5,#d9e8f5"),
    "orange": parse_colors("#3b1c0a,#8a3d0f,#d2691e,#f4a259,#fbe3c0"),
}


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
    for frame in itertools.islice(read_frames(film), 4):
        gray = color.gray(frame.luma, film)
        size = model_size(*gray.shape, config.sampling.short_side, config.pixel_multiple)
        grays.append(resize(gray, *size))
    return np.stack(grays)


@pytest.fixture(scope="module")
def colored(street):
    """Return `colored(palette, **steering)`: the frames as the bundled model colors them."""
    networks = load_networks(load_model(DEMO))
    # The film is decoded in one go; a longer chunk would be filled up.
    settings, shots = default_settings(networks.config, decode_chunk=5), [(0, len(street))]

    def run(palette, **steering):
        chunks = colorize(
            networks, iter(street), shots, [ShotSettings(palette)], settings, **steering
        )
        return np.concatenate(list(chunks))

    return run


@pytest.fixture(scope="module")
def sides(colored):
    """Color the frames in blue and in orange."""
    return {name: colored(palette) for name, palette in PALETTES.items()}


def _red_against_blue(frames):
    """Return Cr - Cb of frames `[T, H, W, 3]`, for each pixel."""
    chroma = color.rgb_to_chroma(frames, "bt601")  # (Cb, Cr)
    return chroma[..., 1] - chroma[..., 0]


def test_the_bundled_model_takes_the_side_of_its_palette(sides):
    """If this fails, the shipped weights ignore the palette, or are not weights at all."""
    for frames in sides.values():
        chroma = color.rgb_to_chroma(frames, "bt601")
        assert chroma.std(axis=(1, 2)).mean() > 0.005  # more than one tint everywhere
    blue, orange = (_red_against_blue(sides[name]).mean() for name in ("blue", "orange"))
    assert blue < -0.03 < 0.03 < orange


def test_regions_and_keyframes_steer_the_bundled_model(street, colored, sides):
    """If this fails, a region tints the rest of the picture, or a repaired frame stays alone."""
    height, width = street.shape[1:]
    factor = demo().vae.downscale
    half = np.zeros((len(street), height // factor, width // factor, 1), np.uint8)
    half[:, :, : width // factor // 2] = 255
    regions = RegionMaps((PALETTES["orange"],), {0: half}, half.shape[1:3])
    parts = _red_against_blue(colored(PALETTES["blue"], regions=regions))
    assert parts[..., width // 2 + factor :].mean() < -0.03
    assert parts[..., : width // 2 - factor].mean() > 0.03

    image = np.rint(255.0 * sides["orange"][2]).astype(np.uint8)
    plain = _red_against_blue(sides["blue"]).mean((1, 2))
    film = open_film(ROOT / "examples" / "bikes.mp4")
    shots, shape = [(0, len(street))], (height // factor, width // factor)
    tracked = track_keyframes(film, shots, shape, [Keyframe(2, image)])
    keyed = _red_against_blue(colored(PALETTES["blue"], keyframes=tracked)).mean((1, 2))
    assert plain.max() < 0.0 and keyed.min() > 0.03
