"""Solvers against their written formulas and against an ODE with a known solution."""

import numpy as np
import pytest

from palette_vc_jax.diffusion import solvers
from palette_vc_jax.diffusion.schedule import karras_sigmas

RNG = np.random.default_rng(0)


def gaussian_error(name: str, steps: int, deviation: float = 0.7) -> float:
    """Integrate the ODE of data N(0, deviation^2) from sigma 80 to 0.02; give the relative error.

    There D(x, sigma) = x * s^2 / (s^2 + sigma^2), and x is proportional to sqrt(s^2 + sigma^2).
    """
    sigmas = karras_sigmas(steps + 1, 0.02, 80.0)[:-1].astype(np.float64)
    table = solvers.SOLVERS[name](sigmas)
    x, previous = 1.0, 0.0
    for sigma, row in zip(sigmas, table, strict=False):
        denoised = x * deviation**2 / (deviation**2 + sigma**2)
        x, previous = solvers.step(x, denoised, previous, row), denoised
    exact = np.sqrt((deviation**2 + sigmas[-1] ** 2) / (deviation**2 + sigmas[0] ** 2))
    return abs(x / exact - 1.0)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("dpmpp_2m", 2)])
def test_order_of_convergence(name, order):
    """If this fails, a wrong coefficient lowers the order: the error does not fall by 2^order."""
    errors = [gaussian_error(name, steps) for steps in (40, 80, 160)]
    ratios = np.divide(errors[:-1], errors[1:])
    np.testing.assert_allclose(ratios, 2.0**order, rtol=0.15)


@pytest.mark.parametrize(("steps", "part"), [(10, 0.5), (20, 0.35), (40, 0.2)])
def test_second_order_beats_euler(steps, part):
    """If this fails, the second-order solver is no better than the first-order one."""
    assert gaussian_error("dpmpp_2m", steps) < part * gaussian_error("euler", steps)


def test_euler_is_the_written_formula():
    """If this fails, the rearranged step is not SVD's scheduler's."""
    sigmas = karras_sigmas(7, 0.002, 700.0)
    table = solvers.solver_table("euler", sigmas)
    for i, row in enumerate(table):
        x, denoised = RNG.normal(size=(2, 50)) * 3.0
        expected = x + (x - denoised) / sigmas[i] * (np.float64(sigmas[i + 1]) - sigmas[i])
        np.testing.assert_allclose(
            solvers.step(x, denoised, np.nan_to_num(x), row), expected, rtol=1e-5, atol=1e-5
        )


def test_dpmpp_2m_is_the_written_formula():
    """If this fails, the table is not the paper's step, written with logarithms."""
    sigmas = karras_sigmas(7, 0.002, 700.0).astype(np.float64)
    table = solvers.dpmpp_2m(sigmas)
    t = -np.log(sigmas[:-1])
    for i in range(1, 6):
        x, denoised, previous = RNG.normal(size=(3, 50))
        h, before = t[i + 1] - t[i], t[i] - t[i - 1]
        r = before / h
        mixed = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * previous
        expected = sigmas[i + 1] / sigmas[i] * x - np.expm1(-h) * mixed
        np.testing.assert_allclose(solvers.step(x, denoised, previous, table[i]), expected)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_first_and_last_step(name):
    """If this fails, the first step uses an earlier estimate, or the last does not end at D."""
    sigmas = karras_sigmas(6, 0.002, 700.0)
    table = solvers.solver_table(name, sigmas)
    assert table.dtype == np.float32 and table.shape == (6, 3)
    np.testing.assert_allclose(table[0], solvers.solver_table("euler", sigmas)[0])
    np.testing.assert_array_equal(table[-1], [0.0, 1.0, 0.0])
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)  # constants stay constant


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_single_step(name):
    """If this fails, a film sampled in one step is not the network's estimate."""
    table = solvers.solver_table(name, karras_sigmas(1, 0.002, 700.0))
    np.testing.assert_array_equal(table, [[0.0, 1.0, 0.0]])


def test_unknown_name():
    """If this fails, a misspelled solver ends in a KeyError."""
    with pytest.raises(ValueError, match="euler, dpmpp_2m"):
        solvers.solver_table("heun", karras_sigmas(3, 0.1, 1.0))
