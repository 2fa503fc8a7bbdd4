"""The layers of the metric networks against XLA's own operations."""

import jax
import numpy as np
import pytest

from palette_vc_jax.metrics.networks import layers
from palette_vc_jax.metrics.networks.layers import Conv, Mixed, Pool


@pytest.fixture
def clip() -> np.ndarray:
    """Make a clip of which every axis has another size, some of them odd; half is negative."""
    return np.random.default_rng(0).standard_normal((2, 7, 10, 13, 5)).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [(1, 1, 1), (3, 3, 3), (2, 4, 3), (7, 7, 7)])
def test_convolution_in_time(clip, window, stride):
    """If this fails, taps in time are folded in another order, or padded on the other side."""
    kernel = np.random.default_rng(1).standard_normal((*window, 5, 6)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        clip, kernel, (stride,) * 3, "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    found = layers.convolve(clip, {"kernel": kernel, "bias": np.zeros(6, np.float32)}, stride)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("window, stride", [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), 1), ((2, 2, 2), 2)])
def test_max_pool(clip, window, stride, padding):
    """If this fails, padding wins over negative values, or windows begin elsewhere."""
    strides = (stride,) * 3 if isinstance(stride, int) else stride
    expected = jax.lax.reduce_window(
        clip, -np.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), padding
    )
    found = layers.pool(clip, Pool("pool", "max", window, stride, padding))
    np.testing.assert_array_equal(found, expected)


def test_mean_pool_at_the_edge():
    """If this fails, padding counts in a mean."""
    found = layers.pool(np.ones((1, 5, 6, 1), np.float32), Pool("pool", "mean", (3, 3)))
    assert found.shape == (1, 5, 6, 1)
    assert float(found[0, 0, 0, 0]) == pytest.approx(1.0)
    assert float(found[0, 2, 2, 0]) == pytest.approx(1.0)


def test_fold_is_convolution_then_norm():
    """If this fails, a norm's statistics, scale or epsilon are lost when a file is read."""
    rng = np.random.default_rng(2)
    leaves = ("scale", "bias", "mean", "var")
    tensors = {f"a.b.bn.{leaf}": rng.random(4).astype(np.float32) for leaf in leaves}
    tensors["a.b.kernel"] = rng.standard_normal((1, 1, 3, 4)).astype(np.float32)
    x = rng.standard_normal((1, 2, 2, 3)).astype(np.float32)
    plain = x @ tensors["a.b.kernel"][0, 0]
    scale, bias, mean, var = (tensors[f"a.b.bn.{leaf}"] for leaf in leaves)
    expected = (plain - mean) / np.sqrt(var + 1e-3) * scale + bias
    params = layers.fold(tensors)
    assert set(params) == {"a.b"}
    np.testing.assert_allclose(layers.convolve(x, params["a.b"]), expected, atol=1e-5)


def test_branches_that_begin_alike_are_computed_once():
    """If this fails, the layers that Inception's last blocks share are run twice."""
    first = Conv("first", 4, (3, 3))
    block = Mixed("block", ((first, Conv("left", 4, (1, 3))), (first, Conv("right", 4, (3, 1)))))
    known = layers.shapes([block])
    assert sum(name.endswith("kernel") for name in known) == 3
    params = layers.fold({name: np.ones(shape, np.float32) for name, shape in known.items()})
    run = jax.jit(lambda p, x: layers.run([block], p, x))
    text = run.lower(params, np.ones((1, 8, 8, 3), np.float32)).compile().as_text()
    assert text.count(" convolution(") == 3
