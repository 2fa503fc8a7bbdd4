"""Whole models through the converter, on small ones that diffusers and transformers wrote."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs import davis
from convert import flax_to_svd as flax_to_svd_main
from convert import svd_to_flax as svd_to_flax_main
from palette_vc_jax.checkpoint import Checkpoints
from palette_vc_jax.conversion import svd
from palette_vc_jax.conversion import tensors as tensors_module
from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.models.config import PRESETS, ModelConfig
from palette_vc_jax.models.functional import flatten
from palette_vc_jax.models.store import load_model
from tests.commands import command
from tests.parity.conftest import CLIP, UNET, VAE_CONFIG

FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "image_encoder": "image_encoder/model.safetensors",
}


@pytest.fixture
def copy(folder, tmp_path):
    """Give a copy of the pipeline's folder to break."""
    return shutil.copytree(folder, tmp_path / "copy")


def _same(left, right):
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_every_tensor_arrives_where_the_table_says(model_folder, unet, vae, clip):
    """Wrong if a converted model is not the one whose blocks were compared with PyTorch."""
    model = load_model(model_folder)
    for name, pair in (("unet", unet), ("vae", vae), ("image_encoder", clip)):
        assert getattr(model.config, name) == pair.config
        _same(flatten(model.params[name]), flatten(pair.params))
    assert (model.config.sampling.sigma_min, model.config.sampling.sigma_max) == (0.002, 700.0)
    record = json.loads((model_folder / "provenance.json").read_text())
    assert set(record["sha256"]) == set(FILES.values())
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in record["sha256"].values())


def test_diffusers_round_trip_is_bit_equal_and_loads(model_folder, folder, tmp_path):
    """Wrong if what was fine-tuned here cannot go back to the library it came from."""
    diffusers = pytest.importorskip("diffusers")
    flax_to_svd(model_folder, tmp_path / "back", "diffusers")
    for name in FILES.values():
        _same(load_file(tmp_path / "back" / name), load_file(folder / name))
    loaded = diffusers.StableVideoDiffusionPipeline.from_pretrained(tmp_path / "back")
    assert loaded.scheduler.config.sigma_max == 700.0
    palette = load_file(tmp_path / "back" / "palette_embedding.safetensors")
    assert palette["weight"].shape == (64, 15) and not palette["weight"].any()


@pytest.mark.parametrize("form", ["half", "sharded"])
def test_half_precision_and_shards_are_read(form, pipeline, folder, tmp_path):
    """Wrong if only one of the ways in which these models are published can be read."""
    import torch

    if form == "half":  # read anew: rounding the shared one in place would change what it is
        half = type(pipeline).from_pretrained(folder, dtype=torch.float16)
        half.save_pretrained(tmp_path / "svd", variant="fp16")
    else:
        pipeline.save_pretrained(tmp_path / "svd", max_shard_size="2MB")
        assert list((tmp_path / "svd" / "unet").glob("*.index.json"))
    svd_to_flax(tmp_path / "svd", tmp_path / "model")
    for name, path in (("unet", "unet"), ("vae", "vae"), ("image_encoder", "image_encoder")):
        files = (tmp_path / "svd" / path).glob("*.safetensors")
        numbers = sum(
            sum(np.abs(t.astype(np.float64)).sum() for t in load_file(f).values()) for f in files
        )
        ours = load_file(tmp_path / "model" / f"{name}.safetensors")
        assert all(array.dtype == np.float32 for array in ours.values())
        total = sum(np.abs(array.astype(np.float64)).sum() for array in ours.values())
        assert abs(total - numbers) < 1e-9 * numbers


def test_bfloat16_is_the_rounded_weight(model_folder, folder, tmp_path):
    """Wrong if the small checkpoint is more than a rounding away from the large one."""
    svd_to_flax(folder, tmp_path / "model", "bfloat16")
    small, large = (load_file(f / "unet.safetensors") for f in (tmp_path / "model", model_folder))
    for name, array in large.items():
        assert small[name].dtype.name == "bfloat16"
        np.testing.assert_array_equal(small[name], array.astype(small[name].dtype))


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


