"""Parameters as nested dicts: which of them are narrow, and that the narrow type is computed in."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from palette_vc_jax.models import functional, networks
from palette_vc_jax.models.store import NETWORKS
from tests import tiny

BF16 = jnp.dtype("bfloat16")
PRODUCTS = ("dot_general", "conv_general_dilated")
CALLS = {  # network: function of it and the shapes of its inputs
    "unet": (networks.predict, [(1, 2, 8, 8, 8), (1,), (1, 1, 8), (1, 3), (1, 15), (1,)]),
    "image_encoder": (networks.embed, [(1, 16, 16, 3)]),
    "vae": (networks.decode, [(1, 2, 8, 8, 4)]),
}


def _products(jaxpr: Jaxpr) -> list[set[jnp.dtype] | str]:
    """List the types of every product's operands, or `full` for one that no device rounds."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            full = equation.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2
            found.append("full" if full else {operand.aval.dtype for operand in equation.invars})
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)
        ):
            if isinstance(value, Jaxpr | ClosedJaxpr):
                found += _products(value.jaxpr if isinstance(value, ClosedJaxpr) else value)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_norms_stay_in_full_precision_and_products_do_not(name):
    """If this fails, bfloat16 rounds norms, or a norm's float32 makes a whole network float32."""
    shapes = functional.nest(functional.shapes(NETWORKS[name], getattr(tiny.CONFIG, name)))
    kinds = functional.types(shapes, BF16)
    params = jax.tree.map(lambda x, kind: jax.ShapeDtypeStruct(x.shape, kind), shapes, kinds)
    assert functional.compute_type(params) == BF16
    flat = functional.flatten(kinds)
    norms = {leaf.rpartition(".")[0] for leaf in flat if leaf.endswith(".scale")}
    for leaf, kind in flat.items():
        full = leaf.rpartition(".")[0] in norms or leaf.endswith("mix_factor")
        assert kind == (jnp.float32 if full else BF16), leaf
    call, inputs = CALLS[name]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    with jax.default_matmul_precision("default"):  # parity tests raise it for their process
        traced = jax.make_jaxpr(lambda *given: call(tiny.CONFIG, *given))(params, *arrays)
    products = _products(traced.jaxpr)
    assert products.count({BF16}) + products.count("full") == len(products) > 2
    # The preprocessing's two, of pixels.
    assert products.count("full") == (2 if name == "image_encoder" else 0)
