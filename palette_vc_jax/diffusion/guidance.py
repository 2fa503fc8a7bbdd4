"""Classifier-free guidance with one constant scale.

output = u + scale * (c - u), where c is the network's output under all conditions and u its output
without some of them (Ho and Salimans, arXiv 2207.12598). SVD increases the scale from the first
frame of a clip to the last; with overlapping windows, that would make colors depend on a frame's
position in its window, so all frames have one scale here. D is affine in the output, so guiding
the output and guiding D are equivalent.

The kind of guidance selects the conditions that the unconditional branch lacks:

    palette  the palette (its mask is 0): pushes the film toward the palette's colors
    svd      the image embedding and the gray latents (zeros), as in SVD's pipeline; the palette
             is kept
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("palette", "svd")

Array = np.ndarray | jax.Array
Evaluate = Callable[[Array, Array, Array], jax.Array]


def unconditional(
    kind: str, gray: Array, context: Array, palette_mask: Array
) -> tuple[Array, Array, Array]:
    """Return (gray, context, palette_mask) of the unconditional branch, in the same shapes.

    Raises:
        ValueError: if `kind` is not in KINDS.
    """
    if kind == "palette":
        return gray, context, _zeros(palette_mask)
    if kind == "svd":
        return _zeros(gray), _zeros(context), palette_mask
    raise ValueError(f"guidance {kind!r} is not known; use one of {', '.join(KINDS)}.")


def _zeros(array: Array) -> Array:
    """Return zeros where `array` is: on several devices, others would be compiled for again."""
    if isinstance(array, np.ndarray):
        return np.zeros_like(array)
    return jnp.zeros_like(array, device=getattr(array, "sharding", None))


@jax.jit
def combine(without: jax.Array, given: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Return u + scale * (c - u) for unconditional u and conditional c."""
    return without + scale * (given - without)


def guided(
    evaluate: Evaluate,
    kind: str | None,
    scale: jax.Array | float,
    gray: Array,
    context: Array,
    palette_mask: Array,
) -> jax.Array:
    """Evaluate the network, with guidance unless `kind` is None.

    The two branches are evaluated one after the other by the same function, so a jitted network is
    compiled once, with guidance and without.

    Args:
        evaluate: function from (gray, context, palette_mask) to the network's output.
        kind: one of KINDS, or None.
        scale: guidance scale; 1 has no effect.
        gray: gray latents.
        context: image embeddings.
        palette_mask: 1 where the palette is used.
    """
    given = (gray, context, palette_mask)
    if kind is None:
        return evaluate(*given)
    without = evaluate(*unconditional(kind, *given))
    return combine(without, evaluate(*given), scale)
