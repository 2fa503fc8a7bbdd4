"""Settings, conditions and noise."""

import dataclasses
import typing

import jax
import numpy as np
import pytest

from palette_vc_jax.commands import flags
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.sampling.colorize import ColorizeSettings, default_settings
from palette_vc_jax.sampling.settings import (
    FilmConditions,
    Known,
    SamplerSettings,
    check_conditions,
    frame_noise,
)
from palette_vc_jax.sampling.windows import plan_windows
from palette_vc_jax.video.neutral import OFF


def test_noise_belongs_to_frames():
    """If this fails, a longer film, a later start or another block size changes a frame's noise."""
    film = frame_noise(3, 0, 10, (2, 3, 4))
    assert film.shape == (10, 2, 3, 4) and film.dtype == np.float32
    np.testing.assert_array_equal(frame_noise(3, 0, 70, (2, 3, 4))[:10], film)
    np.testing.assert_array_equal(frame_noise(3, 4, 3, (2, 3, 4)), film[4:7])
    np.testing.assert_array_equal(frame_noise(3, 0, 10, (2, 3, 4), block=3), film)
    key = jax.random.fold_in(jax.random.key(3), 6)
    np.testing.assert_allclose(jax.random.normal(key, (2, 3, 4)), film[6], atol=1e-6)


def test_noise_is_noise():
    """If this fails, frames or seeds share their noise, or its deviation is not 1."""
    film = frame_noise(0, 0, 200, (4, 4, 4))
    assert abs(film.mean()) < 0.03 and abs(film.std() - 1.0) < 0.03
    correlation = np.corrcoef(film[:20].reshape(20, -1))
    assert np.abs(correlation - np.eye(20)).max() < 0.6
    assert np.abs(film[:20] - frame_noise(1, 0, 20, (4, 4, 4))).min(axis=(1, 2, 3)).max() < 1.0
    assert not np.array_equal(film[:20], frame_noise(2**32 - 1, 0, 20, (4, 4, 4)))


def test_shared_noise_is_common_to_all_frames():
    """If this fails, films flicker, or the noise has another variance than in training."""
    film = frame_noise(0, 0, 100, (8, 8, 4), share=0.75)
    assert abs(film.std() - 1.0) < 0.1
    correlation = np.corrcoef(film.reshape(100, -1))[~np.eye(100, dtype=bool)]
    assert abs(correlation.mean() - 0.75) < 0.05
    np.testing.assert_array_equal(frame_noise(0, 90, 10, (8, 8, 4), share=0.75), film[90:])
    assert np.ptp(frame_noise(0, 0, 3, (2, 2), share=1.0), axis=0).max() == 0.0


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_range(seed):
    """If this fails, a seed that is too long overflows inside JAX."""
    with pytest.raises(ValueError, match="give a number"):
        frame_noise(seed, 0, 1, (2,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"sigma_min": 0.0},
        {"sigma_max": 0.001},
        {"rho": -1.0},
        {"solver": "heun"},
        {"guidance": "clip"},
        {"guidance_scale": -1.0},
        {"guidance_scale": float("nan")},
        {"window": 0},
        {"overlap": 14},
        {"window_mode": "looped"},
        {"window_weights": "gaussian"},
        {"window_mode": "anchored", "overlap": 0},
        {"blending": "never"},
        {"shared_noise_fraction": 1.5},
        {"shared_noise_fraction": -0.1},
        {"windows_per_batch": 0},
        {"windows_per_batch": True},
        {"steps": 2.5},
        {"steps": "2"},
        {"steps": 10**9},
        {"sigma_max": 1e300},
        {"rho": 1e-300},
        {"guidance_scale": 1e38},
        {"window": 10**9},
    ],
)
def test_wrong_settings(wrong):
    """If this fails, a mistake is found hours into a film, ends in a traceback, or never ends."""
    with pytest.raises(ValueError) as error:
        SamplerSettings(**wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["short_side", "encode_batch", "decode_chunk"])
