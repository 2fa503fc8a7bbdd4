"""LoRA: kernels stay as they are and get an update of low rank (Hu et al., arXiv 2106.09685).

W' = W + alpha / rank * A B, with A random and B zero, so that training starts from W. In training
the layers add the update to their results (`layers.Linear`). In an exported model it is added to
the kernels: sampling and conversion see plain kernels.
"""

import re

import jax
import jax.numpy as jnp

from palette_vc_jax.models.functional import Params, flatten, nest

NAME = "lora"  # of the pairs, beside the networks' names
# Attention and feed-forward. The image embedding is one token, whose attention weight is 1
# whatever the query and the key: attn2's have no gradient.
KERNELS = re.compile(
    r"unet\..*\.(attn1\.to_[qkv]|attn2\.to_v|attn[12]\.to_out\.0|ff(_in)?\.net\.(0\.proj|2))\.kernel"
)


def kernels(names: list[str]) -> list[str]:
    """Return those of the flat `names` that get an update."""
    return [name for name in names if KERNELS.fullmatch(name)]


def init(params: Params, rank: int, seed: int) -> Params:
    """Make the pairs `a` `[in, rank]` and `b` `[rank, out]` for every kernel that gets an update.

    `a` is normal with variance 1 / in, so that a token of unit scale stays of unit scale.
    """
    flat = flatten(params)
    names = kernels(sorted(flat))
    pairs = {}
    for name, key in zip(names, jax.random.split(jax.random.key(seed), len(names)), strict=True):
        inputs, outputs = flat[name].shape
        stem = name.removesuffix("kernel")
        pairs[f"{stem}a"] = jax.random.normal(key, (inputs, rank)) / jnp.sqrt(inputs)
        pairs[f"{stem}b"] = jnp.zeros((rank, outputs))
    return nest(pairs)


def attach(params: Params, pairs: Params, alpha: float) -> Params:
    """Put `a` and `alpha / rank * b` beside the kernels, where `layers.Linear` looks for them."""
    flat = flatten(params)
    for name, value in flatten(pairs).items():
        stem, side = name.rsplit(".", 1)
        scale = alpha / value.shape[0] if side == "b" else 1.0
        flat[f"{stem}.lora_{side}"] = scale * value
    return nest(flat)


def merge(params: Params, pairs: Params, alpha: float) -> Params:
    """Add `alpha / rank * a @ b` to the kernels; no pairs: nothing is added."""
    flat, update = flatten(params), flatten(pairs)
    for name in kernels(list(flat)):
        stem = name.removesuffix("kernel")
        if f"{stem}a" in update:
            a, b = update[f"{stem}a"], update[f"{stem}b"]
            # In full precision: what is exported is then what was trained.
            product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
            flat[name] = flat[name] + alpha / a.shape[1] * product
    return nest(flat)
