"""Measures of films against published vectors, and against films whose value is known."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from palette_vc_jax.metrics import color
from palette_vc_jax.metrics.chunk import Chunk, gray_copy
from palette_vc_jax.metrics.meters import METRICS, measure

FREE = [name for name, metric in METRICS.items() if metric.network is None]


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


def gray_of(film: np.ndarray) -> np.ndarray:
    return np.repeat((film @ np.float32([0.299, 0.587, 0.114]))[..., None], 3, axis=-1)


def one(name: str, film: np.ndarray, truth: np.ndarray | None = None) -> float:
    return measure([name], film, truth)[name]


def test_colorfulness_matches_published_vectors():
    """If this fails, signed and absolute opponents are mixed up, as in many scripts."""
    primaries = np.eye(3, dtype=np.float32)[None, None]
    assert one("colorfulness", primaries) == pytest.approx(275.4315, abs=1e-3)
    assert one("colorfulness_abs", primaries) == pytest.approx(206.5217, abs=1e-3)
    red = np.zeros((1, 4, 4, 3), np.float32)
    red[..., 0] = 1.0
    for name in ("colorfulness", "colorfulness_abs"):
        assert one(name, red) == pytest.approx(85.5296, abs=1e-3)


def test_colorfulness_is_per_frame(truth):
    """If this fails, a film's value rises with change over time."""
    frames = [one("colorfulness", frame[None]) for frame in truth]
    assert one("colorfulness", truth) == pytest.approx(np.mean(frames))
    assert one("colorfulness", gray_of(truth)) == pytest.approx(0.0, abs=1e-4)


def test_psnr_and_ssim_are_scikit_images(truth):
    """If this fails, window or range is another, or differences of bytes wrap around."""
    rng = np.random.default_rng(0)
    film = (truth + rng.normal(0, 0.05, truth.shape)).clip(0, 1).astype(np.float32)
    a, b = Chunk(film), Chunk(truth)
    pairs = list(zip(a.codes, b.codes, strict=True))
    lumas = list(zip(a.luma_codes, b.luma_codes, strict=True))

    def ssim(x, y, axis):
        return structural_similarity(x, y, channel_axis=axis)  # bytes: the range is 255

    expected = {
        "psnr_rgb": np.mean([peak_signal_noise_ratio(y, x) for x, y in pairs]),
        "psnr_y": np.mean([peak_signal_noise_ratio(y, x) for x, y in lumas]),
        "ssim_rgb": np.mean([ssim(x, y, -1) for x, y in pairs]),
        "ssim_y": np.mean([ssim(x, y, None) for x, y in lumas]),
    }
    assert measure(expected, film, truth) == pytest.approx(expected)


def test_a_gray_copy_keeps_luma_and_little_else(truth):
    """If this fails, luma is rounded twice, and measures of luma are not perfect."""
    copy = gray_copy(Chunk(truth)).frames
    values = measure(["psnr_y", "ssim_y", "psnr_rgb"], copy, truth)
    assert values["psnr_y"] == np.inf and values["ssim_y"] == 1.0
    assert values["psnr_rgb"] < 30.0


def test_correlation_knows_truth_and_its_inverse(truth):
    """If this fails, the correlation has a wrong sign or scale."""
    assert one("chroma_correlation", truth, truth) == pytest.approx(1.0)
    swapped = gray_of(truth) + (gray_of(truth) - truth)
    assert one("chroma_correlation", swapped, truth) < -0.8


def test_correlation_ignores_what_luma_tells(truth):
    """If this fails, a color that is a function of luma counts as knowledge of the scene."""
    luma = gray_of(truth)[..., 0]
    by_luma = np.stack([luma, luma**1.5, 1.0 - luma], axis=-1)
    assert abs(one("chroma_correlation", by_luma, truth)) < 0.1
    tint = (gray_of(truth) + np.float32([0.1, 0.0, -0.1])).clip(0, 1)
    assert abs(one("chroma_correlation", tint, truth)) < 0.1


def test_correlation_of_colorless_films_is_zero(truth):
    """If this fails, rounding in the Lab of an exact gray is correlated with the truth."""
    assert one("chroma_correlation", gray_of(truth), truth) == 0.0
    assert one("chroma_correlation", truth, gray_of(truth)) == 0.0
    flat = np.full_like(truth, 0.5)
    assert one("chroma_correlation", flat, flat) == 0.0


