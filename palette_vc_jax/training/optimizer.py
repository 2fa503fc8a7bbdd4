"""AdamW with warm-up, and the running average of parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def learning_rate(peak: float, warmup_steps: int, steps: int, decay: str) -> optax.Schedule:
    """Give the learning rate by step: linear warm-up, then `constant` or `cosine` down to 0.

    Raises ValueError for another `decay`.
    """
    if decay == "cosine":
        # Counting from 1: a first step at rate 0 would be lost.
        schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, steps + 1)
    elif decay == "constant":
        schedule = optax.linear_schedule(0.0, peak, warmup_steps)
    else:
        raise ValueError(f"optimizer.decay={decay!r}; use 'cosine' or 'constant'.")
    return lambda count: schedule(count + 1)


def adamw(config: Any) -> optax.GradientTransformation:
    """Build the optimizer of `config` (learning_rate, warmup_steps, steps, decay, b2,
    weight_decay, clip_norm).

    Weight decay leaves out everything with fewer than two axes: biases, norms, mix factors.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config.learning_rate, config.warmup_steps, config.steps, config.decay),
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


def update_average(average: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Move the exponential average of parameters; early steps use a faster decay."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)
