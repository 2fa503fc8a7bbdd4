"""Files of one network, of other tools and of other models: what they are, and what they become.

Weights are random and small; the names are the published ones.
"""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palette_vc_jax.commands import svd_to_flax as script
from palette_vc_jax.conversion.recognize import recognize, tidy
from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.models.config import (
    ImageEncoderConfig,
    ModelConfig,
    UNetConfig,
    VAEConfig,
    svd_xt,
)
from palette_vc_jax.models.store import load_config, save_model
from tests import tiny
from tests.commands import command

CONFIG = ModelConfig(
    "svd",
    UNetConfig(
        block_out_channels=(32, 32),
        attention=(True, False),
        num_attention_heads=(1, 2),
        layers_per_block=1,
        cross_attention_dim=8,
        addition_time_embed_dim=4,
    ),
    VAEConfig(block_out_channels=(32, 32), layers_per_block=1),
    ImageEncoderConfig(8, 16, 1, 2, 16, 8, 8),
)
SGM_UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Write a model here, as a diffusers folder and as SGM's file, and a UNet with other values."""
    place = tmp_path_factory.mktemp("place")
    params = tiny.random_params(CONFIG)
    params["unet"]["palette_embedding"] = {
        key: 0 * value for key, value in params["unet"]["palette_embedding"].items()
    }
    save_model(place / "model", CONFIG, params)
    flax_to_svd(place / "model", place / "svd", "diffusers")
    flax_to_svd(place / "model", place / "sgm", "sgm")
    for kind, path in (("diffusers", "svd/unet/diffusion_pytorch_model"), ("sgm", "sgm/svd")):
        tensors = load_file(place / f"{path}.safetensors")
        if kind == "sgm":
            tensors = {n: t for n, t in tensors.items() if n.startswith(SGM_UNET)}
        save_file({name: 2 * value for name, value in tensors.items()}, place / f"{kind}.unet")
    for name in ("svd", "sgm"):
        (place / name / "palette_embedding.safetensors").unlink()
    return place


