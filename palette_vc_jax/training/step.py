"""One training step as a pure function of the state, the same for every task and mesh."""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, SingleDeviceSharding

from palette_vc_jax.parallel.rules import state_shardings
from palette_vc_jax.training.config import RunConfig
from palette_vc_jax.training.optimizer import make_optimizer, update_ema

State = dict[str, Any]  # params, ema, optimizer, step
Metrics = dict[str, jax.Array]
# (trained params, frozen params, batch, key) -> (loss, metrics)
Loss = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Metrics]]
Step = Callable[[State, Any, Any], tuple[State, Metrics]]


def init_state(params: Any, optimizer: optax.GradientTransformation) -> State:
    """Start from `params`: their average is themselves, the step is 0."""
    return {
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "optimizer": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    seed: int,
    accumulate: int = 1,
    place: Callable[[Any], Any] = lambda gradient: gradient,
) -> Step:
    """Make `(state, frozen, batch) -> (state, metrics)`, to be jitted with the state donated.

    Randomness depends on `seed` and the step's number alone, so a resumed run repeats what an
    uninterrupted one would have done.

    Args:
        loss: what is minimized over the state's params.
        optimizer: turns gradients into updates.
        ema_decay: of the moving average of params.
        seed: of the noise.
        accumulate: parts that the batch is split into, whose gradients are averaged.
        place: puts gradients where the parameters are, on a mesh.
    """

    def gradients(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[Any, Metrics]:
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, frozen, batch, key
        )
        return place(gradient), {"loss": value} | metrics

    def accumulated(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[Any, Metrics]:
        # Every so many rows, not one run of them: each part then has rows on every device.
        parts = jax.tree.map(
            lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
        )
        keys = jax.random.split(key, accumulate)
        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(gradients, params, frozen, first, keys[0])
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def add(total: Any, part: Any) -> tuple[Any, None]:
            one = gradients(params, frozen, *part)
            return jax.tree.map(jnp.add, total, one), None

        total, _ = jax.lax.scan(add, zeros, (parts, keys))
        return jax.tree.map(lambda x: x / accumulate, total)

    def step(state: State, frozen: Any, batch: Any) -> tuple[State, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        compute = gradients if accumulate == 1 else accumulated
        gradient, metrics = compute(state["params"], frozen, batch, key)
        updates, optimizer_state = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new = {
            "params": params,
            "ema": update_ema(state["ema"], params, state["step"], ema_decay),
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
        }
        return new, metrics | {"gradient_norm": optax.global_norm(gradient)}

    return step


# The TPU compiler would spread a kernel's gradient over the rest of the backward pass, as a ring of
# small products between sends; what it is computed from, the values within every layer, would be
# held until then: 4 GiB of a chip at full size (docs/benchmarks.md).
COMPILER_OPTIONS = {
    "tpu": {
        "xla_tpu_enable_windowed_einsum_for_reduce_scatter": False,
        "xla_tpu_enable_windowed_einsum_for_all_gather": False,
    }
}


def compiler_options(mesh: Mesh) -> dict[str, Any]:
    """Return those of `COMPILER_OPTIONS` that the compiler of the mesh's devices knows.

    Each is tried on a trivial program; another version of the compiler may have dropped it.
    """
    own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    device = (own or list(mesh.devices.flat))[0]
    one = jax.ShapeDtypeStruct((), jnp.float32, sharding=SingleDeviceSharding(device))
    trivial = jax.jit(jnp.negative)
    known = {}
    for name, value in COMPILER_OPTIONS.get(device.platform, {}).items():
        try:
            trivial.lower(one).compile(compiler_options={name: value})
            known[name] = value
        except jax.errors.JaxRuntimeError:
            print(
                f"warning: this compiler has no option {name}; a step may need more memory "
                "(docs/benchmarks.md).",
                file=sys.stderr,
            )
    return known


class PlacedStep(NamedTuple):
    """A step on a mesh, and the shapes, with their shardings, of what it takes beside batches."""

    step: Step  # jitted, to be called under `jax.set_mesh`; donates the state
    begin: Callable[[Any], State]  # params -> state; donates them
    state: Any
    frozen: Any


def place_step(loss: Loss, params: Any, frozen: Any, config: RunConfig, mesh: Mesh) -> PlacedStep:
    """Put the step of a run's `config` on `mesh`; `params` and `frozen` may be shapes.

    Frozen weights are held in the type that the step computes in.
    """
    optimizer = make_optimizer(config.optimizer)
    begin = functools.partial(init_state, optimizer=optimizer)
    shardings = functools.partial(state_shardings, mesh=mesh, split_from=config.mesh.split_from)
    state = jax.eval_shape(begin, params)
    places = shardings(state)
    step = make_step(
        loss,
        optimizer,
        config.ema_decay,
        config.seed,
        config.accumulate,
        lambda gradient: jax.lax.with_sharding_constraint(gradient, places["params"]),
    )
    return PlacedStep(
        jax.jit(
            step,
            donate_argnums=0,
            out_shardings=(places, None),
            compiler_options=compiler_options(mesh),
        ),
        jax.jit(begin, donate_argnums=0, out_shardings=places),
        jax.tree.map(_placed, state, places),
        jax.tree.map(
            lambda leaf, place: _placed(leaf, place, config.compute_dtype),
            frozen,
            shardings(frozen),
        ),
    )


def _placed(leaf: Any, sharding: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype or leaf.dtype), sharding=sharding)
