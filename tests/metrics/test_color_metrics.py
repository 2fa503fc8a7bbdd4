"""Color measures against published vectors, and against films whose value is known."""

import numpy as np
import pytest

from palette_vc_jax.metrics import color


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Make six moving frames in which color depends on luma and on place."""
    y, x, t = np.meshgrid(
        np.linspace(0, 1, 24), np.linspace(0, 1, 32), np.arange(6) / 20, indexing="ij"
    )
    luma = 0.5 + 0.3 * np.sin(9 * (x + t) + 4 * y)
    side = 0.15 * np.sign(np.sin(7 * y - 3 * x + t))
    film = np.stack([luma + side, luma, luma - 0.5 * side - 0.1 * luma], axis=-1)
    return np.moveaxis(film, 2, 0).clip(0, 1).astype(np.float32)


def grey(film: np.ndarray) -> np.ndarray:
    return np.repeat((film @ color.LUMA)[..., None], 3, axis=-1)


def test_colorfulness_matches_published_vectors():
    """Taking absolute values first, as some code does, would give 206.52 for the first."""
    primaries = np.eye(3, dtype=np.float32)[None, None]
    assert color.colorfulness(primaries) == pytest.approx(275.4315, abs=1e-3)
    red = np.zeros((1, 4, 4, 3), np.float32)
    red[..., 0] = 1.0
    assert color.colorfulness(red) == pytest.approx(85.5296, abs=1e-3)


def test_colorfulness_is_per_frame(truth):
    """A film's value would otherwise rise with change over time."""
    frames = [color.colorfulness(frame[None]) for frame in truth]
    assert color.colorfulness(truth) == pytest.approx(np.mean(frames))
    assert color.colorfulness(grey(truth)) == pytest.approx(0.0, abs=1e-4)


def test_correlation_knows_truth_and_its_inverse(truth):
    """Sign and scale would be wrong."""
    assert color.chroma_correlation(truth, truth) == pytest.approx(1.0)
    swapped = grey(truth) + (grey(truth) - truth)
    assert color.chroma_correlation(swapped, truth) < -0.8


def test_correlation_ignores_what_luma_tells(truth):
    """A color that is a function of luma would be taken for knowledge of the scene."""
    luma = grey(truth)[..., 0]
    by_luma = np.stack([luma, luma**1.5, 1.0 - luma], axis=-1)
    assert abs(color.chroma_correlation(by_luma, truth)) < 0.1
    tint = (grey(truth) + np.float32([0.1, 0.0, -0.1])).clip(0, 1)
    assert abs(color.chroma_correlation(tint, truth)) < 0.1


def test_correlation_of_colorless_films_is_zero(truth):
    """Rounding in the Lab of an exact grey would be correlated with the truth."""
    assert color.chroma_correlation(grey(truth), truth) == 0.0
    assert color.chroma_correlation(truth, grey(truth)) == 0.0
    flat = np.full_like(truth, 0.5)
    assert color.chroma_correlation(flat, flat) == 0.0


def test_histogram_distance_spans_zero_to_one(truth):
    """The distance would have another base or lack its square root."""
    assert color.histogram_distance(truth, truth) == pytest.approx(0.0, abs=1e-6)
    red, blue = (np.broadcast_to(np.float32(c), (1, 4, 4, 3)) for c in ([1, 0, 0], [0, 0, 1]))
    assert color.histogram_distance(red, blue) == pytest.approx(1.0)
    half = np.concatenate([red, blue])
    expected = np.sqrt(1.0 - 0.75 * np.log2(3.0) + 0.5)  # JS((1/2, 1/2), (1, 0)) in bits
    assert color.histogram_distance(half, red) == pytest.approx(expected)


def test_histogram_keeps_greys_in_one_bin():
    """Greys would scatter over the bins around neutral by their rounding."""
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1), 3, axis=-1)
    assert np.count_nonzero(color._histogram(ramp)) == 1


def test_cdc_matches_published_vectors():
    """Strides, logarithm or weights would differ from TCVC's code."""
    still = np.full((8, 4, 4, 3), 7)
    assert color.cdc(still) == 0.0
    flicker = np.zeros((8, 4, 4, 3), int)
    flicker[1::2] = 255
    assert color.cdc(flicker) == pytest.approx(0.231049, abs=1e-6)
    with pytest.raises(ValueError, match="at least 5"):
        color.cdc(still[:4])


def test_chroma_cdc_sees_color_flicker_alone(truth):
    """Moving luma would count as flicker, or flicker of color would not."""
    assert color.chroma_cdc(grey(truth)) == pytest.approx(0.0, abs=1e-9)
    flicker = truth.copy()
    flicker[1::2] = flicker[1::2, ..., ::-1]
    assert color.chroma_cdc(flicker) > 2.0 * color.chroma_cdc(truth)


def test_chroma_error_is_a_distance(truth):
    """The error of a grey copy is the truth's mean chroma."""
    assert color.chroma_error(truth, truth) == 0.0
    mean = np.linalg.norm(color.chroma(truth), axis=-1).mean()
    assert color.chroma_error(grey(truth), truth) == pytest.approx(mean, abs=0.02)


def test_palette_distance_pairs_colors_one_to_one():
    """Order would count, lightness would count, or one found color could answer for all."""
    rng = np.random.default_rng(0)
    colors = rng.uniform(0.2, 0.8, (5, 3)).astype(np.float32)
    assert color.palette_distance(colors, colors[::-1]) == pytest.approx(0.0, abs=1e-5)
    greys = np.repeat(np.linspace(0, 1, 5)[:, None], 3, axis=1)
    assert color.palette_distance(greys, greys[:1].repeat(5, axis=0)) < 0.05
    assert color.palette_distance(colors, colors[:1].repeat(5, axis=0)) > 5.0
