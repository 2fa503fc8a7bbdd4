"""Random torch models, their converted twins, and how outputs are compared.

A torch model is built from a config, filled with random weights, saved as its library saves it,
and read back through the package's converter: what is compared is what a user would get.
"""

import functools
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from palette_vc_jax.conversion import clip as clip_conversion
from palette_vc_jax.conversion import unet as unet_conversion
from palette_vc_jax.conversion import vae as vae_conversion
from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.conversion.table import Table, to_flax
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ImageEncoderConfig, ModelConfig, UNetConfig, VAEConfig
from palette_vc_jax.models.functional import abstract, flatten, shapes
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE

UNET = UNetConfig(
    block_out_channels=(64, 128),
    attention=(True, False),
    num_attention_heads=(2, 4),
    cross_attention_dim=48,
    addition_time_embed_dim=32,
)
# Transformers at the coarse level only: the other pairing of block types and norm epsilons.
OTHER_UNET = UNetConfig(
    block_out_channels=(64, 128),
    attention=(False, True),
    num_attention_heads=(1, 4),
    layers_per_block=1,
    cross_attention_dim=48,
    addition_time_embed_dim=32,
)
VAE_CONFIG = VAEConfig(block_out_channels=(64, 128), scaling_factor=0.18215)
CLIP = ImageEncoderConfig(
    hidden_size=64,
    intermediate_size=160,
    layers=3,
    heads=4,
    image_size=224,  # what the pipeline resizes to, whatever the tower
    patch_size=32,
    projection_dim=48,
)
CONFIG = ModelConfig("svd", UNET, VAE_CONFIG, CLIP)
FILES = {  # of diffusers' folder
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "image_encoder": "image_encoder/model.safetensors",
}


class Pair(NamedTuple):
    """One network on both sides."""

    torch: Any  # torch module, eval mode
    flax: nnx.Module  # with the converted parameters
    asked: Any  # the config that the torch model was built from
    config: Any  # the config that was read from its file
    params: dict[str, Any]
    table: Table
    tensors: dict[str, np.ndarray]  # the file's contents

    def both(self, path: str) -> tuple[Any, Any]:
        """Return the submodule at `path` of both sides."""
        module = self.flax
        for key in path.split("."):
            module = module[int(key)] if key.isdigit() else getattr(module, key)
        return self.torch.get_submodule(path), module


@pytest.fixture(scope="session", autouse=True)
def full_precision():
    """Keep matrix products in fp32 where the device's default is less."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="session")
def unet(tmp_path_factory) -> Pair:
    """UNet, 64 and 128 wide, with transformers at the fine level."""
    return _unet(UNET, 1, tmp_path_factory)


@pytest.fixture(scope="session")
def other_unet(tmp_path_factory) -> Pair:
    """UNet with transformers at the coarse level."""
    return _unet(OTHER_UNET, 2, tmp_path_factory)


@pytest.fixture(scope="session")
def vae(tmp_path_factory) -> Pair:
    """VAE, 64 and 128 wide."""
    random_svd = pytest.importorskip("tests.parity.random_svd", reason="parity needs diffusers")
    return _pair(
        random_svd.make_vae(VAE_CONFIG, 3),
        VAE_CONFIG,
        "diffusion_pytorch_model",
        tmp_path_factory.mktemp("vae"),
        lambda read: VAEConfig(**vae_conversion.read_vae_config(read)),
        VAE,
        vae_conversion.vae_table,
    )


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Pair:
    """CLIP vision tower of three layers, for pictures of 224 pixels a side."""
    random_svd = pytest.importorskip("tests.parity.random_svd", reason="parity needs diffusers")
    return _pair(
        random_svd.make_image_encoder(CLIP, 4),
        CLIP,
        "model",
        tmp_path_factory.mktemp("clip"),
        lambda read: ImageEncoderConfig(**clip_conversion.read_image_encoder_config(read)),
        ImageEncoder,
        clip_conversion.image_encoder_table,
    )


@pytest.fixture(scope="session")
def pipeline(unet, vae, clip):
    """Put the three random networks into diffusers' pipeline."""
    random_svd = pytest.importorskip("tests.parity.random_svd", reason="parity needs diffusers")
    return random_svd.assemble(unet.torch, vae.torch, clip.torch)


@pytest.fixture(scope="session")
def folder(pipeline, tmp_path_factory):
    """Save the pipeline as its library does."""
    path = tmp_path_factory.mktemp("pipeline") / "svd"
    pipeline.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def model_folder(folder, tmp_path_factory):
    """Convert the pipeline."""
    path = tmp_path_factory.mktemp("converted") / "model"
    svd_to_flax(folder, path)
    return path


@pytest.fixture(scope="session")
def sgm_file(model_folder, tmp_path_factory):
    """Write the model as SGM's single file."""
    path = tmp_path_factory.mktemp("sgm") / "out"
    flax_to_svd(model_folder, path, "sgm")
    return next(p for p in path.glob("*.safetensors") if "palette" not in p.name)


@pytest.fixture(scope="session")
def run():
    """Return `run(module, *arrays, call=...)`: `call(module, *arrays)` under jit, as numpy.

    One `call` on modules of one kind compiles once.
    """

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def jitted(call, graphdef, state, *arrays):
        return call(nnx.merge(graphdef, state), *arrays)

    def run_jitted(module, *arrays, call=_call):
        result = jitted(call, *nnx.split(module), *arrays)
        return jax.tree.map(np.asarray, result)

    return run_jitted


@pytest.fixture(scope="session")
def torch_call():
    """Return `torch_call(function, *arrays)`: numpy in and out, no gradients."""
    torch = pytest.importorskip("torch")

    def call(function, *arrays):
        with torch.no_grad():
            result = function(*(torch.from_numpy(np.array(array)) for array in arrays))
        return jax.tree.map(lambda tensor: tensor.numpy(), result)

    return call


@pytest.fixture(scope="session")
def check():
    """Return `check(ours, theirs, limit)`: equal shapes, and a small relative difference."""

    def compare(ours, theirs, limit):
        assert ours.shape == theirs.shape
        assert np.isfinite(theirs).all()
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        print(f"relative error {error:.1e}")
        assert error <= limit, f"error {error:.1e} is beyond {limit:.0e}"

    return compare


def same(left, right):
    """Fail unless both have the same names and the same numbers."""
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def _call(module, *arrays):
    return module(*arrays)


def _unet(config: UNetConfig, seed: int, tmp_path_factory) -> Pair:
    random_svd = pytest.importorskip("tests.parity.random_svd", reason="parity needs diffusers")
    return _pair(
        random_svd.make_unet(config, seed),
        config,
        "diffusion_pytorch_model",
        tmp_path_factory.mktemp("unet"),
        lambda read: UNetConfig(**unet_conversion.read_unet_config(read)),
        UNet,
        unet_conversion.unet_table,
    )


def _pair(model, asked, stem, folder, read_config, module_class, make_table) -> Pair:
    """Save a torch model and bring it over as a user would."""
    model.save_pretrained(folder)
    tensors = load_file(folder / f"{stem}.safetensors")
    config = read_config(json.loads((folder / "config.json").read_text()))
    table = make_table(shapes(module_class, config))
    params = to_flax(table, tensors)
    flat = flatten(params)
    graphdef, state = abstract(module_class, config)
    filled = nnx.from_flat_state(
        {
            path: variable.replace(jax.numpy.asarray(flat[".".join(map(str, path))]))
            for path, variable in nnx.to_flat_state(state)
        }
    )
    return Pair(model, nnx.merge(graphdef, filled), asked, config, params, table, tensors)
