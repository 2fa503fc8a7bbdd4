"""Guidance: what the branches see, and how they are combined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palette_vc_jax.diffusion import guidance

GRAY = jnp.arange(1.0, 25.0).reshape(2, 3, 2, 2, 1)
CONTEXT = jnp.ones((2, 1, 4))
MASK = jnp.array([1.0, 1.0])


def evaluate(gray, context, mask):
    """Return an output in which each condition can be read off."""
    per_window = 100.0 * context.mean((1, 2)) + 1000.0 * mask
    return gray + per_window[:, None, None, None, None]


@pytest.mark.parametrize(
    ("kind", "without"), [("palette", GRAY + 100.0), ("svd", jnp.zeros_like(GRAY) + 1000.0)]
)
def test_branches(kind, without):
    """If this fails, the film is pushed away from the wrong condition."""
    result = guidance.guided(evaluate, kind, 3.0, GRAY, CONTEXT, MASK)
    given = evaluate(GRAY, CONTEXT, MASK)
    np.testing.assert_allclose(result, without + 3.0 * (given - without))


@pytest.mark.parametrize("kind", guidance.KINDS)
def test_scale_one_and_zero(kind):
    """If this fails, scale 1 is not the conditional output, or 0 not the unconditional one."""
    given = evaluate(GRAY, CONTEXT, MASK)
    without = evaluate(*guidance.unconditional(kind, GRAY, CONTEXT, MASK))
    one = guidance.guided(evaluate, kind, 1.0, GRAY, CONTEXT, MASK)
    zero = guidance.guided(evaluate, kind, 0.0, GRAY, CONTEXT, MASK)
    np.testing.assert_allclose(one, given)
    np.testing.assert_allclose(zero, without)


def test_off_evaluates_once():
    """If this fails, sampling without guidance costs a second evaluation."""
    calls = []

    def counting(*given):
        calls.append(1)
        return evaluate(*given)

    result = guidance.guided(counting, None, 7.0, GRAY, CONTEXT, MASK)
    assert len(calls) == 1
    np.testing.assert_array_equal(result, evaluate(GRAY, CONTEXT, MASK))


def test_both_branches_are_one_program():
    """If this fails, compile time doubles under guidance."""
    calls = []

    @jax.jit
    def counting(*given):
        calls.append(1)
        return evaluate(*given)

    guidance.guided(counting, "palette", 2.0, GRAY, CONTEXT, MASK)
    guidance.guided(counting, None, 2.0, GRAY, CONTEXT, MASK)
    assert len(calls) == 1  # traced once


def test_unknown_kind():
    """If this fails, a misspelled kind is taken for one of the others."""
    with pytest.raises(ValueError, match="palette, svd"):
        guidance.unconditional("clip", GRAY, CONTEXT, MASK)
