"""Sizes and the upsampling of chroma."""

import numpy as np
import pytest

from palette_vc_jax.video.resize import model_size, resize, subsample_chroma, upsample_chroma

RNG = np.random.default_rng(0)


def test_frames_of_a_damaged_header_are_refused():
    """If this fails, a damaged film of 64x49712 pixels is colored for hours."""
    assert model_size(100, 10_000, 16, 8) == (16, 1600)
    with pytest.raises(ValueError, match="64x49712 pixels"):
        model_size(49712, 64, 112, 16)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((272, 640), (96, 224)),
        ((1080, 1920), (96, 168)),
        ((48, 64), (96, 128)),
        ((1, 1), (96, 96)),
        ((640, 272), (224, 96)),
    ],
)
def test_model_size(size, expected):
    """If this fails, the model gets films of a size that it was not trained on or cannot divide."""
    assert model_size(*size, short_side=96, multiple=8) == expected


def test_shrinking_takes_means():
    """If this fails, fine texture aliases into stripes that the model would color."""
    checks = np.indices((64, 64)).sum(0) % 2
    np.testing.assert_allclose(resize(checks, 16, 16), 0.5, atol=1e-6)
    # One side shrinks while the other grows: still no alias.
    np.testing.assert_allclose(resize(checks, 16, 96), 0.5, atol=1e-6)


def test_resize_keeps_shape_and_bounds():
    """If this fails, single-channel pictures lose an axis, or edges overshoot."""
    image = RNG.random((9, 14, 1), np.float32)
    large = resize(image, 33, 40)
    assert large.shape == (33, 40, 1) and large.dtype == np.float32
    assert image.min() <= large.min() and large.max() <= image.max()
    assert resize(image[..., 0], 5, 20).shape == (5, 20)


def scene(height=120, width=160, factor=5):
    """Make a large picture whose two halves differ in luma and chroma along a slanted edge."""
    rows, columns = np.mgrid[:height, :width]
    right = columns > 60 + 0.37 * rows
    gray = np.where(right, 0.75, 0.3) + 0.02 * np.sin(rows / 5)
    chroma = np.where(right[..., None], [0.2, -0.1], [-0.15, 0.12]).astype(np.float32)
    size = (height // factor, width // factor)
    return gray.astype(np.float32), chroma, resize(gray, *size), resize(chroma, *size)


def test_chroma_follows_luma_edges():
    """If this fails, colors bleed over edges by as much as a pixel of the model is wide."""
    gray, chroma, gray_small, small = scene()
    ours = np.abs(upsample_chroma(small, gray_small, gray) - chroma).mean()
    linear = np.abs(resize(small, *gray.shape) - chroma).mean()
    assert ours < 0.4 * linear


def test_constant_chroma_stays():
    """If this fails, a uniform color picks up the film's texture."""
    gray = RNG.random((60, 80), np.float32)
    small = np.full((12, 16, 2), (0.1, -0.2), np.float32)
    large = upsample_chroma(small, resize(gray, 12, 16), gray)
    np.testing.assert_allclose(large, np.broadcast_to([0.1, -0.2], large.shape), atol=1e-6)


def test_no_halos_and_no_ringing():
    """If this fails, a bright scratch gets a color that is nowhere near it."""
    gray, _, gray_small, small = scene()
    gray = gray.copy()
    gray[:, 30], gray[50] = 1.0, 0.0
    large = upsample_chroma(small, gray_small, gray)
    low, high = small.min((0, 1)) - 1e-6, small.max((0, 1)) + 1e-6
    assert (large >= low).all() and (large <= high).all()
    far = np.s_[:40, :20]  # one side only: its chroma is uniform, whatever the luma does
    np.testing.assert_allclose(
        large[far], np.broadcast_to([-0.15, 0.12], large[far].shape), atol=1e-5
    )


def test_chroma_edges_without_luma_edges_survive():
    """If this fails, the filter's windows smear two colors of equal luma into each other."""
    gray = np.full((60, 80), 0.5, np.float32)
    small = np.zeros((12, 16, 2), np.float32)
    small[:, 8:] = 0.2
    large = upsample_chroma(small, resize(gray, 12, 16), gray)
    np.testing.assert_allclose(large, resize(small, 60, 80), atol=1e-5)


def test_film_smaller_than_the_models_pictures():
    """If this fails, small films, which the model sees enlarged, fail at the end."""
    gray_small, small = RNG.random((48, 64), np.float32), RNG.random((48, 64, 2), np.float32)
    assert upsample_chroma(small, gray_small, np.zeros((24, 32), np.float32)).shape == (24, 32, 2)


def test_subsampling_keeps_fields_apart():
    """If this fails, interlaced film gets the colors of one field in the other."""
    chroma = np.zeros((8, 4, 2), np.float32)
    chroma[1::2] = 1.0
    apart = subsample_chroma(chroma, 2, 2, interlaced=True)
    assert apart[:, 0, 0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert subsample_chroma(chroma, 2, 2)[:, 0, 0].tolist() == [0.5] * 4


def test_subsampled_columns_lie_on_luma_columns():
    """If this fails, chroma of 4:2:0 output is shifted by half a pixel to the side."""
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32)[None, :, None], (4, 12, 2))
    small = subsample_chroma(ramp, 2, 2)
    assert small.shape == (2, 6, 2)
    np.testing.assert_allclose(small[0, 1:, 0], [2, 4, 6, 8, 10], atol=1e-6)
