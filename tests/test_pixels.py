"""Luma and scales of pixels, for numpy and JAX arrays."""

import jax
import numpy as np
import pytest

from palette_vc_jax import pixels
from palette_vc_jax.video.color import rgb_to_luma

CODES = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)


def test_luma_is_that_of_films():
    """If this fails, training and palettes see another luma than films have."""
    np.testing.assert_allclose(pixels.luma(CODES), rgb_to_luma(CODES, "bt601"), rtol=1e-6)
    primaries = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(pixels.luma(primaries, np.float64), pixels.BT601)


def test_gray_has_three_equal_channels():
    """If this fails, a gray image has color, another type, or memory that cannot be written to."""
    gray = pixels.to_gray3(CODES)
    assert gray.dtype == np.float32 and gray.flags.writeable
    np.testing.assert_array_equal(gray, np.repeat(pixels.luma(CODES)[..., None], 3, axis=-1))


def test_signed_codes_span_minus_one_to_one():
    """If this fails, black, white or mid-gray are off the range that the networks read."""
    assert pixels.to_signed(np.array([0, 255], np.uint8)).tolist() == [-1.0, 1.0]
    assert abs(float(pixels.to_signed(np.array(127.5)))) == 0.0


@pytest.mark.parametrize("function", [pixels.luma, pixels.to_gray3, pixels.to_signed])
def test_numpy_and_jax_agree(function):
    """If this fails, images prepared on the host differ from those prepared on devices."""
    on_device = jax.jit(function)(CODES)
    assert on_device.dtype == np.float32
    np.testing.assert_allclose(on_device, function(CODES), rtol=1e-6, atol=1e-6)
