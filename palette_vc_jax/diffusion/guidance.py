"""Classifier-free guidance with one constant scale.

output = u + scale * (c - u), where c is the network's output under the conditions and u without
some of them (Ho and Salimans, arXiv 2207.12598). SVD lets the scale grow from the first frame to
the last of a clip; in a long film of overlapping windows that would tint frames by their place, so
there is one scale for all frames here. Since D is affine in the output, guiding the output and
guiding D are the same.

What the unconditional branch is without is the kind of guidance:

    palette  the palette alone (its mask is 0): pushes the film toward the colors asked for
    svd      the image embedding and the gray latents (zeros), as SVD's own pipeline; the palette
             stays as it is
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

KINDS = ("palette", "svd")

Evaluate = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def unconditional(
    kind: str, gray: jax.Array, context: jax.Array, palette_mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Take away the conditions that guidance of `kind` pushes away from.

    Returns (gray, context, palette_mask), of the shapes given. Raises ValueError for a kind that
    is not in KINDS.
    """
    if kind == "palette":
        return gray, context, jnp.zeros_like(palette_mask)
    if kind == "svd":
        return jnp.zeros_like(gray), jnp.zeros_like(context), palette_mask
    raise ValueError(f"guidance {kind!r} is not known; use one of {', '.join(KINDS)}.")


def combine(without: jax.Array, given: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Extrapolate from the unconditional to the conditional output: u + scale * (c - u)."""
    return without + scale * (given - without)


def guided(
    evaluate: Evaluate,
    kind: str | None,
    scale: jax.Array | float,
    gray: jax.Array,
    context: jax.Array,
    palette_mask: jax.Array,
) -> jax.Array:
    """Evaluate the network, under guidance unless `kind` is None.

    `evaluate(gray, context, palette_mask)` gives the output. The two branches run one after the
    other through one compiled body (`lax.map`): the program holds the network once, peak memory is
    that of sampling without guidance, and the batch stays the one knob for how full a device is.
    """
    given = (gray, context, palette_mask)
    if kind is None:
        return evaluate(*given)
    branches = jax.tree.map(lambda *pair: jnp.stack(pair), unconditional(kind, *given), given)
    without, with_conditions = lax.map(lambda branch: evaluate(*branch), branches)
    return combine(without, with_conditions, scale)
