"""There and back again: weights that went through the converter are the same bits."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palette_vc_jax.commands import svd_to_flax as svd_to_flax_main
from palette_vc_jax.conversion.source import PALETTE_FILE
from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.conversion.table import to_flax, to_torch
from palette_vc_jax.conversion.unet import PALETTE, write_unet_config
from palette_vc_jax.models.store import load_model, save_model, sha256
from tests.commands import command
from tests.parity.conftest import CONFIG, same

torch = pytest.importorskip("torch", reason="parity needs torch")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers")


@pytest.mark.parametrize("network", ["unet", "other_unet", "vae", "clip"])
def test_tensors_come_back_bit_for_bit(network, request):
    """If this fails, an axis order is not undone, or a tensor is lost or changed on the way."""
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
    """If this fails, a fp16 variant would be rewritten as something else on a round trip."""
    half = {name: tensor.astype(np.float16) for name, tensor in vae.tensors.items()}
    back = to_torch(vae.table, to_flax(vae.table, half))
    assert all(back[n].dtype == np.float16 and np.array_equal(back[n], half[n]) for n in half)


def test_diffusers_reads_what_comes_out(unet, tmp_path):
    """If this fails, a fine-tuned model cannot be converted to diffusers with its palette."""
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
    """If this fails, a value of config.json is lost, so that another network would be built."""
    pair = request.getfixturevalue(network)
    assert pair.config == pair.asked


@pytest.fixture(scope="module")
def trained(model_folder, tmp_path_factory):
    """Write the converted model with a palette layer that is not zero."""
    model = load_model(model_folder)
    layer = model.params["unet"]["palette_embedding"]
    rng = np.random.default_rng(5)
    layer |= {key: rng.normal(size=leaf.shape).astype(np.float32) for key, leaf in layer.items()}
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_model(folder, model.config, model.params)
    return folder


@pytest.fixture(params=["diffusers", "sgm"])
def there(request, trained, tmp_path):
    """Write the trained model in either form: (what to convert, the palette layer's file)."""
    folder = tmp_path / "there"
    flax_to_svd(trained, folder, request.param)
    source = folder if request.param == "diffusers" else folder / f"{CONFIG.name}.safetensors"
    return source, folder / PALETTE_FILE


def test_the_palette_layer_comes_back_bit_for_bit(trained, there, tmp_path):
    """If this fails, a trained palette layer is lost or changed in PyTorch's formats."""
    source, palette = there
    assert svd_to_flax(source, tmp_path / "back", config=CONFIG) == palette
    for name in ("unet", "vae", "image_encoder"):
        file = f"{name}.safetensors"
        same(load_file(tmp_path / "back" / file), load_file(trained / file))
    record = json.loads((tmp_path / "back" / "provenance.json").read_text())
    assert record["sha256"][PALETTE_FILE] == sha256(palette)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda layer: layer | {"weight": layer["weight"][:, :12]}, "weight has shape (64, 12)"),
        (lambda layer: {"weight": layer["weight"]}, "1 missing: bias"),
        (lambda layer: layer | {"scale": layer["bias"]}, "1 unknown: scale"),
        (None, "not a complete safetensors file"),
    ],
)
def test_a_damaged_palette_layer_is_refused_in_one_line(there, tmp_path, change, said):
    """If this fails, half a palette layer is converted, or is taken for none."""
    source, palette = there
    if change:
        layer = change(load_file(palette))
        save_file({name: np.ascontiguousarray(array) for name, array in layer.items()}, palette)
    else:
        palette.write_bytes(palette.read_bytes()[:-8])
    with pytest.raises(ValueError) as error:
        svd_to_flax(source, tmp_path / "back", config=CONFIG)
    assert str(palette) in str(error.value) and said in str(error.value)
    assert "\n" not in str(error.value) and not (tmp_path / "back").exists()


def test_the_command_says_where_the_palette_layer_is_from(folder, trained, tmp_path, capsys):
    """If this fails, a user who forgets the file beside the networks is not told of it."""
    flax_to_svd(trained, tmp_path / "there", "diffusers")
    for source, said in (
        (folder, f"no palette layer next to {folder}: it starts at zero"),
        (tmp_path / "there", f"palette layer: {tmp_path / 'there' / PALETTE_FILE}"),
    ):
        output = tmp_path / f"from_{source.name}"
        assert command(svd_to_flax_main.main, "--source", source, "--output", output) == 0
        assert said in capsys.readouterr().out.splitlines()


def test_two_palette_layers_are_refused(trained, tmp_path):
    """If this fails, one of two palette layers is taken without a warning."""
    flax_to_svd(trained, tmp_path / "there", "diffusers")
    palette = load_file(tmp_path / "there" / PALETTE_FILE)
    path = tmp_path / "there" / "unet" / "diffusion_pytorch_model.safetensors"
    inside = {f"palette_embedding.{name}": array for name, array in palette.items()}
    save_file(load_file(path) | inside, path)
    with pytest.raises(ValueError, match="hold a palette layer too"):
        svd_to_flax(tmp_path / "there", tmp_path / "back")
    (tmp_path / "there" / PALETTE_FILE).unlink()
    assert svd_to_flax(tmp_path / "there", tmp_path / "back") == path
    same(load_file(tmp_path / "back" / "unet.safetensors"), load_file(trained / "unet.safetensors"))
