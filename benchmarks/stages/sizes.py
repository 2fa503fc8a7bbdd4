"""The sizes that the stages `unet`, `train` and `clip` measure: SVD's, or a toy's."""

import dataclasses
from typing import NamedTuple

from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.config import ImageEncoderConfig, ModelConfig, UNetConfig, VAEConfig


class Sizes(NamedTuple):
    """A model, the clips that it sees, and how often a call is timed."""

    model: ModelConfig
    frames: tuple[int, ...]  # of a clip; the first is the model's own
    height: int  # pixels
    width: int
    repeats: int

    @property
    def latents(self) -> tuple[int, int]:
        """Height and width of the latents."""
        scale = self.model.vae.downscale
        return self.height // scale, self.width // scale


FULL = Sizes(model_config.svd(), (14, 25), 576, 1024, 10)
# diffusers builds 32 norm groups only, and resizes to 224 pixels whatever the image encoder.
TOY = Sizes(
    dataclasses.replace(
        model_config.svd(),
        name="toy",
        unet=UNetConfig(
            block_out_channels=(32,),
            attention=(False,),
            num_attention_heads=(1,),
            layers_per_block=1,
            cross_attention_dim=32,
            addition_time_embed_dim=8,
        ),
        vae=VAEConfig(block_out_channels=(32,), layers_per_block=1),
        image_encoder=ImageEncoderConfig(32, 64, 1, 2, 224, 56, 32),
        sampling=dataclasses.replace(
            model_config.svd().sampling, short_side=8, window=2, overlap=1, steps=2
        ),
    ),
    (2,),
    8,
    8,
    1,
)


def choose(toy: bool) -> Sizes:
    """Return the sizes of a run."""
    return TOY if toy else FULL
