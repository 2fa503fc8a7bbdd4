"""Solvers of the probability flow ODE dx/dsigma = (x - D(x, sigma)) / sigma.

Both solvers evaluate the network once per step and are linear in their inputs:

    x_next = a * x + b * D + c * D_previous

where D is the denoised estimate at this step and D_previous that of the step before. A solver is
therefore a table of (a, b, c), one row per step, computed once in float64. The table covers the
first step, the last step to sigma 0 and the logarithms, and the same `step` works on device and
host arrays. The state of a sampler is (x, D_previous).
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)


def euler(sigmas: np.ndarray) -> np.ndarray:
    """Return the table of Euler's method, x + (x - D) / sigma * (sigma_next - sigma).

    With the ratio r = sigma_next / sigma, the step is r * x + (1 - r) * D, which has no
    cancellation at large sigma. It is first order, and equals DDIM in these variables.

    Args:
        sigmas: `[steps + 1]`, decreasing; the last value may be 0.

    Returns:
        Coefficients a, b and c, float64 `[steps, 3]`.
    """
    ratio = _ratios(sigmas)
    return np.stack([ratio, 1.0 - ratio, np.zeros_like(ratio)], axis=1)


def dpmpp_2m(sigmas: np.ndarray) -> np.ndarray:
    """Return the table of DPM-Solver++(2M), which is second order.

    Lu et al., arXiv 2211.01095, algorithm 2, with alpha = 1, so that lambda = -ln sigma and
    h_i = lambda_(i+1) - lambda_i: x_next = r * x + (1 - r) * ((1 + k) * D - k * D_previous),
    k = h_i / (2 * h_(i-1)). The first step has no previous estimate, and the last has infinite h
    if sigma_next is 0: both have k = 0, which is Euler's step.

    Args:
        sigmas: `[steps + 1]`, decreasing; the last value may be 0.

    Returns:
        Coefficients a, b and c, float64 `[steps, 3]`.
    """
    ratio = _ratios(sigmas)
    lambdas = -np.log(np.asarray(sigmas[:-1], np.float64))
    widths = np.diff(lambdas)  # [steps - 1], h without the step to the last sigma
    if sigmas[-1] > 0.0:
        widths = np.append(widths, -np.log(np.float64(sigmas[-1])) - lambdas[-1])
    k = np.zeros_like(ratio)
    k[1 : len(widths)] = widths[1:] / (2.0 * widths[:-1])
    return np.stack([ratio, (1.0 - ratio) * (1.0 + k), -(1.0 - ratio) * k], axis=1)


def step(latents: Array, denoised: Array, previous: Array, row: Array) -> Array:
    """Take one step: `row` `[3]` of a solver's table times latents, D and the previous D.

    `previous` must be finite even if its coefficient is 0, so start it as zeros.
    """
    return row[0] * latents + row[1] * denoised + row[2] * previous


SOLVERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"euler": euler, "dpmpp_2m": dpmpp_2m}


def solver_table(name: str, sigmas: np.ndarray) -> np.ndarray:
    """Return the table of the solver called `name`, float32 `[steps, 3]`.

    Raises:
        ValueError: if `name` is not in SOLVERS.
    """
    if name not in SOLVERS:
        raise ValueError(f"solver {name!r} is not known; use one of {', '.join(SOLVERS)}.")
    return SOLVERS[name](sigmas).astype(np.float32)


def _ratios(sigmas: np.ndarray) -> np.ndarray:
    """Return each sigma divided by the one before it."""
    sigmas = np.asarray(sigmas, np.float64)
    return sigmas[1:] / sigmas[:-1]
