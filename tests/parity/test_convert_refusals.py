"""What is not converted, how this is reported, and that no file is left."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palette_vc_jax import atomic
from palette_vc_jax.commands import svd_to_flax as svd_to_flax_main
from palette_vc_jax.conversion import svd
from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.models.store import load_model
from tests.commands import command
from tests.parity.conftest import CONFIG, FILES


@pytest.fixture
def copy(folder, tmp_path):
    """Return a copy of the pipeline's folder to break."""
    return shutil.copytree(folder, tmp_path / "copy")


def _refused(source, tmp_path, *said):
    with pytest.raises(ValueError) as error:
        svd_to_flax(source, tmp_path / "model", config=CONFIG if source.is_file() else None)
    message = str(error.value)
    assert all(part in message for part in said) and "\n" not in message, message
    assert not list(tmp_path.glob("*model*"))


def test_all_wrong_tensors_are_told_at_once(copy, sgm_file, tmp_path):
    """If this fails, a user corrects one tensor and is then told of the next."""
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
    """If this fails, a bad download ends in a traceback, or in something that looks converted."""
    weights = copy / FILES["vae"]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    _refused(copy, tmp_path, "vae", "not a complete safetensors file")
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


def test_damaged_shards_are_refused_in_one_line(pipeline, tmp_path):
    """If this fails, one lost shard of many ends in a traceback, or in a model with holes."""
    source = tmp_path / "svd"
    pipeline.save_pretrained(source, max_shard_size="4MB")
    (index,) = (source / "unet").glob("*.index.json")
    shards = sorted((source / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    whole = shards[-1].read_bytes()
    shutil.copy(shards[0], shards[-1])
    _refused(source, tmp_path, "not in their shards")
    shards[-1].unlink()
    _refused(source, tmp_path, shards[-1].name, "not found")
    shards[-1].write_bytes(whole)
    for text in ("{", "[]", '{"weight_map": []}', '{"weight_map": {"conv_in.bias": 3}}'):
        index.write_text(text)
        _refused(source, tmp_path, "not an index of shards")


def test_quantized_weights_are_refused_in_one_line(copy, tmp_path):
    """If this fails, the float8 files that exist for small GPUs end in a traceback."""
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    path = copy / FILES["vae"]
    tensors = safetensors_torch.load_file(path)
    tensors["quant_conv.bias"] = tensors["quant_conv.bias"].to(torch.float8_e4m3fn)
    safetensors_torch.save_file(tensors, path)
    _refused(copy, tmp_path, "F8_E4M3", "float16")


@pytest.mark.parametrize(
    "change",
    [
        {"prediction_type": "epsilon"},
        {"timestep_spacing": "trailing"},
        {"final_sigmas_type": "sigma_min"},
        {"sigma_max": None},
        {"sigma_min": 0.0},
        {"sigma_min": 900.0},
    ],
)
def test_another_schedule_is_refused(copy, tmp_path, change):
    """If this fails, a model that was trained for other noise is sampled with SVD's."""
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    _refused(copy, tmp_path, *change)


def test_a_value_beyond_float16_is_refused(model_folder, tmp_path):
    """If this fails, weights become infinite on the way out."""
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    tensors = load_file(broken / "vae.safetensors")
    tensors["quant_conv.bias"] = tensors["quant_conv.bias"] + np.float32(1e5)
    save_file(tensors, broken / "vae.safetensors")
    with pytest.raises(ValueError, match="quant_conv.bias.*does not fit float16"):
        flax_to_svd(broken, tmp_path / "out", "diffusers", "float16")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_conversion_cut_short_leaves_nothing(folder, tmp_path, monkeypatch, written):
    """If this fails, half a model is later loaded as a whole one."""
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
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda *_, **__: None)
    assert command(svd_to_flax_main.main, "--source", folder, "--output", output) == 130
    (partial,) = tmp_path.iterdir()
    assert partial.name == ".model.partial" and not (partial / "provenance.json").exists()
    with pytest.raises(ValueError, match="not a checkpoint folder"):
        load_model(partial)
