"""The kernels behind attention: which one is taken when, and that each computes the same."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from palette_vc_jax.models import attention
from palette_vc_jax.models.attention import check_choice, choose, kernel_of, plain_attention
from palette_vc_jax.models.networks import half_type
from palette_vc_jax.parallel import placement

BF16 = jnp.dtype("bfloat16")


@pytest.mark.parametrize(
    ("platform", "dtype", "queries", "keys", "size", "kernel"),
    [
        ("gpu", BF16, 9216, 9216, 64, "cudnn"),
        ("tpu", BF16, 9216, 9216, 64, "splash"),
        ("tpu", BF16, 2304, 2304, 64, "splash"),
        ("tpu", BF16, 1100, 1100, 64, "splash"),  # padded
        ("gpu", BF16, 576, 576, 64, "cudnn"),
        ("gpu", BF16, 144, 144, 64, "cudnn"),
        ("gpu", BF16, 135, 135, 64, None),  # odd
        ("gpu", BF16, 257, 257, 80, None),  # the image tower's
        ("gpu", BF16, 14, 14, 64, None),  # frames
        ("tpu", BF16, 576, 576, 64, None),  # short
        ("gpu", BF16, 9216, 14, 64, None),
        ("gpu", BF16, 9216, 9216, 512, None),  # the VAE's head
        ("gpu", jnp.dtype("float32"), 9216, 9216, 64, None),
        ("cpu", BF16, 9216, 9216, 64, None),
    ],
)
def test_a_kernel_is_taken_where_it_can_run(platform, dtype, queries, keys, size, kernel):
    """If this fails, a kernel is given what it refuses, or a long sequence takes no kernel."""
    own = kernel_of(platform, (8, 0) if platform == "gpu" else None)
    assert choose(own, dtype, queries, keys, size) == kernel


@pytest.mark.parametrize(
    ("platform", "kind", "capability", "kernel"),
    [
        ("gpu", "NVIDIA H100 80GB HBM3", "9.0", "cudnn"),
        ("gpu", "NVIDIA A100-SXM4-40GB", "8.0", "cudnn"),
        ("gpu", "Tesla V100-SXM2-16GB", "7.0", None),
        ("gpu", "AMD Instinct MI300X", "gfx942", None),
        ("tpu", "TPU v5 lite", None, "splash"),
        ("cpu", "cpu", None, None),
    ],
)
def test_hardware_without_a_kernel_needs_no_flag(platform, kind, capability, kernel):
    """If this fails, older GPUs and those of AMD end in an error of cuDNN, or a choice does."""
    device = SimpleNamespace(platform=platform, device_kind=kind)
    if capability:
        device.compute_capability = capability
    assert kernel_of(platform, placement.compute_capability(device)) == kernel
    for choice in ("auto", "chunked", kernel or "auto"):
        check_choice(choice, device)
    for choice in {"cudnn", "splash"} - {kernel}:
        with pytest.raises(ValueError, match=f"{choice}' on {kind}; give auto or chunked"):
            check_choice(choice, device)
    wanted = "float32" if platform == "cpu" else "float16" if "V100" in kind else "bfloat16"
    assert half_type(device) == wanted


def _inputs(*shape, count=3):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(count)]


@pytest.mark.parametrize("length", [1024, 1100])  # whole lanes, and padded to them
def test_the_tpu_kernel_computes_attention(length):
    """If this fails, what runs on TPUs is another model; here its kernel is interpreted."""
    *parts, weights = _inputs(1, length, 2, 64, count=4)

    def value(attend):
        return lambda *parts: (weights * attend(*parts)).sum()

    with pltpu.force_tpu_interpret_mode():
        out = attention.KERNELS["splash"](*parts)
        gradient = jax.grad(value(attention.KERNELS["splash"]), (0, 1, 2))(*parts)
    np.testing.assert_allclose(out, plain_attention(*parts), atol=1e-5)
    expected = jax.grad(value(plain_attention), (0, 1, 2))(*parts)
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_each_frame_attends_alone():
    """If this fails, frames or places that are folded together see each other."""
    query, key, value = _inputs(2, 3, 20, 2, 8)
    out = attention.attention(query, key, value)
    for b in range(2):
        for t in range(3):
            alone = plain_attention(query[b, t], key[b, t], value[b, t])
            np.testing.assert_allclose(out[b, t], alone, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("length", [9216, 2304])
def test_the_gpu_kernel_computes_attention(length):
    """If this fails, what runs on GPUs is another model."""
    if jax.default_backend() != "gpu":
        pytest.skip("no GPU")
    parts = [x.astype(BF16) for x in _inputs(2, length, 5, 64)]
    out, plain = (
        np.asarray(attend(*parts), np.float32)
        for attend in (attention.KERNELS["cudnn"], plain_attention)
    )
    np.testing.assert_allclose(out, plain, atol=2e-2)
