"""SGM's single file: its names by rules of their own, and its round trip."""

import re

import numpy as np
from safetensors.numpy import load_file, save_file

from palette_vc_jax.conversion.svd import svd_to_flax
from tests.parity.conftest import CONFIG, FILES, same

# SGM -> diffusers, written from the SGM side: the reader's names come from the other side.
M = r"^model\.diffusion_model"
SGM_RULES = [
    (M + r"\.time_embed\.0", "unet:time_embedding.linear_1"),
    (M + r"\.time_embed\.2", "unet:time_embedding.linear_2"),
    (M + r"\.label_emb\.0\.0", "unet:add_embedding.linear_1"),
    (M + r"\.label_emb\.0\.2", "unet:add_embedding.linear_2"),
    (M + r"\.input_blocks\.0\.0\.", "unet:conv_in."),
    (M + r"\.out\.0\.", "unet:conv_norm_out."),
    (M + r"\.out\.2\.", "unet:conv_out."),
    # Of this fixture: two levels of two blocks down and three up, transformers at the fine level.
    (M + r"\.input_blocks\.1\.0\.", "unet:down_blocks.0.resnets.0."),
    (M + r"\.input_blocks\.1\.1\.", "unet:down_blocks.0.attentions.0."),
    (M + r"\.input_blocks\.2\.0\.", "unet:down_blocks.0.resnets.1."),
    (M + r"\.input_blocks\.2\.1\.", "unet:down_blocks.0.attentions.1."),
    (M + r"\.input_blocks\.3\.0\.op\.", "unet:down_blocks.0.downsamplers.0.conv."),
    (M + r"\.input_blocks\.4\.0\.", "unet:down_blocks.1.resnets.0."),
    (M + r"\.input_blocks\.5\.0\.", "unet:down_blocks.1.resnets.1."),
    (M + r"\.middle_block\.0\.", "unet:mid_block.resnets.0."),
    (M + r"\.middle_block\.1\.", "unet:mid_block.attentions.0."),
    (M + r"\.middle_block\.2\.", "unet:mid_block.resnets.1."),
    (M + r"\.output_blocks\.0\.0\.", "unet:up_blocks.0.resnets.0."),
    (M + r"\.output_blocks\.1\.0\.", "unet:up_blocks.0.resnets.1."),
    (M + r"\.output_blocks\.2\.0\.", "unet:up_blocks.0.resnets.2."),
    (M + r"\.output_blocks\.2\.1\.conv\.", "unet:up_blocks.0.upsamplers.0.conv."),
    (M + r"\.output_blocks\.3\.0\.", "unet:up_blocks.1.resnets.0."),
    (M + r"\.output_blocks\.3\.1\.", "unet:up_blocks.1.attentions.0."),
    (M + r"\.output_blocks\.4\.0\.", "unet:up_blocks.1.resnets.1."),
    (M + r"\.output_blocks\.4\.1\.", "unet:up_blocks.1.attentions.1."),
    (M + r"\.output_blocks\.5\.0\.", "unet:up_blocks.1.resnets.2."),
    (M + r"\.output_blocks\.5\.1\.", "unet:up_blocks.1.attentions.2."),
    (r"^conditioner\.embedders\.3\.encoder\.quant_conv\.", "vae:quant_conv."),
    (r"^conditioner\.embedders\.3\.encoder\.encoder\.", "vae:encoder."),
    (r"^first_stage_model\.decoder\.", "vae:decoder."),
    (r"(vae:encoder)\.down\.(\d)\.block\.(\d)", r"\1.down_blocks.\2.resnets.\3"),
    (r"(vae:encoder)\.down\.(\d)\.downsample\.", r"\1.down_blocks.\2.downsamplers.0."),
    (r"(vae:decoder)\.up\.0\.block\.(\d)", r"\1.up_blocks.1.resnets.\2"),
    (r"(vae:decoder)\.up\.1\.block\.(\d)", r"\1.up_blocks.0.resnets.\2"),
    (r"(vae:decoder)\.up\.1\.upsample\.", r"\1.up_blocks.0.upsamplers.0."),
    (r"(vae:\w+)\.mid\.block_1\.", r"\1.mid_block.resnets.0."),
    (r"(vae:\w+)\.mid\.block_2\.", r"\1.mid_block.resnets.1."),
    (r"(vae:\w+)\.mid\.attn_1\.norm", r"\1.mid_block.attentions.0.group_norm"),
    (r"(vae:\w+)\.mid\.attn_1\.([qkv])\.", r"\1.mid_block.attentions.0.to_\2."),
    (r"(vae:\w+)\.mid\.attn_1\.proj_out", r"\1.mid_block.attentions.0.to_out.0"),
    (r"(vae:\w+)\.norm_out", r"\1.conv_norm_out"),
    (r"(vae:decoder)\.conv_out\.time_mix_conv", r"\1.time_conv_out"),
    (r"(vae:decoder.*resnets\.\d)\.mix_factor", r"\1.time_mixer.mix_factor"),
    (r"(resnets\.\d)\.time_stack\.in_layers\.0", r"\1.temporal_res_block.norm1"),
    (r"(resnets\.\d)\.time_stack\.in_layers\.2", r"\1.temporal_res_block.conv1"),
    (r"(resnets\.\d)\.time_stack\.emb_layers\.1", r"\1.temporal_res_block.time_emb_proj"),
    (r"(resnets\.\d)\.time_stack\.out_layers\.0", r"\1.temporal_res_block.norm2"),
    (r"(resnets\.\d)\.time_stack\.out_layers\.3", r"\1.temporal_res_block.conv2"),
    (r"(resnets\.\d)\.in_layers\.0", r"\1.spatial_res_block.norm1"),
    (r"(resnets\.\d)\.in_layers\.2", r"\1.spatial_res_block.conv1"),
    (r"(resnets\.\d)\.emb_layers\.1", r"\1.spatial_res_block.time_emb_proj"),
    (r"(resnets\.\d)\.out_layers\.0", r"\1.spatial_res_block.norm2"),
    (r"(resnets\.\d)\.out_layers\.3", r"\1.spatial_res_block.conv2"),
    (r"(resnets\.\d)\.skip_connection", r"\1.spatial_res_block.conv_shortcut"),
    (r"(vae:decoder.*resnets\.\d)\.(norm\d|conv\d)\.", r"\1.spatial_res_block.\2."),
    (r"(vae:decoder.*resnets\.\d)\.nin_shortcut", r"\1.spatial_res_block.conv_shortcut"),
    (r"(vae:encoder.*resnets\.\d)\.nin_shortcut", r"\1.conv_shortcut"),
    (r"(attentions\.\d)\.time_stack\.", r"\1.temporal_transformer_blocks."),
    (r"time_pos_embed\.0", "time_pos_embed.linear_1"),
    (r"time_pos_embed\.2", "time_pos_embed.linear_2"),
]  # fmt: skip
CLIP_RULES = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre": "vision_model.pre_layrnorm",
    "ln_post": "vision_model.post_layernorm",
    "transformer.resblocks": "vision_model.encoder.layers",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _from_sgm(tensors):
    """Turn an SGM file's contents into diffusers' state dicts."""
    result = {"unet": {}, "vae": {}, "clip": {}}
    visual = "conditioner.embedders.0.open_clip.model.visual."
    for name, tensor in tensors.items():
        if name.startswith("first_stage_model.encoder."):
            continue
        if name.startswith(visual):
            _from_open_clip(result["clip"], name.removeprefix(visual), tensor)
            continue
        for pattern, replacement in SGM_RULES:
            name = re.sub(pattern, replacement, name)
        network, key = name.split(":")
        squeeze = "attentions.0.to_" in key and tensor.ndim == 4 and network == "vae"
        result[network][key] = tensor[:, :, 0, 0] if squeeze else tensor
    return result


