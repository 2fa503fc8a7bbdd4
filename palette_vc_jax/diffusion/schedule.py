"""Noise schedules: which sigmas a sampler visits."""

import math

import numpy as np


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    """Give the falling sigmas of a sampler, the last of them 0.

    Karras et al., arXiv 2206.00364, equation 5:
    sigma_i = (max^(1/rho) + i / (steps - 1) * (min^(1/rho) - max^(1/rho)))^rho.
    The ramp is made in float64 and rounded once, as SVD's scheduler does it. One step alone
    starts at `sigma_max`.

    Returns float32 [steps + 1]. Raises ValueError for fewer than 1 step, and unless
    0 < sigma_min < sigma_max and rho > 0, all of them finite.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is needed: give a larger number.")
    if not 0.0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"sigma_min {sigma_min} and sigma_max {sigma_max} given; 0 < sigma_min < sigma_max "
            "is needed: give a falling range."
        )
    if not 0.0 < rho < math.inf:
        raise ValueError(f"rho is {rho}; a number above 0 is needed: SVD uses 7.")
    ramp = np.linspace(0.0, 1.0, steps, dtype=np.float64)
    high, low = sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return np.append(sigmas, 0.0).astype(np.float32)


def initial_scale(sigma_max: float) -> float:
    """Give what unit noise is multiplied by to start from: sqrt(sigma_max^2 + 1).

    It is the deviation of noisy latents whose clean part has unit variance; SVD's scheduler
    calls it `init_noise_sigma`.
    """
    return math.sqrt(sigma_max**2 + 1.0)