def test_histogram_distance_spans_zero_to_one(truth):
    """If this fails, the logarithm has another base, or the square root is missing."""
    assert one("histogram_distance", truth, truth) == pytest.approx(0.0, abs=1e-6)
    red, blue = (np.broadcast_to(np.float32(c), (1, 4, 4, 3)) for c in ([1, 0, 0], [0, 0, 1]))
    assert one("histogram_distance", red, blue) == pytest.approx(1.0)
    half, reds = np.concatenate([red, blue]), np.concatenate([red, red])
    expected = np.sqrt(1.0 - 0.75 * np.log2(3.0) + 0.5)  # JS((1/2, 1/2), (1, 0)) in bits
    assert one("histogram_distance", half, reds) == pytest.approx(expected)


def test_histogram_keeps_grays_in_one_bin():
    """If this fails, rounding scatters grays over the bins around neutral."""
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1), 3, axis=-1)
    assert np.count_nonzero(color.histogram(color.chroma(ramp))) == 1


def test_cdc_matches_published_vectors():
    """If this fails, strides, logarithm or weights differ from TCVC's code."""
    still = np.full((8, 4, 4, 3), 7, np.uint8)
    assert one("cdc", still) == 0.0
    flicker = np.zeros((8, 4, 4, 3), np.uint8)
    flicker[1::2] = 255
    assert one("cdc", flicker) == pytest.approx(0.231049, abs=1e-6)
    with pytest.raises(ValueError, match="fewer than 5"):
        one("cdc", still[:4])


def test_chroma_cdc_sees_color_flicker_alone(truth):
    """If this fails, moving luma counts as flicker, or flicker of color does not."""
    assert one("cdc_ab", gray_of(truth)) == pytest.approx(0.0, abs=1e-9)
    flicker = truth.copy()
    flicker[1::2] = flicker[1::2, ..., ::-1]
    assert one("cdc_ab", flicker) > 2.0 * one("cdc_ab", truth)


def test_chroma_error_is_a_distance(truth):
    """If this fails, the error of a gray copy is not the truth's mean chroma."""
    assert one("chroma_error", truth, truth) == 0.0
    mean = np.linalg.norm(color.chroma(truth), axis=-1).mean()
    assert one("chroma_error", gray_of(truth), truth) == pytest.approx(mean, abs=0.02)


def test_palette_distance_pairs_colors_one_to_one():
    """If this fails, order or lightness counts, or one color is paired with several."""
    rng = np.random.default_rng(0)
    colors = rng.uniform(0.2, 0.8, (5, 3)).astype(np.float32)
    assert color.palette_distance(colors, colors[::-1]) == pytest.approx(0.0, abs=1e-5)
    grays = np.repeat(np.linspace(0, 1, 5)[:, None], 3, axis=1)
    assert color.palette_distance(grays, grays[:1].repeat(5, axis=0)) < 0.05
    assert color.palette_distance(colors, colors[:1].repeat(5, axis=0)) > 5.0


@pytest.mark.parametrize("name", FREE)
def test_chunks_do_not_matter(name):
    """If this fails, a film's value depends on how many frames fit in memory at once."""
    rng = np.random.default_rng(1)
    pictures = rng.uniform(0, 255, (2, 11, 24, 32, 3))
    # Blurred noise that moves: something that flow can follow.
    still = np.repeat(np.repeat(pictures[:, :1, :6, :8], 4, axis=2), 4, axis=3)
    moving = np.stack([np.roll(still[:, 0], shift, axis=2) for shift in range(11)], axis=1)
    film, truth = (0.9 * moving + 0.1 * pictures).astype(np.uint8)
    whole = one(name, film, truth)
    meter = METRICS[name].meter()
    for start, stop in [(0, 1), (1, 4), (4, 6), (6, 11)]:
        before = (None, None) if not start else (film[start - 1], truth[start - 1])
        parts = [Chunk(f[start:stop], b) for f, b in zip((film, truth), before, strict=True)]
        meter.update(*parts)
    assert meter.compute() == pytest.approx(whole, rel=1e-6)
