"""EDM preconditioning as SVD uses it: v-prediction with sigma_data 1.

Noisy latents are x = x0 + sigma * eps. The network sees c_in * x and c_noise, and its output F
gives the denoised estimate D = c_skip * x + c_out * F (SVD, arXiv 2311.15127, appendix D;
generative-models, `denoiser_scaling.py`, VScalingWithEDMcNoise).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Coefficients(NamedTuple):
    """EDM's four functions of sigma, each with sigma's shape."""

    c_skip: jax.Array
    c_out: jax.Array
    c_in: jax.Array
    c_noise: jax.Array


def coefficients(sigma: jax.Array) -> Coefficients:
    """Return c_skip, c_out, c_in and c_noise at noise levels `sigma` (> 0, any shape)."""
    total = 1.0 + jnp.square(sigma)
    root = jnp.sqrt(total)
    return Coefficients(1.0 / total, -sigma / root, 1.0 / root, 0.25 * jnp.log(sigma))


def denoised(output: jax.Array, noisy: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return the estimate D = c_skip * x + c_out * F of the clean latents.

    Args:
        output: the network's output F.
        noisy: the unscaled noisy latents x.
        sigma: noise levels, broadcast against `noisy`.
    """
    c = coefficients(sigma)
    return c.c_skip * noisy + c.c_out * output


def velocity_target(clean: jax.Array, noise: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return the training target of F: v = (eps - sigma * x0) / sqrt(1 + sigma^2)."""
    return (noise - sigma * clean) / jnp.sqrt(1.0 + jnp.square(sigma))
