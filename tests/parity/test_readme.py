"""Run the lines of docs/convert.md that apply the palette layer in PyTorch."""

import re
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from palette_vc_jax.conversion.svd import flax_to_svd
from palette_vc_jax.models import functional
from palette_vc_jax.models.store import load_model, save_model
from palette_vc_jax.models.unet import UNet

torch = pytest.importorskip("torch", reason="parity needs torch")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers")


def test_the_documented_hook_applies_the_palette_as_the_model_does(model_folder, tmp_path, check):
    """If this fails, the documented lines produce other colors in PyTorch than `sample.py` does."""
    model = load_model(model_folder)
    rng = np.random.default_rng(0)
    layer = model.params["unet"]["palette_embedding"]
    layer |= {key: rng.normal(size=leaf.shape).astype(np.float32) for key, leaf in layer.items()}
    save_model(tmp_path / "trained", model.config, model.params)
    flax_to_svd(tmp_path / "trained", tmp_path / "back", "diffusers")
    pipeline = diffusers.StableVideoDiffusionPipeline.from_pretrained(tmp_path / "back")

    palette = rng.uniform(-1.0, 1.0, (1, 15)).astype(np.float32)
    page = (Path(__file__).parents[2] / "docs" / "convert.md").read_text()
    (block,) = re.findall(r"(?m)^    import torch\n(?:    .*\n|\n)*?    \)\n", page)
    lines = textwrap.dedent(block)
    assert "back/" in lines and "[[...]]" in lines
    lines = lines.replace("back/", f"{tmp_path}/back/").replace("[[...]]", str(palette.tolist()))
    exec(lines, {"pipeline": pipeline})

    sample = rng.normal(size=(1, 3, 8, 6, 8)).astype(np.float32)  # [B, T, h, w, C]
    context = rng.normal(size=(1, 1, 48)).astype(np.float32)
    time, ids = np.full(1, 0.5, np.float32), np.array([[6.0, 127.0, 0.0]], np.float32)
    with torch.no_grad():
        theirs = pipeline.unet(
            torch.from_numpy(sample).permute(0, 1, 4, 2, 3),
            *map(torch.from_numpy, (time, context, ids)),
        ).sample
    theirs = theirs.permute(0, 1, 3, 4, 2).numpy()
    apply = jax.jit(lambda *args: functional.apply(UNet, model.config.unet, *args))
    ours = [
        np.asarray(apply(model.params["unet"], sample, time, context, ids, palette, mask))
        for mask in (np.ones(1, np.float32), np.zeros(1, np.float32))
    ]
    check(ours[0], theirs, 1e-4)
    assert np.abs(ours[1] - theirs).max() > 0.01 * np.abs(theirs).max()
