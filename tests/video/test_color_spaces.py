"""Color spaces, ranges and the gamut's limit."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, Frame

FILM = Film(Path("a"), "video", 4, 2, 1, Fraction(24), Fraction(1, 24), 8, False, False, "bt601")
MATRICES = sorted(color.WEIGHTS)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("matrix", MATRICES)
def test_rgb_comes_back(matrix):
    """If this fails, the two directions use different matrices and every color is off."""
    rgb = RNG.random((5, 7, 3), np.float32)
    gray, chroma = color.rgb_to_luma(rgb, matrix), color.rgb_to_chroma(rgb, matrix)
    assert np.abs(chroma).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(color.ycc_to_rgb(gray, chroma, matrix), rgb, atol=2e-6)


def test_known_colors():
    """If this fails, Cb and Cr are swapped or wrongly scaled; pure red has Cr 0.5."""
    primaries = np.eye(3, dtype=np.float32)
    chroma = color.rgb_to_chroma(primaries, "bt601")
    np.testing.assert_allclose(chroma[0], [-0.168736, 0.5], atol=1e-6)
    np.testing.assert_allclose(chroma[2], [0.5, -0.081312], atol=1e-6)
    np.testing.assert_allclose(
        color.rgb_to_luma(primaries, "bt709"), [0.2126, 0.7152, 0.0722], atol=1e-6
    )


def test_unknown_matrix_is_refused():
    """If this fails, a misspelled name selects some matrix without an error."""
    with pytest.raises(ValueError, match="bt2001"):
        color.rgb_to_luma(np.zeros(3), "bt2001")


@pytest.mark.parametrize("matrix", MATRICES)
def test_limited_chroma_lies_in_the_gamut(matrix):
    """If this fails, RGB is clipped on screen, which changes the luma that was to be kept."""
    gray = RNG.uniform(0, 1, (40, 50)).astype(np.float32)
    gray[0], gray[1] = 0.0, 1.0
    chroma = RNG.uniform(-0.5, 0.5, (40, 50, 2)).astype(np.float32)
    limited = color.limit_gamut(gray, chroma, matrix)
    rgb = color.ycc_to_rgb(gray, limited, matrix)
    assert rgb.min() >= -1e-5 and rgb.max() <= 1 + 1e-5
    np.testing.assert_allclose(color.rgb_to_luma(rgb, matrix), gray, atol=1e-5)
    # The hue stays: both differences shrink by one factor, not above 1.
    factor = limited / chroma
    np.testing.assert_allclose(factor[..., 0], factor[..., 1], atol=1e-4)
    assert factor.min() >= 0 and factor.max() <= 1 + 1e-6
    assert not limited[:2].any()


def test_colors_inside_the_gamut_are_kept():
    """If this fails, all colors are made paler than the model meant them."""
    rgb = RNG.random((20, 20, 3), np.float32)
    chroma = color.rgb_to_chroma(rgb, "bt709")
    gray = color.rgb_to_luma(rgb, "bt709")
    np.testing.assert_allclose(color.limit_gamut(gray, chroma, "bt709"), chroma, atol=2e-6)


@pytest.mark.parametrize(
    ("depth", "full", "black", "white"),
    [(8, False, 16, 235), (8, True, 0, 255), (10, False, 64, 940), (16, True, 0, 65535)],
)
def test_gray_expands_the_range(depth, full, black, white):
    """If this fails, TV-range and full-range copies of one film get different colors."""
    film = replace(FILM, depth=depth, full_range=full)
    kind = np.uint8 if depth == 8 else np.uint16
    gray = color.gray(np.array([[black, white]], kind), film)
    np.testing.assert_allclose(gray, [[0.0, 1.0]], atol=1e-6)
    assert gray.dtype == np.float32


def test_codes_beyond_tv_range_are_clipped():
    """If this fails, super-white of a capture leaves the range that the model was trained on."""
    assert color.gray(np.array([[0, 255]], np.uint8), FILM).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("depth", [8, 10, 16])
def test_neutral_chroma_is_the_middle_code(depth):
    """If this fails, gray is tinted by half a code or more."""
    for full in (False, True):
        codes = color.chroma_codes(np.zeros((1, 1, 2), np.float32), depth, full)
        assert codes.tolist() == [[[2 ** (depth - 1)] * 2]]


def test_replaced_luma_reads_back():
    """If this fails, `--luma model` shifts the brightness of the film."""
    gray = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
    for depth, full in ((8, False), (10, True), (16, False)):
        film = replace(FILM, depth=depth, full_range=full)
        frame = color.with_luma(Frame(3, 7, np.zeros((2, 4), np.uint8)), gray, film)
        assert (frame.index, frame.pts) == (3, 7)
        np.testing.assert_allclose(color.gray(frame.luma, film), gray, atol=0.5 / 219)