@pytest.mark.parametrize("value", [0, 10**9, 2.5])
def test_wrong_sizes(name, value):
    """If this fails, a mistake asks for memory that no machine has."""
    with pytest.raises(ValueError, match=name.partition("_")[0]):
        default_settings(PRESETS["demo"](), **{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_wrong_memory(value):
    """If this fails, a mistake in --memory is a traceback."""
    with pytest.raises(ValueError, match="GiB of memory; give a number above 0"):
        default_settings(PRESETS["demo"](), memory=value)


def _known(numbers, width=2, frames=6):
    sources = np.zeros((frames, 2, 2, 2))
    return Known(np.array(numbers), np.zeros((len(numbers), 2, width, 4)), sources, sources)


SHOTS = [(0, 4), (4, 6)]
RIGHT = FilmConditions(np.zeros((6, 2, 2, 4)), np.zeros((2, 1, 8)), np.zeros(3), np.zeros(15), 1.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("gray", np.zeros((5, 2, 2, 4)), "same film"),
        ("gray", np.zeros((6, 2, 4)), "same film"),
        ("context", np.zeros((1, 1, 8)), "image embedding"),
        ("context", np.zeros((2, 8)), "image embedding"),
        ("added_time_ids", np.zeros((2, 3)), "fps"),
        ("palette", np.zeros((3, 15)), "one per shot"),
        ("palette_mask", np.zeros(3), "one per shot"),
        ("regions", np.ones((6, 2, 3, 2)), "the same N, h and w"),
        ("palette", np.zeros((2, 2, 15)), "one per shot"),  # there are no regions
        ("known", _known([6]), "from 0 to 5"),
        ("known", _known([1, 1]), "different numbers"),
        ("known", _known([1], width=3), "is needed"),
        ("known", _known([1], frames=5), "is needed"),
    ],
)
def test_wrong_conditions(field, value, message):
    """If this fails, conditions of another film are broadcast, or fail inside the program."""
    plan = plan_windows(SHOTS, 5, 2)
    assert check_conditions(RIGHT, plan).palette.shape == (2, 15)
    with pytest.raises(ValueError, match=message):
        check_conditions(RIGHT._replace(**{field: value}), plan)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_models_settings_are_the_defaults(preset):
    """If this fails, a setting that a model was trained for is lost on the way to the sampler."""
    own = dataclasses.asdict(PRESETS[preset]().sampling)
    settings = dataclasses.asdict(default_settings(PRESETS[preset]()))
    found = settings.pop("sampler") | settings
    del own["reference"], own["palette_colorfulness"]
    assert {name: found[name] for name in own} == own


@pytest.mark.parametrize("name", ["overlaps", "sampler", "reference", "palette_colorfulness"])
def test_an_unknown_setting_is_named(name):
    """If this fails, a misspelled setting is a traceback, or is ignored."""
    with pytest.raises(ValueError, match=f"setting '{name}' is not known"):
        default_settings(PRESETS["demo"](), **{name: 1})


def test_unknown_transitions_are_refused():
    """If this fails, a misspelled value ignores fades and dissolves without a word."""
    with pytest.raises(ValueError, match="use one of bridge, ignore"):
        default_settings(PRESETS["demo"](), transitions="cut")


@pytest.mark.parametrize("wrong", [{"neutral_dark": 0.9}, {"neutral_bright": float("nan")}])
def test_lumas_out_of_order_are_refused(wrong):
    """If this fails, a mistyped threshold turns a film gray, or is found after hours."""
    with pytest.raises(ValueError, match="0 <= dark < bright <= 1"):
        default_settings(PRESETS["demo"](), **wrong)


def test_the_paper_keeps_the_models_chroma():
    """If this fails, the paper's tables measure more than the model."""
    paper = default_settings(PRESETS["demo"](), **flags.PRESETS["paper"])
    assert paper.transitions == "ignore"
    assert paper.neutral == OFF != default_settings(PRESETS["demo"]()).neutral


def test_every_flag_is_a_setting():
    """If this fails, a flag of sample.py ends in a traceback."""
    kinds = typing.get_type_hints(ColorizeSettings) | typing.get_type_hints(SamplerSettings)
    for name, (kind, _) in flags.SETTINGS.items():
        assert kinds[name] is kind
