"""One training step as a pure function of the state, the same for every task and mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from palette_vc_jax.training.optimizer import update_average

State = dict[str, Any]  # params, average, optimizer, step
Metrics = dict[str, jax.Array]
# (trained params, frozen params, batch, key) -> (loss, metrics)
Loss = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Metrics]]
Step = Callable[[State, Any, Any], tuple[State, Metrics]]


def init_state(params: Any, optimizer: optax.GradientTransformation) -> State:
    """Start from `params`: their average is themselves, the step is 0."""
    return {
        "params": params,
        "average": jax.tree.map(jnp.copy, params),
        "optimizer": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    average_decay: float,
    seed: int,
    accumulate: int = 1,
) -> Step:
    """Make `(state, frozen, batch) -> (state, metrics)`, to be jitted with the state donated.

    Randomness depends on `seed` and the step's number alone, so a resumed run repeats what an
    uninterrupted one would have done.

    Args:
        loss: what is minimized over the state's params.
        optimizer: turns gradients into updates.
        average_decay: of the running average of params.
        seed: of the noise.
        accumulate: parts that the batch is split into, whose gradients are averaged.
    """

    def gradients(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[Any, Metrics]:
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, frozen, batch, key
        )
        return gradient, {"loss": value} | metrics

    def accumulated(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[Any, Metrics]:
        parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
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
            "average": update_average(state["average"], params, state["step"], average_decay),
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
        }
        return new, metrics | {"gradient_norm": optax.global_norm(gradient)}

    return step
