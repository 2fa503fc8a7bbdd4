"""The count of a step's operations: whatever it leaves out makes an accelerator look idle."""

import types

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.extend import core
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from palette_vc_jax.models import functional
from palette_vc_jax.models.attention import chunked_attention, plain_attention
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.training.aot import flops
from tests import tiny

PRODUCT = 2.0 * 8**3  # of two 8 x 8 matrices
SQUARE = jnp.ones((8, 8))


def _shape(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _flops(function, *args):
    return flops.step_flops(jax.jit(function), *args)


def test_loops_count_as_often_as_they_run():
    """If this fails, accumulated gradients or attention in chunks count once (XLA's count does)."""

    def looped(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, length=5)[0]

    assert _flops(looped, SQUARE) == 5 * PRODUCT
    branches = (lambda x: x @ x @ x, lambda x: x @ x, lambda x: x)
    assert _flops(lambda x: jax.lax.switch(0, branches, x), SQUARE) == 2 * PRODUCT
    query = _shape(2, 64, 2, 8)
    plain = _flops(plain_attention, query, query, query)
    assert plain == 2 * 2 * 2 * 64 * 64 * 16
    chunked = _flops(lambda q, k, v: chunked_attention(q, k, v, 16), query, query, query)
    assert chunked == plain


def test_what_is_computed_again_counts():
    """If this fails, a step that saves memory by recomputing looks slower than its device is."""

    def loss(x):
        return jax.checkpoint(lambda x: jnp.sin(x @ x) @ x)(x).sum()

    # Twice forward, and two products for each one's gradients; that of the end is not needed again.
    assert _flops(jax.grad(loss), SQUARE) == (2 + 2 + 4 - 1) * PRODUCT


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_counts_three_times_with_its_gradients(stride):
    """If this fails, the zeros between a strided convolution's gradients are taken for work."""

    def loss(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=layout
        )
        return jnp.square(out).sum()

    forward = 2 * (2 * (16 // stride) ** 2 * 12) * (9 * 8)
    both = _flops(jax.grad(loss, (0, 1)), _shape(2, 16, 16, 8), _shape(3, 3, 8, 12))
    assert both == 3 * forward


def test_the_count_of_a_network_is_near_the_compilers():
    """If this fails, a kind of layer is forgotten or counted twice."""
    config = tiny.CONFIG.unet
    params = functional.nest(functional.shapes(UNet, config))
    forward = jax.jit(lambda params, *args: functional.apply(UNet, config, params, *args))
    args = (
        _shape(1, 4, 8, 12, 8), _shape(1), _shape(1, 1, 8), _shape(1, 3), _shape(1, 15), _shape(1)
    )  # fmt: skip
    ours = flops.step_flops(forward, params, *args)
    compilers = forward.lower(params, *args).cost_analysis()["flops"]  # no loops in it
    # So small a network has a share of operations element by element, which the compiler counts.
    assert 0.8 < ours / compilers < 1.1


def test_fused_kernels_and_shards_count():
    """If this fails, attention that runs in a kernel, or on many devices, counts as little."""

    def kernel(x, out):
        out[...] = x[...] @ x[...]

    block = pl.BlockSpec((None, 8, 8), lambda i: (i, 0, 0))
    blocks = _shape(32, 8, 8)
    call = pl.pallas_call(kernel, blocks, grid=(32,), in_specs=[block], out_specs=block)
    assert _flops(call, blocks) == 32 * PRODUCT

    attend = core.Primitive("dot_product_attention_fwd_wrapper")  # as cuDNN's is called
    attend.def_abstract_eval(lambda query, key, value: query)
    query, key = _shape(3, 64, 2, 8), _shape(3, 5, 2, 8)
    assert _flops(attend.bind, query, key, key) == _flops(plain_attention, query, key, key)

    mesh = AbstractMesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    spec = PartitionSpec("data", "fsdp")
    sharded = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=spec, out_specs=spec)
    assert _flops(sharded, _shape(32, 16)) == 8 * PRODUCT


def test_unknown_devices_have_no_peak():
    """If this fails, a share of some other device's peak is shown."""
    kinds = ["TPU v5 lite"] * 4
    devices = [types.SimpleNamespace(device_kind=kind) for kind in kinds]
    assert flops.peak_flops(devices) == 4 * 197e12
    assert flops.peak_flops(jax.devices("cpu")) is None
    assert all(1e13 < peak < 1e16 and source for peak, source in flops.PEAKS.values())
