"""Whole models through the converter, on small ones that diffusers and transformers wrote."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from palette_vc_jax.checkpoint import Checkpoints
from palette_vc_jax.commands import flax_to_svd as flax_to_svd_main
from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.models.functional import flatten
from palette_vc_jax.models.store import load_model
from palette_vc_jax.training import export
from palette_vc_jax.training.config import base, read
from tests.commands import command
from tests.parity.conftest import CONFIG, FILES, same


def test_every_tensor_arrives_where_the_table_says(model_folder, unet, vae, clip):
    """If this fails, a converted model is not the one whose blocks were compared with PyTorch."""
    model = load_model(model_folder)
    for name, pair in (("unet", unet), ("vae", vae), ("image_encoder", clip)):
        assert getattr(model.config, name) == pair.config
        same(flatten(model.params[name]), flatten(pair.params))
    assert (model.config.sampling.sigma_min, model.config.sampling.sigma_max) == (0.002, 700.0)
    record = json.loads((model_folder / "provenance.json").read_text())
    assert set(record["sha256"]) == set(FILES.values())
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in record["sha256"].values())


def test_diffusers_round_trip_is_bit_equal_and_loads(model_folder, folder, tmp_path):
    """If this fails, a model that was fine-tuned here cannot be loaded in diffusers."""
    diffusers = pytest.importorskip("diffusers")
    flax_to_svd(model_folder, tmp_path / "back", "diffusers")
    for name in FILES.values():
        same(load_file(tmp_path / "back" / name), load_file(folder / name))
    loaded = diffusers.StableVideoDiffusionPipeline.from_pretrained(tmp_path / "back")
    assert loaded.scheduler.config.sigma_max == 700.0
    palette = load_file(tmp_path / "back" / "palette_embedding.safetensors")
    assert palette["weight"].shape == (64, 15) and not palette["weight"].any()


@pytest.mark.parametrize("form", ["half", "sharded"])
def test_half_precision_and_shards_are_read(form, pipeline, folder, tmp_path):
    """If this fails, only one of the ways in which these models are published can be read."""
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
    """If this fails, the small checkpoint is more than a rounding away from the large one."""
    svd_to_flax(folder, tmp_path / "model", "bfloat16")
    small, large = (load_file(f / "unet.safetensors") for f in (tmp_path / "model", model_folder))
    for name, array in large.items():
        assert small[name].dtype.name == "bfloat16"
        np.testing.assert_array_equal(small[name], array.astype(small[name].dtype))


def test_a_run_goes_back_by_its_average_or_its_newest_weights(
    model_folder, folder, tmp_path, monkeypatch
):
    """If this fails, a run cannot be converted to diffusers before its end."""
    monkeypatch.setitem(PRESETS, "small", lambda: CONFIG)
    model = load_model(model_folder)
    trained = {name: model.params[name] for name in ("unet", "image_encoder")}
    raw, average = (jax.tree.map(lambda x, f=f: f * x, trained) for f in (2.0, 0.5))
    config = base()
    config.update(model="small", vae=str(model_folder), init_from="")
    run = tmp_path / "run"
    run.mkdir()
    checkpoints = Checkpoints(run / "checkpoints")
    state = {"params": raw, "ema": average, "step": np.array(7)}
    checkpoints.save(7, state, {"origin": export.origin(read(config))})
    checkpoints.close()
    (run / "config.json").write_text(config.to_json_best_effort())
    before = load_file(folder / FILES["unet"])
    for weights, factor in (("ema", 0.5), ("raw", 2.0)):
        out = tmp_path / weights
        flags = ["--source", run, "--output", out, "--weights", weights]
        assert command(flax_to_svd_main.main, *flags) == 0
        same(load_file(out / FILES["unet"]), {k: factor * v for k, v in before.items()})
        same(load_file(out / FILES["vae"]), load_file(folder / FILES["vae"]))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "ema", "raw"}
