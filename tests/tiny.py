"""A model of SVD's blocks so small that a test compiles it in seconds, with random weights."""

import dataclasses
from pathlib import Path

import numpy as np

from palette_vc_jax.models import config as model_config
from palette_vc_jax.models import functional
from palette_vc_jax.models.store import NETWORKS, save_model
from palette_vc_jax.palette import gmm

CONFIG = dataclasses.replace(
    model_config.demo(),
    name="tiny",
    unet=model_config.UNetConfig(
        block_out_channels=(16, 16),
        attention=(False, True),
        num_attention_heads=(1, 2),
        layers_per_block=1,
        cross_attention_dim=8,
        addition_time_embed_dim=4,
        norm_groups=2,
    ),
    vae=model_config.VAEConfig(
        block_out_channels=(8, 8, 8), layers_per_block=1, norm_groups=2, scaling_factor=1.0
    ),
    image_encoder=model_config.ImageEncoderConfig(8, 16, 1, 2, 16, 8, 8),
    sampling=dataclasses.replace(
        model_config.demo().sampling,
        short_side=16,
        window=4,
        overlap=1,
        steps=2,
        guidance_scale=1.0,
    ),
)


# One level of the UNet, with one transformer: a training step compiles in half the time.
SMALL = dataclasses.replace(
    CONFIG,
    unet=dataclasses.replace(
        CONFIG.unet, block_out_channels=(16,), attention=(False,), num_attention_heads=(2,)
    ),
)

# For tests that compile a training step in processes of their own: the VAE has one level too.
MICRO = dataclasses.replace(
    SMALL,
    name="micro",
    vae=dataclasses.replace(CONFIG.vae, block_out_channels=(8,)),
)


def write_model(folder: Path, config: model_config.ModelConfig = CONFIG) -> Path:
    """Write the model and a mixture."""
    save_model(folder, config, random_params(config))
    mixture = gmm.Mixture(np.ones(1), np.full((1, 3), 0.5), 0.05 * np.eye(3)[None])
    gmm.save(mixture, folder / "mixture.json")
    return folder


def random_params(config: model_config.ModelConfig = CONFIG) -> dict[str, functional.Params]:
    """Return parameters of each network; all are random, so that nothing is zero.

    numpy draws them: to compile the models' own initialization takes seconds.
    """
    rng = np.random.default_rng(0)
    return {
        name: functional.nest(
            {
                path: _random(path, leaf.shape, rng)
                for path, leaf in functional.shapes(module, getattr(config, name)).items()
            }
        )
        for name, module in NETWORKS.items()
    }


def _random(path: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    fan_in = max(1, int(np.prod(shape[:-1]))) if path.endswith("kernel") else 100
    return rng.normal(float(path.endswith("scale")), fan_in**-0.5, shape).astype(np.float32)
