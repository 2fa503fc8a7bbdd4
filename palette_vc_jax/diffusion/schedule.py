"""Noise schedules: the sigmas of a sampler's steps."""

import math

import numpy as np


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    """Return the decreasing sigmas of a sampler, float32 `[steps + 1]`, the last of them 0.

    Karras et al., arXiv 2206.00364, equation 5:
    sigma_i = (max^(1/rho) + i / (steps - 1) * (min^(1/rho) - max^(1/rho)))^rho.
    The ramp is computed in float64 and rounded once, as in SVD's scheduler. A single step starts
    at `sigma_max`.

    Raises:
        ValueError: unless steps >= 1, 0 < sigma_min < sigma_max and rho > 0, all finite.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1.")
    if not 0.0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"sigma_min {sigma_min} and sigma_max {sigma_max} given; 0 < sigma_min < sigma_max "
            "is needed."
        )
    if not 0.0 < rho < math.inf:
        raise ValueError(f"rho is {rho}; give a number above 0 (SVD uses 7).")
    ramp = np.linspace(0.0, 1.0, steps, dtype=np.float64)
    high, low = sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return np.append(sigmas, 0.0).astype(np.float32)


def initial_scale(sigma_max: float) -> float:
    """Return the scale of the initial noise, sqrt(sigma_max^2 + 1).

    This is the standard deviation of noisy latents whose clean part has unit variance; SVD's
    scheduler calls it `init_noise_sigma`.
    """
    return math.sqrt(sigma_max**2 + 1.0)
