"""One training step as a pure function of the state, the same for every task and mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from palette_vc_jax.training.optimizer import update_average

State = dict[str, Any]  # params, average, optimizer, step
Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def init_state(params: Any, optimizer: optax.GradientTransformation) -> State:
    """Start from `params`: their average is themselves, the step is 0."""
    return {
        "params": params,
        "average": jax.tree.map(jnp.copy, params),
        "optimizer": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }


def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, average_decay: float, seed: int
) -> Callable[[State, Any], tuple[State, dict[str, jax.Array]]]:
    """Compile `(state, batch) -> (state, metrics)`; the state given is consumed.

    Randomness depends on `seed` and the step's number alone, so a resumed run repeats what an
    uninterrupted one would have done.
    """

    def step(state: State, batch: Any) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        (value, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(
            state["params"], batch, key
        )
        updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        average = update_average(state["average"], params, state["step"], average_decay)
        norm = optax.global_norm(gradients)
        return {
            "params": params,
            "average": average,
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
        }, {"loss": value, "gradient_norm": norm} | metrics

    return jax.jit(step, donate_argnums=0)
