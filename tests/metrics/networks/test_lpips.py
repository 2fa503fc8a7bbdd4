"""LPIPS against the values that its published weights are known to give."""

import pickle

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from palette_vc_jax.metrics.networks import lpips, weights
from palette_vc_jax.metrics.networks.convert import convert
from palette_vc_jax.models.functional import nest

PAIRS = {"alex": (0.721881, 0.137566), "vgg": (0.568613, 0.421664)}


@pytest.fixture(scope="module")
def alex(shared, tmp_path_factory):
    """Bring the published AlexNet back into the pickle that it was taken from, and convert it."""
    folder = tmp_path_factory.mktemp("lpips")
    flat = load_file(shared / "weights" / "lpips_alex_v0.1_flax.safetensors")
    nested = nest({name.replace("/", "."): tensor for name, tensor in flat.items()})
    (folder / "alexnet.ckpt").write_bytes(pickle.dumps(nested, protocol=4))
    convert(folder / "alexnet.ckpt", folder)
    return weights.load("lpips_alex", folder)


@pytest.fixture(scope="module")
def vgg(metric_weights):
    """Load the published VGG16."""
    return weights.load("lpips_vgg", metric_weights)


@pytest.fixture(scope="module")
def images(shared) -> dict[str, np.ndarray]:
    """Read LPIPS' own example: an image and two distortions of it."""
    folder = shared / "weights" / "testvectors"
    names = ("ex_ref", "ex_p0", "ex_p1")
    return {
        name: np.asarray(Image.open(folder / f"{name}.png").convert("RGB"), np.float32)[None] / 255
        for name in names
    }


@pytest.mark.parametrize("net", PAIRS)
def test_published_pairs(net, images, request):
    """If this fails, range, shift, scale, a pool, a head or a mean differs from the package's."""
    params = request.getfixturevalue(net)
    sides = {name: lpips.features(params, frames) for name, frames in images.items()}
    for name, expected in zip(("ex_p0", "ex_p1"), PAIRS[net], strict=True):
        found = lpips.distance(params, sides["ex_ref"], sides[name])
        assert found.shape == (1,)
        assert float(found[0]) == pytest.approx(expected, abs=1e-4)


def test_black_and_white(alex):
    """If this fails, frames are not brought from [0, 1] to [-1, 1]."""
    black, white = (np.full((1, 64, 64, 3), value, np.float32) for value in (0.0, 1.0))
    found = lpips.distance(alex, lpips.features(alex, black), lpips.features(alex, white))
    assert float(found[0]) == pytest.approx(0.813954, abs=1e-4)


def test_batches(alex, images):
    """If this fails, images of a batch mix, the order matters, or an image is not itself."""
    left = np.concatenate([images["ex_ref"], images["ex_p0"]])
    right = np.concatenate([images["ex_p0"], images["ex_p0"]])
    a, b = lpips.features(alex, left), lpips.features(alex, right)
    there, back = lpips.distance(alex, a, b), lpips.distance(alex, b, a)
    np.testing.assert_allclose(there, [PAIRS["alex"][0], 0.0], atol=1e-4)
    np.testing.assert_array_equal(there, back)
    assert float(there[1]) == 0.0


@pytest.mark.parametrize("net, side", lpips.MIN_SIDE.items())
def test_smallest_frames(net, side):
    """If this fails, frames that leave nothing in a layer become NaN, or others are refused."""
    params = {}
    for name, shape in lpips.tensor_shapes(net).items():
        layer, _, leaf = name.rpartition(".")
        params.setdefault(layer, {})[leaf] = np.full(shape, 0.01, np.float32)
    features = lpips.features(params, np.ones((1, side, 99, 3), np.float32))
    assert features[-1].shape[1] == 1
    with pytest.raises(ValueError, match=f"frames of 99x{side - 1}.*{side} pixels"):
        lpips.features(params, np.ones((1, side - 1, 99, 3), np.float32))