def _from_open_clip(result, name, tensor):
    if name == "proj":
        result["visual_projection.weight"] = tensor.T
        return
    for key, value in CLIP_RULES.items():
        name = name.replace(key, value)
    if "attn.in_proj_" not in name:
        result[name] = tensor
        return
    for letter, part in zip("qkv", np.split(tensor, 3), strict=True):
        result[name.replace("attn.in_proj_", f"self_attn.{letter}_proj.")] = part


def test_sgm_file_holds_diffusers_tensors_under_sgm_names(sgm_file, folder):
    """If this fails, one rename does not lead where the published layout says."""
    back = _from_sgm(load_file(sgm_file))
    for network, path in zip(("unet", "vae", "clip"), FILES.values(), strict=True):
        same(back[network], load_file(folder / path))


def test_sgm_round_trip_is_bit_equal(sgm_file, model_folder, tmp_path):
    """If this fails, the single file and the folder of one model convert to two models."""
    svd_to_flax(sgm_file, tmp_path / "model", config=CONFIG)
    for name in ("unet", "vae", "image_encoder"):
        file = f"{name}.safetensors"
        same(load_file(tmp_path / "model" / file), load_file(model_folder / file))


def test_vae_encoder_comes_from_the_condition_copy(sgm_file, model_folder, tmp_path):
    """If this fails, the copy without quant_conv is read, or unused parts of the file stop it."""
    tensors = load_file(sgm_file)
    for name in tensors:
        if name.startswith("first_stage_model.encoder."):
            tensors[name] = np.zeros_like(tensors[name])
    tensors["conditioner.embedders.3.encoder.post_quant_conv.weight"] = np.ones(3, np.float32)
    tensors["conditioner.embedders.0.open_clip.model.logit_scale"] = np.ones(1, np.float32)
    save_file(tensors, tmp_path / "svd.safetensors")
    svd_to_flax(tmp_path / "svd.safetensors", tmp_path / "model", config=CONFIG)
    file = "vae.safetensors"
    same(load_file(tmp_path / "model" / file), load_file(model_folder / file))


def test_folded_encoder_computes_what_encoder_and_quant_conv_do(sgm_file):
    """If this fails, a reader of the first stage's own encoder gets other latents."""
    tensors = load_file(sgm_file)
    condition = "conditioner.embedders.3.encoder."
    x = np.random.default_rng(0).normal(
        size=tensors[condition + "encoder.conv_out.weight"].shape[1:]
    )
    kernel, bias = (tensors[condition + f"encoder.conv_out.{leaf}"] for leaf in ("weight", "bias"))
    mix, offset = (tensors[condition + f"quant_conv.{leaf}"] for leaf in ("weight", "bias"))
    apart = mix[:, :, 0, 0] @ (np.einsum("oihw,ihw->o", kernel, x) + bias) + offset
    kernel, bias = (
        tensors[f"first_stage_model.encoder.conv_out.{leaf}"] for leaf in ("weight", "bias")
    )
    np.testing.assert_allclose(np.einsum("oihw,ihw->o", kernel, x) + bias, apart, rtol=1e-4)
