"""A model's `config.json`: every value is checked before anything is built from it."""

import copy
import json

import pytest

from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.functional import shapes
from palette_vc_jax.models.store import NETWORKS, load_config, load_model
from tests import tiny

WRONG = [None, "1", "", [], {}, [1], True, -1, 0, 1.5, 3, 1e400, float("nan"), 10**9, 10**400]


def write(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def fields(values):
    """List the paths of all values and sections."""
    yield ()
    for key, value in values.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, name) for name in value)


@pytest.mark.parametrize("path", list(fields(model_config.to_dict(tiny.CONFIG))), ids=str)
def test_any_wrong_value_is_refused_or_built(tmp_path, path):
    """If this fails, a damaged file ends in a traceback, or asks for a network without end."""
    for wrong in WRONG:
        values = copy.deepcopy(model_config.to_dict(tiny.CONFIG))
        place = values
        for key in path[:-1]:
            place = place[key]
        if path:
            place[path[-1]] = wrong
        else:
            values = wrong
        try:
            config = load_config(write(tmp_path, values))
        except ValueError as error:
            assert "config.json" in str(error) and "\n" not in str(error)
            assert len(str(error)) < 300 + len(str(tmp_path))
            continue
        assert type(wrong) in (int, float) or path[-1] in ("name", "solver")
        if path[0] in NETWORKS and path[-1] != "layers_per_block":  # which takes seconds
            shapes(NETWORKS[path[0]], getattr(config, path[0]))


def test_levels_without_bounds_are_refused(tmp_path):
    """If this fails, a small file makes each frame of a film fill the memory."""
    values = model_config.to_dict(tiny.CONFIG)
    values["vae"]["block_out_channels"] = [8] * 8
    values["unet"] |= {
        "block_out_channels": [16] * 8, "attention": [False] * 8, "num_attention_heads": [1] * 8
    }  # fmt: skip
    with pytest.raises(ValueError, match="multiples of 16384; 1024 is the most"):
        load_config(write(tmp_path, values))


@pytest.mark.parametrize("preset", ["svd", "svd_xt", "demo"])
def test_what_is_written_is_read(tmp_path, preset):
    """If this fails, the limits refuse a real model."""
    config = model_config.PRESETS[preset]()
    assert load_config(write(tmp_path, model_config.to_dict(config))) == config


@pytest.mark.parametrize("text", ["[" * 5000, '{"unet":' * 5000, "", "{", "\\xff", "9" * 5000])
def test_what_is_no_json_is_refused(tmp_path, text):
    """If this fails, a file that is nested too deeply ends in a traceback."""
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="config.json") as refused:
        load_config(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("section", "key"), [("vae", "latent_channels"), ("image_encoder", "projection_dim")]
)
def test_networks_that_do_not_fit_together_are_refused(tmp_path, section, key):
    """If this fails, a mixed-up model ends in a traceback after minutes of work."""
    values = model_config.to_dict(tiny.CONFIG)
    values[section][key] += 1
    with pytest.raises(ValueError, match=f"{section}.{key}.*must be equal"):
        load_model(write(tmp_path, values))


FIRST_VERSION = {  # the keys in config.json of version 0.1.0, under their present names
    "unet": "addition_time_embed_dim attention block_out_channels cross_attention_dim deep_norm_eps"
    " latent_channels layers_per_block norm_eps norm_groups num_attention_heads palette_colors",
    "vae": "block_out_channels latent_channels layers_per_block norm_groups scaling_factor",
    "image_encoder": "heads hidden_size image_size intermediate_size layers patch_size"
    " projection_dim",
    "sampling": "fps guidance_scale motion_bucket noise_augmentation overlap short_side"
    " shared_noise_fraction sigma_max sigma_min solver steps window",
}


def test_models_of_the_first_version_are_read():
    """If this fails, a field was added without a default for the model folders that lack it."""
    values = model_config.to_dict(model_config.svd())
    kept = {
        name: {key: value for key, value in values[name].items() if key in keys.split()}
        for name, keys in FIRST_VERSION.items()
    }
    assert model_config.from_dict({"name": values["name"], **kept}) == model_config.svd()


@pytest.mark.parametrize(
    ("old", "new"), [("noise_share", "shared_noise_fraction"), ("num_frames", "window")]
)
def test_a_field_under_its_earlier_name_is_read(old, new):
    """If this fails, model folders of earlier versions cannot be used."""
    values = model_config.to_dict(model_config.demo())
    values["sampling"][old] = values["sampling"].pop(new)
    assert model_config.from_dict(values) == model_config.demo()
