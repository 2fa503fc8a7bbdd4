"""Layers alone, against values computed in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from palette_vc_jax.models.layers import gelu


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2.0**-8)])
def test_gelu_and_its_slope_are_exact_to_the_rounding_of_their_type(dtype, tolerance):
    """If this fails, feed-forward layers differ from PyTorch's, in sampling or in training."""
    x = jnp.linspace(-6.0, 6.0, 4001).astype(dtype)
    exact = np.asarray(x, np.float64)
    cdf = 0.5 * (1.0 + erf(exact / np.sqrt(2.0)))
    slope = cdf + exact * np.exp(-0.5 * exact**2) / np.sqrt(2.0 * np.pi)
    found, gradient = jax.vmap(jax.value_and_grad(gelu))(x)
    assert found.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float64), exact * cdf, tolerance, 1e-6)
    np.testing.assert_allclose(np.asarray(gradient, np.float64), slope, tolerance, 1e-6)
