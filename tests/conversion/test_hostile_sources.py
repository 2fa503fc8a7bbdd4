"""Sources that ask for more than a model: endless networks, and files of other folders."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from palette_vc_jax.conversion.source import open_source
from palette_vc_jax.conversion.tensors import open_sharded
from tests.conversion.test_network_configs import CLIP, UNET, VAE


@pytest.mark.parametrize(
    ("network", "change"),
    [
        ("unet", {"layers_per_block": 10**9}),
        ("vae", {"layers_per_block": 10**9}),
        ("image_encoder", {"num_hidden_layers": 10**9}),
        ("image_encoder", {"image_size": 10**9}),
        ("unet", {"num_frames": 10**9}),
        ("unet", {"addition_time_embed_dim": 3, "projection_class_embeddings_input_dim": 9}),
    ],
)
def test_a_config_without_bounds_is_refused(tmp_path, network, change):
    """If this fails, a config of somebody else takes all memory."""
    for name, values in (("unet", UNET), ("vae", VAE), ("image_encoder", CLIP)):
        (tmp_path / name).mkdir()
        changed = values | (change if name == network else {})
        (tmp_path / name / "config.json").write_text(json.dumps(changed))
        stem = "model" if name == "image_encoder" else "diffusion_pytorch_model"
        save_file({"x": np.zeros(1)}, tmp_path / name / f"{stem}.safetensors")
    with pytest.raises(ValueError, match="config: .*allowed|must be even") as refused:
        open_source(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "a/b", "", "..", None])
def test_an_index_names_files_of_its_folder_only(tmp_path, place):
    """If this fails, a downloaded index makes other files of the machine be read."""
    (tmp_path / "model").mkdir()
    save_file({"x": np.zeros(1)}, tmp_path / "secret.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": place}}))
    with pytest.raises(ValueError, match="not an index of shards|regular file"):
        open_sharded(index)
