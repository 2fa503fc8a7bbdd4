"""AdamW or Muon with warm-up, and the moving average of parameters."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from palette_vc_jax.training.config import OptimizerConfig

# Attention to one token, the image embedding, reads no query and no key: with no gradient, decay
# alone would move these kernels. The norms before them have one axis and do not decay anyway.
UNREAD = re.compile(r"attn2\.to_[qk]\.")


def learning_rate(peak: float, warmup_steps: int, steps: int, decay: str) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up, then `constant` or `cosine` down to 0."""
    if decay == "cosine":
        # Counting from 1: a first step at rate 0 would be lost.
        schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, steps + 1)
    else:
        # Over 0 steps optax would stay at 0; step 1 is at the peak then.
        schedule = optax.linear_schedule(0.0, peak, max(warmup_steps, 1))
    return lambda count: schedule(count + 1)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Build the optimizer.

    `adamw` is for fine-tuning. `muon` is for small models from random weights: it moves every
    direction of a kernel at one rate, where Adam learns the strong ones first (brightness) and
    the weak ones late (color); vectors still take AdamW. Weight decay leaves out everything with
    fewer than two axes (biases, norms, mix factors) and what no gradient reaches, see `UNREAD`.
    """
    rate = learning_rate(config.learning_rate, config.warmup_steps, config.steps, config.decay)
    if config.kind == "adamw":
        update = optax.adamw(rate, b2=config.b2, weight_decay=config.weight_decay, mask=decays)
    else:
        scale = config.muon_learning_rate / config.learning_rate
        update = optax.contrib.muon(
            lambda count: scale * rate(count),
            weight_decay=config.weight_decay,
            weight_decay_mask=decays,
            adam_b2=config.b2,
            adam_learning_rate=rate,
            muon_weight_dimension_numbers=_kernel_axes,
        )
    update = _scale_palette(update, config)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _scale_palette(
    inner: optax.GradientTransformation, config: OptimizerConfig
) -> optax.GradientTransformation:
    """Scale the palette layer's updates from the rest's peak rate to its own.

    The state stays that of `inner`, so that a run may go on with another rate.
    """
    own = config.palette_learning_rate
    if not own:
        return inner

    def scale(path: tuple, update: jax.Array) -> jax.Array:
        if "palette_embedding" not in (key.key for key in path):
            return update
        kernel = config.kind == "muon" and update.ndim > 1
        return update * (own / (config.muon_learning_rate if kernel else config.learning_rate))

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(gradients, state, params)
        return jax.tree_util.tree_map_with_path(scale, updates), state

    return optax.GradientTransformation(inner.init, update)


def decays(params: Any) -> Any:
    """Return for each of nested `params` whether weight decay moves it."""

    def one(path: tuple, leaf: jax.Array) -> bool:
        name = ".".join(key.key for key in path)
        return leaf.ndim > 1 and not UNREAD.search(name)

    return jax.tree_util.tree_map_with_path(one, params)


def _kernel_axes(params: Any) -> Any:
    """Read kernels as matrices: every axis but the last is an input, the last is the output."""

    def axes(leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if leaf.ndim < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map(axes, params)


def update_ema(ema: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Move the exponential average of parameters; early steps use a faster decay."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, ema, params)
