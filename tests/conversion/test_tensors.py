"""Tensors on their way from one file to another."""

import numpy as np
import pytest

from palette_vc_jax.conversion.tensors import Tensor, write_tensors


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, dtype, value):
    """If this fails, a damaged download becomes a model that makes garbage."""
    array = np.array([1.0, value], np.float32)
    with pytest.raises(ValueError, match="mid.bias: holds values that are not finite"):
        write_tensors(
            tmp_path / "x.safetensors", {"mid.bias": Tensor((2,), lambda: array)}, dtype, int
        )
