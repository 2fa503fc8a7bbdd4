"""Layers that see frames or places alone, called part by part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from palette_vc_jax.models.layers import SpatioTemporalResBlock, TemporalConv, Upsample
from palette_vc_jax.models.memory import _count_chunks, map_chunks, policy
from palette_vc_jax.models.transformer import SpatioTemporalTransformer
from palette_vc_jax.parallel import placement


def _random(module: nnx.Module) -> nnx.Module:
    rng = np.random.default_rng(0)
    graphdef, state = nnx.split(module)
    draw = lambda leaf: jnp.asarray(rng.normal(0.0, 0.3, leaf.shape), jnp.float32)  # noqa: E731
    return nnx.merge(graphdef, jax.tree.map(draw, state))


LAYERS = {
    "transformer": lambda: SpatioTemporalTransformer(16, 2, 8, 4, rngs=nnx.Rngs(0)),
    "res block": lambda: SpatioTemporalResBlock(16, 24, 8, 4, 1e-5, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_parts_change_neither_values_nor_gradients(kind):
    """If this fails, parts come back in another order, or a part's gradient is lost."""
    layer = _random(LAYERS[kind]())
    graphdef, state = nnx.split(layer)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 6, 4, 3, 16))
    condition = jax.random.normal(keys[1], (2, 1, 8) if kind == "transformer" else (2, 8))

    def value(chunk_bytes):
        def loss(state, x, condition):
            with policy(chunk_bytes=chunk_bytes):
                out = nnx.merge(graphdef, state)(x, condition)
            weights = jax.random.normal(keys[2], out.shape)
            return jnp.sum(weights * out), out

        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        return step(state, x, condition)

    (_, whole), expected = value(2**30)
    (_, found), gradients = value(1)  # a byte: as many parts as there are frames or places
    assert jnp.linalg.norm(found - whole) <= 1e-5 * jnp.linalg.norm(whole)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert jnp.linalg.norm(a - b) <= 1e-5 * (1e-3 + jnp.linalg.norm(b))


@pytest.mark.parametrize(
    ("length", "devices", "parts"), [(14, 1, 14), (14, 2, 7), (16, 4, 4), (14, 4, 14), (4, 8, 4)]
)
def test_parts_are_shared_by_the_devices_that_share_the_frames(monkeypatch, length, devices, parts):
    """If this fails, parts do not divide the frames, or leave devices without a frame."""
    monkeypatch.setattr(placement, "num_frame_shards", lambda: devices)
    assert _count_chunks(jnp.zeros((1, length, 2)), 1.0, 1) == parts


def test_gradients_of_half_precision_are_summed_in_full():
    """If this fails, each part's gradient is rounded to bfloat16 before the sum."""
    layer = nnx.Linear(1, 1, use_bias=False, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16,
                       rngs=nnx.Rngs(0))  # fmt: skip
    graphdef, state = nnx.split(layer)
    x = jnp.full((1, 512, 1), 1.0, jnp.bfloat16)

    class Block(nnx.Module):
        def __init__(self, layer):
            self.layer = layer

        def __call__(self, x, condition):
            return self.layer(x)

    def loss(state):
        with policy(chunk_bytes=2):
            return map_chunks(Block(nnx.merge(graphdef, state)), x, None, 1.0).sum()

    # 512 ones: in bfloat16 the sum would stay at 256, where 1 is half a step.
    gradient = jax.grad(loss)(state)
    assert float(jax.tree.leaves(gradient)[0].squeeze()) == 512.0


@pytest.mark.parametrize(
    ("layer", "platform"), [(TemporalConv, "cpu"), (TemporalConv, "gpu"), (Upsample, "cpu")]
)
def test_devices_convolve_alike(monkeypatch, layer, platform):
    """If this fails, a GPU or the CPU mixes, doubles or trains frames in another way than a TPU."""
    channels = {TemporalConv: (6, 4), Upsample: (6,)}[layer]
    graphdef, state = nnx.split(_random(layer(*channels, rngs=nnx.Rngs(0))))
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 4, 6))

    def loss(state, x):
        out = nnx.merge(graphdef, state)(x)
        return jnp.square(out).mean(), out

    found = []
    for name in ("tpu", platform):
        monkeypatch.setattr(placement, "platform", lambda name=name: name)
        found.append(jax.grad(loss, (0, 1), has_aux=True)(state, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *found)