def _prefixed(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


WAYS = {  # how other tools store a UNet alone -> from its tensors under diffusers' or SGM's names
    "as it is": ("diffusers", lambda tensors: tensors),
    "of a wrapper": ("diffusers", lambda tensors: _prefixed("module.", tensors)),
    "compiled": ("diffusers", lambda tensors: _prefixed("module._orig_mod.", tensors)),
    "of a pipeline": ("diffusers", lambda tensors: _prefixed("unet.", tensors)),
    "of a trainer": ("diffusers", lambda tensors: _prefixed("model.", tensors)),
    "under SGM's prefix": ("diffusers", lambda tensors: _prefixed(SGM_UNET, tensors)),
    "compiled inside": (
        "diffusers",
        lambda tensors: {n.replace(".0.", ".0._orig_mod.", 1): t for n, t in tensors.items()},
    ),
    "of SGM": ("sgm", lambda tensors: tensors),
    "of SGM, shortened": (
        "sgm",
        lambda tensors: {n.removeprefix("model."): t for n, t in tensors.items()},
    ),
    "of SGM, bare": (
        "sgm",
        lambda tensors: {n.removeprefix(SGM_UNET): t for n, t in tensors.items()},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_unet_alone_is_completed(place, tmp_path, capsys, way):
    """If this fails, a fine-tuned or distilled UNet cannot be used, or its values are lost."""
    kind, rename = WAYS[way]
    source = tmp_path / "AnimateLCM-SVD-xt-1.1.safetensors"
    save_file(rename(load_file(place / f"{kind}.unet")), source)
    arguments = ["--source", source, "--output", tmp_path / "out"]
    assert command(script.main, *arguments) == 2
    error = capsys.readouterr().err
    assert "SVD's UNet alone" in error and "--base" in error and error.count("\n") == 1
    base = place / ("svd" if way == "compiled" else "model")
    assert command(script.main, *arguments, "--base", base) == 0
    assert "starts at zero" in capsys.readouterr().out
    config = load_config(tmp_path / "out")
    assert config == dataclasses.replace(CONFIG, sampling=svd_xt().sampling)
    for network, factor in (("unet", 2), ("vae", 1), ("image_encoder", 1)):
        ours = load_file(tmp_path / "out" / f"{network}.safetensors")
        theirs = load_file(place / "model" / f"{network}.safetensors")
        assert set(ours) == set(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], factor * theirs[name], err_msg=name)
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["base"] == base.name and len(record["sha256"]) == 3
    assert {name.split("/")[0] for name in record["sha256"]} == {source.name, "base"}


def test_other_networks_are_completed(place, tmp_path):
    """If this fails, a VAE or an image tower that was trained alone cannot be used."""
    full = load_file(place / "svd/image_encoder/model.safetensors")
    text = {"text_model.embeddings.position_ids": np.zeros(3), "logit_scale": np.ones(())}
    save_file(full | text, tmp_path / "clip.safetensors")
    svd_to_flax(tmp_path / "clip.safetensors", tmp_path / "a", base=place / "model")
    svd_to_flax(place / "svd" / "vae", tmp_path / "b", base=place / "svd")
    sgm = load_file(place / "sgm/svd.safetensors")
    images = {name: tensor for name, tensor in sgm.items() if ".decoder.up.0" not in name}
    images = {n: t for n, t in images.items() if "decoder" not in n or "time" not in n}
    save_file(images, tmp_path / "svd_image_decoder.safetensors")
    with pytest.raises(ValueError, match="decoder of an image VAE; add --base SVD for vae:"):
        svd_to_flax(tmp_path / "svd_image_decoder.safetensors", tmp_path / "c")
    source = tmp_path / "svd_image_decoder.safetensors"
    svd_to_flax(source, tmp_path / "c", base=place / "model")
    for output in "abc":
        for network in ("unet", "vae", "image_encoder"):
            ours = load_file(tmp_path / output / f"{network}.safetensors")
            theirs = load_file(place / "model" / f"{network}.safetensors")
            assert set(ours) == set(theirs)
            assert all((ours[name] == theirs[name]).all() for name in ours)


def test_whole_models_under_other_names(place, tmp_path):
    """If this fails, a pipeline's state dict, or SGM's file from a trainer, is refused."""
    parts = {
        network: load_file(path)
        for network in ("unet", "vae", "image_encoder")
        for path in (place / "svd" / network).glob("*.safetensors")
    }
    joined = {f"{net}.{key}": tensor for net, part in parts.items() for key, tensor in part.items()}
    save_file(joined, tmp_path / "joined.safetensors")
    save_file(
        _prefixed("module.", load_file(place / "sgm/svd.safetensors")), tmp_path / "sgm.safetensors"
    )
    for name in ("joined", "sgm"):
        svd_to_flax(tmp_path / f"{name}.safetensors", tmp_path / name, config=CONFIG)
        for network in parts:
            ours = load_file(tmp_path / name / f"{network}.safetensors")
            theirs = load_file(place / "model" / f"{network}.safetensors")
            assert all((ours[key] == theirs[key]).all() for key in theirs)
    with pytest.raises(ValueError, match="with all networks; leave out --base"):
        svd_to_flax(tmp_path / "joined.safetensors", tmp_path / "x", base=place / "model")
    with pytest.raises(ValueError, match="leave out --base"):
        svd_to_flax(place / "svd", tmp_path / "x", base=place / "model")


def test_folders_of_other_kinds(place, tmp_path):
    """If this fails, a folder that cannot be converted is reported as one with missing files."""
    with pytest.raises(ValueError, match="unet alone; add --base"):
        svd_to_flax(place / "svd" / "unet", tmp_path / "x")
    with pytest.raises(ValueError, match="converted model; give it to sample.py"):
        svd_to_flax(place / "model", tmp_path / "x")
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="a StableDiffusionPipeline of diffusers; give"):
        svd_to_flax(tmp_path / "sd", tmp_path / "x")
    (tmp_path / "lcm").mkdir()
    save_file(load_file(place / "diffusers.unet"), tmp_path / "lcm" / "LCM.safetensors")
    with pytest.raises(ValueError, match="LCM.safetensors: SVD's UNet alone"):
        svd_to_flax(tmp_path / "lcm", tmp_path / "x")
    save_file({"x": np.zeros(1)}, tmp_path / "lcm" / "LCM.safetensors")
    with pytest.raises(ValueError, match="unknown weights .tensors such as x"):
        svd_to_flax(tmp_path / "lcm", tmp_path / "x", base=place / "model")


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({SGM_UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": 768}, "1.x"),
        ({SGM_UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": 1024}, "2.x"),
        ({SGM_UNET + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": 2048}, "SDXL"),
        (
            {
                "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": 768,
                "time_embedding.linear_1.weight": 320,
            },
            "Stable Diffusion 1.x, which has no temporal layers",
        ),
        (
            {
                SGM_UNET + "input_blocks.1.0.time_stack.in_layers.0.weight": 320,
                SGM_UNET + "label_emb.0.0.weight": 256,
            },
            "SV3D",
        ),
        ({"lora_unet_down_blocks_0_attentions_0.lora_down.weight": 4}, "LoRA"),
        ({"unet.down_blocks.0.attentions.0.attn1.to_q.lora_A.weight": 4}, "LoRA"),
        ({"unet.mid_block.attentions.0.processor.to_q_lora.up.weight": 4}, "LoRA"),
        ({"down_blocks.0.motion_modules.0.proj_in.weight": 320}, "AnimateDiff"),
        ({"controlnet_cond_embedding.conv_in.weight": 3}, "ControlNet"),
        ({"decoder.up_blocks.0.resnets.0.conv1.weight": 512}, "the VAE of an image model"),
        ({"decoder.up.0.block.0.conv1.weight": 512}, "a VAE alone in the layout of SGM"),
        ({"text_model.encoder.layers.0.mlp.fc1.bias": 768}, "a text encoder"),
        ({"double_blocks.0.img_attn.qkv.weight": 3072}, "another family"),
        ({"blocks.0.self_attn.q.weight": 1536}, "another family"),
        ({"weight": 15, "bias": 320}, "a palette layer"),
        ({"conv_in.kernel": 320, "conv_in.bias": 320}, "converted already"),
        ({"a": 1, "b": 2}, "unknown weights"),
        ({}, "unknown weights"),
    ],
)
def test_files_that_cannot_be_converted_are_named(tmp_path, tensors, what):
    """If this fails, a file of another model is reported as SVD with thousands of lost tensors."""
    save_file({n: np.zeros((2, width), np.float16) for n, width in tensors.items()},
              tmp_path / "x.safetensors")  # fmt: skip
    with pytest.raises(ValueError, match="x.safetensors: ") as refused:
        svd_to_flax(tmp_path / "x.safetensors", tmp_path / "model")
    message = str(refused.value)
    assert what in message and len(message) < 200 and "\n" not in message
    assert not (tmp_path / "model").exists()


def test_names_of_whole_files_stay(place):
    """If this fails, a tensor of a sound file is renamed, and then reported as lost."""
    for path in (place / "sgm" / "svd.safetensors", *(place / "svd").glob("*/*.safetensors")):
        names = load_file(path)
        assert all(name == new for name, new in tidy(names).items())
        assert recognize({name: tensor.shape for name, tensor in names.items()}).networks