@pytest.fixture(scope="session")
def sgm_file(model_folder, tmp_path_factory):
    """Write the model as SGM's single file."""
    path = tmp_path_factory.mktemp("sgm") / "out"
    flax_to_svd(model_folder, path, "sgm")
    return next(p for p in path.glob("*.safetensors") if "palette" not in p.name)


CONFIG = ModelConfig("svd", UNET, VAE_CONFIG, CLIP)


def test_sgm_file_holds_diffusers_tensors_under_sgm_names(sgm_file, folder):
    """Wrong if one rename leads elsewhere than the published layout says."""
    back = _from_sgm(load_file(sgm_file))
    for network, path in zip(("unet", "vae", "clip"), FILES.values(), strict=True):
        _same(back[network], load_file(folder / path))


def test_sgm_round_trip_is_bit_equal(sgm_file, model_folder, tmp_path):
    """Wrong if the single file and the folder of one model convert to two models."""
    svd_to_flax(sgm_file, tmp_path / "model", config=CONFIG)
    for name in ("unet", "vae", "image_encoder"):
        file = f"{name}.safetensors"
        _same(load_file(tmp_path / "model" / file), load_file(model_folder / file))


def test_vae_encoder_comes_from_the_condition_copy(sgm_file, model_folder, tmp_path):
    """Wrong if the copy without quant_conv is read, or unused parts of the file stop it."""
    tensors = load_file(sgm_file)
    for name in tensors:
        if name.startswith("first_stage_model.encoder."):
            tensors[name] = np.zeros_like(tensors[name])
    tensors["conditioner.embedders.3.encoder.post_quant_conv.weight"] = np.ones(3, np.float32)
    tensors["conditioner.embedders.0.open_clip.model.logit_scale"] = np.ones(1, np.float32)
    save_file(tensors, tmp_path / "svd.safetensors")
    svd_to_flax(tmp_path / "svd.safetensors", tmp_path / "model", config=CONFIG)
    file = "vae.safetensors"
    _same(load_file(tmp_path / "model" / file), load_file(model_folder / file))


def test_folded_encoder_computes_what_encoder_and_quant_conv_do(sgm_file):
    """Wrong if a reader of the first stage's own encoder gets other latents."""
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


def _refused(source, tmp_path, *said):
    with pytest.raises(ValueError) as error:
        svd_to_flax(source, tmp_path / "model", config=CONFIG if source.is_file() else None)
    message = str(error.value)
    assert all(part in message for part in said) and "\n" not in message, message
    assert not list(tmp_path.glob("*model*"))


def test_all_wrong_tensors_are_told_at_once(copy, sgm_file, tmp_path):
    """Wrong if a user mends one tensor only to be told of the next."""
    path = copy / FILES["unet"]
    tensors = load_file(path)
    del tensors["conv_in.bias"]
    tensors["extra"] = np.zeros(1, np.float32)
    tensors["conv_out.bias"] = np.zeros(7, np.float32)
    save_file(tensors, path)
    path = copy / FILES["vae"]
    tensors = load_file(path)
    lost = [name for name in tensors if name.startswith("decoder.mid_block")]
    save_file({name: tensors[name] for name in tensors if name not in lost}, path)
    _refused(copy, tmp_path, "conv_in.bias", "extra", "conv_out.bias has shape (7,)", *lost)

    tensors = load_file(sgm_file)
    unet = "model.diffusion_model."
    tensors[unet + "stranger"] = tensors.pop(unet + "out.2.bias")
    tensors[unet + "out.0.bias"] = np.zeros(7, np.float32)
    save_file(tensors, tmp_path / "svd.safetensors")
    said = ["stranger", "1 missing: " + unet + "out.2.bias", "out.0.bias has shape (7,)"]
    _refused(tmp_path / "svd.safetensors", tmp_path, *said)


