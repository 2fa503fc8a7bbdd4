"""One step of training on one device, and on eight devices in several meshes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tests.commands import runtime_environment
from tests.multidevice import encoding, meshes

ROOT = Path(__file__).resolve().parents[2]
# With an image embedding of one token, its attention does not depend on the query.
WITHOUT_GRADIENT = ("attn2.to_q.", "attn2.to_k.", "norm2.")
TOLERANCE = 5e-6  # of gradients, relative; the largest difference seen is 2.2e-6
# The gradient of a mix factor is one sum over all activations, most of which cancel. Another order
# of the sum changes it by up to 1.1e-5.
TOLERANCE_OF_SUMS = 3e-5


def start(module: str, *arguments: str, devices: int = 8, **environment: str) -> subprocess.Popen:
    """Start a test's program on simulated devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=runtime_environment() | {"XLA_FLAGS": flags} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run every mesh in a process with eight devices."""
    path = tmp_path_factory.mktemp("meshes") / "out.npz"
    process = start("tests.multidevice.meshes", path)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    with np.load(path) as file:
        return dict(file)


def _of(results, mesh, kind):
    prefix = f"{mesh}/{kind}/"
    return {name.removeprefix(prefix): a for name, a in results.items() if name.startswith(prefix)}


def _difference(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def test_which_tensors_have_no_gradient(results):
    """If this fails, a tensor is not trained, or one is taken for dead that is not."""
    zero = {name for name, g in _of(results, "one", "gradient").items() if not g.any()}
    transformers = [name for name in zero if "transformer_blocks" in name]
    assert zero == set(transformers)
    assert all(any(part in name for part in WITHOUT_GRADIENT) for name in zero)
    # In the spatial block and the temporal one: query, key, and the norm's scale and bias.
    assert len(zero) == 2 * 4


@pytest.mark.parametrize("mesh", [name for name in meshes.MESHES if name != "one"])
def test_a_mesh_gives_the_gradients_and_updates_of_one_device(results, mesh):
    """If this fails, splitting over devices, or computing again, trains another model."""
    np.testing.assert_allclose(results[f"{mesh}/loss"], results["one/loss"], rtol=1e-6)
    for name, expected in _of(results, "one", "gradient").items():
        found = results[f"{mesh}/gradient/{name}"]
        assert found.any() == expected.any(), name
        limit = TOLERANCE_OF_SUMS if expected.size == 1 else TOLERANCE
        assert not expected.any() or _difference(found, expected) < limit, name
    for name, expected in _of(results, "one", "moved").items():
        found = results[f"{mesh}/moved/{name}"]
        assert not expected.any() or _difference(found, expected) < 1e-4, name


def test_frames_are_encoded_on_all_devices_alike(tmp_path):
    """If this fails, devices idle while one encodes, or latents depend on their number."""
    tiny.write_model(tmp_path)
    process = start("tests.multidevice.encoding", tmp_path, devices=3)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    found = dict(np.load(tmp_path / "out.npz"))
    assert found.pop("given").tolist() == [2, 2, 1]
    alone = encoding.encode(tmp_path)
    for name, array in found.items():
        np.testing.assert_array_equal(array, alone[name], err_msg=name)
