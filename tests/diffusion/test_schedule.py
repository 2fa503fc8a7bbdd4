"""Sigmas against the values that SVD's own scheduler prints."""

import numpy as np
import pytest

from palette_vc_jax.diffusion.schedule import initial_scale, karras_sigmas

# EulerDiscreteScheduler of diffusers 0.42.1 with SVD's scheduler_config.json.
GOLDEN = {
    5: [700, 134.854446, 15.589968, 0.678146, 0.002, 0],
    10: [
        *(700, 352.992218, 165.259888, 70.540840, 26.757198, 8.682029, 2.269116),
        *(0.430760, 0.0485494, 0.002, 0),
    ],
    25: [
        *(700, 545.729248, 421.569122, 322.453674, 244.023071, 182.547134, 134.854446, 98.267136),
        *(70.540840, 49.809792, 34.536739, 23.467512, 15.589968, 10.097130, 6.354266, 3.869697),
        *(2.269116, 1.273177, 0.678146, 0.339378, 0.157405, 0.0663991, 0.0248026, 0.00788250),
        *(0.002, 0),
    ],
}


@pytest.mark.parametrize("steps", GOLDEN)
def test_svd_sigmas(steps):
    """If this fails, the network gets noise levels that are not those of SVD's schedule."""
    sigmas = karras_sigmas(steps, 0.002, 700.0)
    assert sigmas.dtype == np.float32
    np.testing.assert_allclose(sigmas, GOLDEN[steps], rtol=4e-6)  # 6 digits are given


def test_timesteps():
    """If this fails, the network's time input differs from SVD's."""
    times = 0.25 * np.log(karras_sigmas(25, 0.002, 700.0)[:-1])
    expected = [1.637770, 1.575531, 1.510996, -1.210778, -1.553652]
    np.testing.assert_allclose(times[[0, 1, 2, -2, -1]], expected, atol=2e-6)


def test_rho_and_single_step():
    """If this fails, rho does not reach the formula, or one step starts at sigma_min."""
    np.testing.assert_allclose(karras_sigmas(3, 1.0, 9.0, rho=1.0), [9, 5, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(karras_sigmas(3, 1.0, 9.0, rho=2.0), [9, 4, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(karras_sigmas(1, 0.002, 700.0), [700, 0])


def test_initial_scale():
    """If this fails, the first noisy latents have the deviation of the noise alone."""
    assert initial_scale(700.0) == pytest.approx(700.000714, abs=1e-6)
    assert initial_scale(1.0) == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    "arguments",
    [(0, 0.002, 700.0), (5, 0.0, 1.0), (5, 2.0, 1.0), (5, 0.1, np.inf), (5, 0.1, 1.0, 0.0)],
)
def test_errors(arguments):
    """If this fails, an impossible schedule reaches the sampler as NaN."""
    with pytest.raises(ValueError, match="give|needed"):
        karras_sigmas(*arguments)