def test_damaged_sources_are_refused_in_one_line(copy, tmp_path):
    """Wrong if a bad download ends in a traceback, or in something that looks converted."""
    weights = copy / FILES["vae"]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    _refused(copy, tmp_path, "vae", "not a whole safetensors file")
    weights.unlink()
    _refused(copy, tmp_path, "vae", "no weights found")
    weights.with_suffix(".bin").write_bytes(b"\x80\x04")
    _refused(copy, tmp_path, "pickle")
    weights.with_suffix(".bin").unlink()
    weights.write_bytes(whole)
    config = copy / "unet" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"cross_attention_dim": 96}))
    _refused(copy, tmp_path, "of another shape", "attn2")
    config.write_text(json.dumps(values | {"_class_name": "UNet3DConditionModel"}))
    _refused(copy, tmp_path, "UNet3DConditionModel")
    config.write_text("{")
    _refused(copy, tmp_path, "not valid JSON")
    checkpoint = tmp_path / "svd.ckpt"
    checkpoint.write_bytes(b"\x80\x04")
    _refused(checkpoint, tmp_path, "pickle")
    _refused(tmp_path / "nowhere", tmp_path, "no such folder or file")


def test_a_value_beyond_float16_is_refused(model_folder, tmp_path):
    """Wrong if weights become infinite on the way out."""
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    tensors = load_file(broken / "vae.safetensors")
    tensors["quant_conv.bias"] = tensors["quant_conv.bias"] + np.float32(1e5)
    save_file(tensors, broken / "vae.safetensors")
    with pytest.raises(ValueError, match="quant_conv.bias.*does not fit float16"):
        flax_to_svd(broken, tmp_path / "out", "diffusers", "float16")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_conversion_cut_short_leaves_nothing(folder, tmp_path, monkeypatch, written):
    """Wrong if half a model is later taken for one."""
    whole = svd.write_tensors

    def write(path, *rest):
        if len(list(path.parent.glob("*.safetensors"))) == written:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        whole(path, *rest)

    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(svd, "write_tensors", write)
    if written == 3:
        monkeypatch.setattr(svd, "sha256", end)
    output = tmp_path / "model"
    assert command(svd_to_flax_main.main, "--source", folder, "--output", output) == 130
    assert not list(tmp_path.iterdir())
    # Even one that could not tidy up, as after a power cut, is no model.
    monkeypatch.setattr(tensors_module.shutil, "rmtree", lambda *_, **__: None)
    assert command(svd_to_flax_main.main, "--source", folder, "--output", output) == 130
    (partial,) = tmp_path.iterdir()
    assert partial.name == ".model.partial" and not (partial / "provenance.json").exists()
    with pytest.raises(ValueError, match="not a checkpoint folder"):
        load_model(partial)


def test_a_run_goes_back_by_its_average_or_its_newest_weights(
    model_folder, folder, tmp_path, monkeypatch
):
    """Wrong if what was trained here cannot be used there without waiting for the run's end."""
    monkeypatch.setitem(PRESETS, "small", lambda: CONFIG)
    model = load_model(model_folder)
    trained = {name: model.params[name] for name in ("unet", "image_encoder")}
    raw, average = (jax.tree.map(lambda x, f=f: f * x, trained) for f in (2.0, 0.5))
    run = tmp_path / "run"
    run.mkdir()
    checkpoints = Checkpoints(run / "checkpoints")
    checkpoints.save(7, {"params": raw, "average": average, "step": np.array(7)}, {})
    checkpoints.close()
    config = davis.get_config("runlocal")
    with config.unlocked():
        config.update(model="small", vae=str(model_folder), init_from="")
    (run / "config.json").write_text(config.to_json_best_effort())
    before = load_file(folder / FILES["unet"])
    for weights, factor in (("ema", 0.5), ("raw", 2.0)):
        out = tmp_path / weights
        flags = ["--source", run, "--output", out, "--weights", weights]
        assert command(flax_to_svd_main.main, *flags) == 0
        _same(load_file(out / FILES["unet"]), {k: factor * v for k, v in before.items()})
        _same(load_file(out / FILES["vae"]), load_file(folder / FILES["vae"]))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "ema", "raw"}
