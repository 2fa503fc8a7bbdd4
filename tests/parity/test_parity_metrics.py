"""LPIPS and Inception against PyTorch, layer by layer, with random weights and statistics.

The weights are saved as their publishers do and come through the converter. Batch norms are folded
into the convolutions on our side only, and every layer stands on those before it.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from palette_vc_jax.metrics.networks import inception, lpips, weights
from palette_vc_jax.metrics.networks.convert import convert
from palette_vc_jax.metrics.networks.layers import run

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1e-5  # of the greatest output of a layer


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    """Run PyTorch's side and convert its weights; return the folder of both."""
    pytest.importorskip("torch", reason="parity needs torch")
    if not (ROOT / ".venv" / "torchvision").is_dir():
        pytest.skip("needs torchvision, lpips and pytorch-fid in .venv/torchvision: make test")
    folder = tmp_path_factory.mktemp("metrics")
    command = [sys.executable, "-W", "ignore", "-m", "tests.parity.torch_metrics", str(folder)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    for file in (*folder.glob("*.ckpt"), *folder.glob("*.pth")):
        convert(file, folder)
    return folder


def compare(ours, known, names, check):
    for name in names:
        print(name, end=": ")
        check(np.asarray(ours[name]), known[name], LIMIT)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips(net, theirs, check):
    """If this fails, a layer, a pool at an odd size, the norm of features or a head differs."""
    known = np.load(theirs / f"lpips_{net}.npz")
    params = weights.load(f"lpips_{net}", theirs)
    layers, compared = lpips.NETS[net]
    names = {layer.name for layer in layers}
    assert names <= set(known)
    left, right = known["left"], known["right"]
    given = (2.0 * left - 1.0 - lpips.SHIFT) / lpips.SCALE
    compare(jax.jit(lambda p, x: run(layers, p, x))(params, given), known, names, check)
    sides = [lpips.features(params, frames) for frames in (left, right)]
    check(np.asarray(lpips.distance(params, *sides)), known["result"], LIMIT)


def test_inception(theirs, check):
    """If this fails, a resize, the range, a layer or a pool differs."""
    known = np.load(theirs / "inception_pytorch_fid.npz")
    params = weights.load("inception_pytorch_fid", theirs)

    @jax.jit
    def run_all(params, frames):
        return run(inception.LAYERS, params, inception.prepare(frames))

    names = [layer.name for layer in inception.LAYERS]
    compare(run_all(params, known["frames"]), known, names, check)
    features = inception.features(params, known["frames"])
    check(np.asarray(features), known["result"], LIMIT)
