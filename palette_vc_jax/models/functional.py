"""The bridge from NNX modules to plain functions of a nested dict of parameters.

Modules only declare; everything else (`jax.jit`, `jax.grad`, optax, files) sees dicts whose keys
are strings all the way down, list indices included, so that a flat name such as
`down_blocks.0.resnets.1.spatial_res_block.conv1.kernel` reads as in the published checkpoints.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from palette_vc_jax.models.config import NetworkConfig

Params = dict[str, Any]
LOW_RANK = ("lora_a", "lora_b")


def init(module: Callable[..., nnx.Module], config: NetworkConfig, seed: int) -> Params:
    """Make random parameters for `module(config)`."""

    @jax.jit
    def build(key: jax.Array) -> dict[str, jax.Array]:
        return _leaves(nnx.state(module(config, rngs=Keys(key)), nnx.Param))

    return nest(build(jax.random.key(seed)))


def shapes(
    module: Callable[..., nnx.Module], config: NetworkConfig
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the flat names and shapes of the parameters of `module(config)`, computing nothing."""
    _, state = abstract(module, config)
    return {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in _leaves(state).items()
    }


def apply(
    module: Callable[..., nnx.Module],
    config: NetworkConfig,
    params: Params,
    *args: Any,
    method: str = "__call__",
) -> Any:
    """Call `method` of `module(config)` with `params` in place of its parameters.

    Safe under every JAX transformation: nothing is stored in the module.
    """
    return getattr(build(module, config, params), method)(*args)


def build(module: Callable[..., nnx.Module], config: NetworkConfig, params: Params) -> nnx.Module:
    """Make `module(config)` with `params` in place of its parameters.

    Updates of low rank, `lora_a` and `lora_b` beside a kernel, go to their `layers.Linear`.
    """
    graphdef, state = abstract(module, config)
    flat = flatten(params)
    filled = nnx.from_flat_state(
        {
            path: variable.replace(flat[".".join(map(str, path))])
            for path, variable in nnx.to_flat_state(state)
        }
    )
    model = nnx.merge(graphdef, filled)
    for name, value in flat.items():
        *path, leaf = name.split(".")
        if leaf in LOW_RANK:
            setattr(functools.reduce(_child, path, model), leaf, nnx.Param(value))
    return model


def _child(module: nnx.Module, key: str) -> nnx.Module:
    return module[int(key)] if isinstance(module, nnx.List) else getattr(module, key)


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested dict into one of flat names joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> Params:
    """Undo `flatten`."""
    nested: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        level = nested
        for key in parents:
            level = level.setdefault(key, {})
        level[leaf] = value
    return nested


def types(params: Mapping[str, Any], dtype: jnp.dtype) -> Params:
    """Return the type of each parameter of a network that computes in `dtype`.

    Scales and biases of norms and mix factors stay float32: they are few, and norms and sigmoids
    compute in float32 anyway.
    """
    norm = "scale" in params
    return {
        key: types(value, dtype)
        if isinstance(value, Mapping)
        else jnp.dtype(jnp.float32 if norm or key == "mix_factor" else dtype)
        for key, value in params.items()
    }


def compute_type(params: Params) -> jnp.dtype:
    """Return the type that a network with `params` computes in: the narrowest; see `types`."""
    return min((leaf.dtype for leaf in jax.tree.leaves(params)), key=lambda dtype: dtype.itemsize)


def count(params: Params) -> int:
    """Count the numbers in a tree of arrays."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


class Keys:
    """Random keys for NNX modules, in place of `nnx.Rngs`.

    `nnx.Rngs` counts its keys in a traced variable, and each count searches the whole trace: 22 s
    for SVD's UNet, where this takes 2 s. The keys are the same.
    """

    def __init__(self, key: jax.Array) -> None:
        self._key, self._count = key, 0

    def params(self) -> jax.Array:
        """Return the next key for a parameter."""
        self._count += 1
        return jax.random.fold_in(self._key, self._count - 1)


@functools.lru_cache(maxsize=32)
def abstract(
    module: Callable[..., nnx.Module], config: NetworkConfig
) -> tuple[nnx.GraphDef, nnx.State]:
    """Return the structure of `module(config)`, and its parameters as shapes."""
    model = nnx.eval_shape(lambda: module(config, rngs=Keys(jax.random.key(0))))
    return nnx.split(model)


def _leaves(state: nnx.State) -> dict[str, Any]:
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
