"""The published sizes: every tensor of SVD has its place, and every place its tensor.

Nothing is allocated: torch builds on its meta device, JAX by abstract evaluation.
"""

import math

import pytest

from palette_vc_jax.conversion.clip import image_encoder_table, write_image_encoder_config
from palette_vc_jax.conversion.unet import PALETTE, unet_table, write_unet_config
from palette_vc_jax.conversion.vae import vae_table, write_vae_config
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import svd, svd_xt
from palette_vc_jax.models.functional import shapes
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE

torch = pytest.importorskip("torch", reason="parity needs torch")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers")
transformers = pytest.importorskip("transformers", reason="parity needs transformers")


def _unet(model):
    values = write_unet_config(model.unet, num_frames=model.sampling.window)
    network = diffusers.UNetSpatioTemporalConditionModel.from_config(values)
    return network, unet_table(shapes(UNet, model.unet))


def _vae(model):
    network = diffusers.AutoencoderKLTemporalDecoder.from_config(write_vae_config(model.vae))
    return network, vae_table(shapes(VAE, model.vae))


def _clip(model):
    config = transformers.CLIPVisionConfig(**write_image_encoder_config(model.image_encoder))
    network = transformers.CLIPVisionModelWithProjection(config)
    return network, image_encoder_table(shapes(ImageEncoder, model.image_encoder))


@pytest.mark.parametrize("preset", [svd, svd_xt])
@pytest.mark.parametrize(
    "build, numbers, tensors",
    [(_unet, 1_524_623_082, 1_428), (_vae, 97_742_847, 374), (_clip, 632_076_800, 520)],
)
def test_table_covers_the_published_network(preset, build, numbers, tensors):
    """If this fails, a real checkpoint cannot be read whole, or a parameter stays random."""
    with torch.device("meta"):
        network, table = build(preset())
    published = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    covered = {entry.torch: entry.torch_shape for entry in table.entries}
    for name in PALETTE:
        covered.pop(name, None)
    assert covered == published
    assert len(covered) == tensors
    assert sum(math.prod(shape) for shape in covered.values()) == numbers


def test_palette_layer_is_all_that_is_added():
    """If this fails, the full-size network has parameters that SVD's weights do not fill."""
    table = unet_table(shapes(UNet, svd().unet))
    added = {entry.flax: entry.shape for entry in table.entries if entry.torch in PALETTE}
    assert added == {"palette_embedding.kernel": (15, 320), "palette_embedding.bias": (320,)}
    assert table.zero_if_absent == set(PALETTE)
