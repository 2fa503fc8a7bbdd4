"""The conversion table: axis orders, completeness, messages. Needs no torch."""

from types import SimpleNamespace

import numpy as np
import pytest

from palette_vc_jax.conversion.clip import POSITIONS, image_encoder_table
from palette_vc_jax.conversion.table import Entry, Table, build_table, to_flax, to_torch
from palette_vc_jax.conversion.unet import unet_table
from palette_vc_jax.conversion.vae import vae_table
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import demo
from palette_vc_jax.models.functional import flatten, init, nest, shapes
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE

SHAPES = {
    "blocks.0.proj.kernel": (3, 5),
    "blocks.0.proj.bias": (5,),
    "conv.kernel": (3, 2, 4, 6),
    "time.conv.kernel": (3, 1, 1, 4, 6),
    "norm.scale": (4,),
    "positions.embedding": (7, 4),
    "mixer.mix_factor": (1,),
    "class_embedding": (4,),
}
TORCH = {
    "blocks.0.proj.weight": (5, 3),
    "blocks.0.proj.bias": (5,),
    "conv.weight": (6, 4, 3, 2),
    "time.conv.weight": (6, 4, 3, 1, 1),
    "norm.weight": (4,),
    "positions.weight": (7, 4),
    "mixer.mix_factor": (1,),
    "class_embedding": (4,),
}


def _table(**options):
    shaped = {path: SimpleNamespace(shape=shape) for path, shape in SHAPES.items()}
    return build_table("net", shaped, **options)


def _tensors():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in TORCH.items()}


def test_names_and_shapes():
    """If this fails, a leaf gets another name, or a kernel's axes another order."""
    table = _table()
    assert {entry.torch: entry.torch_shape for entry in table.entries} == TORCH
    kinds = {entry.flax: entry.kind for entry in table.entries}
    assert kinds["conv.kernel"] == "conv" and kinds["time.conv.kernel"] == "temporal_conv"
    assert kinds["blocks.0.proj.kernel"] == "linear" and kinds["norm.scale"] == "same"


def test_axes_go_where_they_belong():
    """If this fails, an element moves to another place; shapes alone do not show it."""
    tensors = _tensors()
    flat = flatten(to_flax(_table(), tensors))
    assert flat["blocks.0.proj.kernel"][1, 4] == tensors["blocks.0.proj.weight"][4, 1]
    assert flat["conv.kernel"][2, 1, 3, 5] == tensors["conv.weight"][5, 3, 2, 1]
    assert flat["time.conv.kernel"][2, 0, 0, 3, 5] == tensors["time.conv.weight"][5, 3, 2, 0, 0]
    assert np.array_equal(flat["positions.embedding"], tensors["positions.weight"])
    assert all(array.flags.c_contiguous for array in flat.values())


def test_round_trip_is_exact():
    """If this fails, converting back does not undo the conversion."""
    tensors = _tensors()
    back = to_torch(_table(), to_flax(_table(), tensors))
    assert set(back) == set(tensors)
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)
    assert all(array.flags.c_contiguous for array in back.values())


def test_missing_unknown_and_misshaped_tensors_are_named():
    """If this fails, a checkpoint of another network is accepted, whole or in part."""
    table, tensors = _table(), _tensors()
    with pytest.raises(ValueError, match="1 missing: norm.weight"):
        to_flax(table, {k: v for k, v in tensors.items() if k != "norm.weight"})
    with pytest.raises(ValueError, match="5 unknown: x0, x1, x2, x3, x4[.]") as error:
        to_flax(table, tensors | {f"x{i}": np.zeros(1) for i in range(5)})
    assert "\n" not in str(error.value)
    # As many elements in another order: a reshape would hide it.
    with pytest.raises(ValueError, match=r"blocks.0.proj.weight has shape \(3, 5\).*\(5, 3\)"):
        to_flax(table, tensors | {"blocks.0.proj.weight": np.zeros((3, 5))})


def test_missing_unknown_and_misshaped_parameters_are_named():
    """If this fails, a state dict is written that torch would refuse or fill only in part."""
    table = _table()
    params = to_flax(table, _tensors())
    with pytest.raises(ValueError, match="missing: conv.kernel"):
        to_torch(table, {k: v for k, v in params.items() if k != "conv"})
    with pytest.raises(ValueError, match="unknown: extra.bias"):
        to_torch(table, params | {"extra": {"bias": np.zeros(1)}})
    with pytest.raises(ValueError, match="norm.scale has shape"):
        to_torch(table, params | {"norm": {"scale": np.zeros(5)}})


def test_optional_tensors_and_buffers():
    """If this fails, a published UNet is refused for its lack of a palette layer."""
    name = "blocks.0.proj.bias"
    table = _table(zero_if_absent=[name], buffers=["ids"])
    tensors = _tensors()
    absent = {k: v for k, v in tensors.items() if k != name} | {"ids": np.arange(3)}
    assert not flatten(to_flax(table, absent))[name].any()
    assert np.array_equal(flatten(to_flax(table, tensors))[name], tensors[name])
    assert "ids" not in to_torch(table, to_flax(table, absent))


def test_a_table_has_every_name_once():
    """If this fails, two parameters could be filled from one tensor."""
    entry = Entry("a.weight", "a.scale", "same", (1,))
    with pytest.raises(ValueError, match="torch names occur twice: a.weight"):
        Table("net", (entry, entry._replace(flax="a.embedding")))
    with pytest.raises(ValueError, match="flax names occur twice: a.scale"):
        Table("net", (entry, entry._replace(torch="b.weight")))
    with pytest.raises(ValueError, match="2, 4 or 5 axes, not 3"):
        build_table("net", {"a.kernel": SimpleNamespace(shape=(1, 2, 3))})


@pytest.mark.parametrize(
    "module, section, make_table",
    [
        (UNet, "unet", unet_table),
        (VAE, "vae", vae_table),
        (ImageEncoder, "image_encoder", image_encoder_table),
    ],
)
def test_demo_model_makes_the_round_trip(module, section, make_table):
    """If this fails, a trained model, with a palette layer, cannot be converted and back."""
    config = getattr(demo(), section)
    table = make_table(shapes(module, config))
    rng = np.random.default_rng(0)
    params = {
        path: rng.standard_normal(leaf.shape).astype("f4")
        for path, leaf in shapes(module, config).items()
    }
    flat = flatten(to_flax(table, to_torch(table, nest(params))))
    assert set(flat) == set(params)
    assert all(np.array_equal(flat[path], params[path]) for path in params)


def test_nested_keys_are_those_of_the_models():
    """If this fails, converted parameters could not be applied: list indices must be strings."""
    config = demo().image_encoder
    params = init(ImageEncoder, config, seed=0)
    table = image_encoder_table(shapes(ImageEncoder, config))
    tensors = to_torch(table, params) | {POSITIONS: np.arange(65)[None]}
    again = to_flax(table, tensors)
    assert set(flatten(again)) == set(flatten(params))
    assert set(again["vision_model"]["encoder"]["layers"]) == {"0", "1", "2", "3"}
