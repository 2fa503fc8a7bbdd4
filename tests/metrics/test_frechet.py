"""The Frechet distance against published vectors and scipy's square root of a matrix."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from palette_vc_jax.metrics import frechet


@pytest.fixture
def sets() -> list[np.ndarray]:
    """Make two sets of correlated features, of other means and scales, as networks give them."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((2, 64, 64)) / 8.0
    return [
        (rng.standard_normal((n, 64)) @ m + shift).astype(np.float32)
        for n, m, shift in zip((200, 300), mixing, (0.0, 0.3), strict=True)
    ]


def test_unit_shift_of_unit_normals():
    """If this fails, means are not squared and summed, or covariances do not cancel."""
    zero, one = (frechet.normal(np.full(2048, shift), np.eye(2048)) for shift in (0.0, 1.0))
    assert frechet.distance(zero, one) == pytest.approx(2048.0, abs=1e-6)


def test_equals_the_root_of_a_product(sets):
    """If this fails, the eigenvalue form is not the definition, or the divisor is not n - 1."""
    cov = [np.cov(s.astype(np.float64), rowvar=False) for s in sets]
    shift = np.subtract(*(s.astype(np.float64).mean(axis=0) for s in sets))
    expected = shift @ shift + np.trace(cov[0] + cov[1] - 2.0 * sqrtm(cov[0] @ cov[1]).real)
    found = frechet.frechet(*map(frechet.moments, sets))
    assert found == pytest.approx(expected, rel=1e-6)


def test_fewer_items_than_features(sets):
    """If this fails, a covariance without full rank, as of few clips, breaks the root."""
    few = [s[:10] for s in sets]
    found = frechet.frechet(*map(frechet.moments, few))
    assert np.isfinite(found) and found > 0.0
    assert frechet.frechet(*[frechet.moments(few[0])] * 2) == pytest.approx(0.0, abs=1e-4)


def test_published_features_of_random_videos(shared):
    """If this fails, FVD's published vector, 10.138, does not come from these logits in batches."""
    known = np.load(shared / "weights" / "testvectors" / "i3d_fvd_random_feats.npz")
    sides = {}
    for name in ("a", "b"):
        sides[name] = None
        for batch in np.array_split(known[name], 7):
            sides[name] = frechet.add(sides[name], batch)
    assert frechet.frechet(**sides) == pytest.approx(10.138079, abs=1e-3)


def test_streamed_moments_do_not_cancel(sets):
    """If this fails, batches give other moments than the whole, above all far from zero."""
    far = sets[0].astype(np.float64) + 1e6
    found = frechet.merge(None, frechet.moments(far[:1]))
    for batch in np.array_split(far[1:120], 5):
        found = frechet.add(found, batch)
    found = frechet.merge(found, frechet.moments(far[120:]))
    assert found.count == len(far)
    np.testing.assert_allclose(found.mean, far.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(far, rowvar=False), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_items_are_refused(sets, count):
    """If this fails, a set without a covariance gets a number."""
    with pytest.raises(ValueError, match=f"{count} and 300 items.*at least 2"):
        frechet.frechet(frechet.moments(sets[0][:count]), frechet.moments(sets[1]))


def test_features_that_are_not_finite_are_refused(sets):
    """If this fails, a NaN becomes a distance."""
    sets[0][3, 5] = np.nan
    with pytest.raises(ValueError, match="not all finite"):
        frechet.moments(sets[0])


def test_features_of_two_networks_are_refused(sets):
    """If this fails, features of different length are compared."""
    with pytest.raises(ValueError, match="64 and 32"):
        frechet.frechet(frechet.moments(sets[0]), frechet.moments(sets[1][:, :32]))
