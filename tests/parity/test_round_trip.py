"""There and back again: weights that went through the converter are the same bits."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from palette_vc_jax.conversion.table import to_flax, to_torch
from palette_vc_jax.conversion.unet import PALETTE, write_unet_config

torch = pytest.importorskip("torch", reason="parity needs torch")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers")


@pytest.mark.parametrize("network", ["unet", "other_unet", "vae", "clip"])
def test_tensors_come_back_bit_for_bit(network, request):
    """Wrong if an axis order is not undone, or a tensor is lost or changed on the way."""
    pair = request.getfixturevalue(network)
    back = to_torch(pair.table, pair.params)
    palette = {name: back.pop(name) for name in PALETTE if name in back}
    assert set(back) == set(pair.tensors)
    for name, tensor in pair.tensors.items():
        assert back[name].dtype == tensor.dtype
        assert np.array_equal(back[name], tensor), name
    assert not any(tensor.any() for tensor in palette.values())
    assert len(palette) == (2 if "unet" in network else 0)


def test_half_precision_stays_half(vae):
    """Wrong if a fp16 variant would be rewritten as something else on a round trip."""
    half = {name: tensor.astype(np.float16) for name, tensor in vae.tensors.items()}
    back = to_torch(vae.table, to_flax(vae.table, half))
    assert all(back[n].dtype == np.float16 and np.array_equal(back[n], half[n]) for n in half)


def test_diffusers_reads_what_comes_out(unet, tmp_path):
    """Wrong if a fine-tuned model could not go back to diffusers, its palette layer included."""
    palette = {"kernel": np.full((15, 64), 0.5, np.float32), "bias": np.ones(64, np.float32)}
    tensors = to_torch(unet.table, unet.params | {"palette_embedding": palette})
    assert tensors["palette_embedding.weight"].shape == (64, 15)
    again = to_flax(unet.table, tensors)["palette_embedding"]
    assert (again["kernel"] == 0.5).all() and (again["bias"] == 1).all()

    plain = {name: tensor for name, tensor in tensors.items() if name not in PALETTE}
    save_file(plain, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(write_unet_config(unet.config)))
    model = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tmp_path)
    for name, tensor in unet.torch.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize("network", ["unet", "other_unet", "vae", "clip"])
def test_config_read_is_config_built(network, request):
    """Wrong if a value of config.json is lost, so that another network would be built."""
    pair = request.getfixturevalue(network)
    assert pair.config == pair.asked
