"""Write an SVD of random weights as diffusers and transformers write theirs.

`python tests/parity/random_svd.py --output SVD` makes one of the full size (9 GB, 4.5 with
`--dtype float16`), to convert and to check where the gated weights are not at hand.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from palette_vc_jax.conversion import clip, unet, vae
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.config import ImageEncoderConfig, ModelConfig, UNetConfig, VAEConfig


def make_unet(config: UNetConfig, seed: int, num_frames: int = 14) -> Any:
    """Make diffusers' UNet with random weights."""
    kind = diffusers.UNetSpatioTemporalConditionModel
    return randomized(kind.from_config(unet.write_unet_config(config, num_frames)), seed)


def make_vae(config: VAEConfig, seed: int) -> Any:
    """Make diffusers' VAE with random weights."""
    kind = diffusers.AutoencoderKLTemporalDecoder
    return randomized(kind.from_config(vae.write_vae_config(config)), seed)


def make_image_encoder(config: ImageEncoderConfig, seed: int) -> Any:
    """Make transformers' CLIP tower with random weights."""
    values = transformers.CLIPVisionConfig(**clip.write_image_encoder_config(config))
    return randomized(transformers.CLIPVisionModelWithProjection(values), seed)


def make_pipeline(config: ModelConfig) -> diffusers.StableVideoDiffusionPipeline:
    """Make diffusers' pipeline with SVD's scheduler and three random networks."""
    return assemble(
        make_unet(config.unet, 1, config.sampling.window),
        make_vae(config.vae, 3),
        make_image_encoder(config.image_encoder, 4),
    )


def assemble(unet: Any, vae: Any, image_encoder: Any) -> diffusers.StableVideoDiffusionPipeline:
    """Put three networks into a pipeline with SVD's published scheduler."""
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", sigma_min=0.002,
        sigma_max=700.0, prediction_type="v_prediction", timestep_type="continuous",
        use_karras_sigmas=True, timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    return diffusers.StableVideoDiffusionPipeline(
        vae, image_encoder, unet, scheduler, transformers.CLIPImageProcessor()
    )


def randomized(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Fill a model with weights under which every part of it shows in the output.

    Weights are scaled by fan-in; norm scales, biases and mix factors are far from the values
    that they start with in training.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            noise = torch.randn(weight.shape, generator=generator)
            matrix = weight.ndim > 1 and not isinstance(module, torch.nn.Embedding)
            if name == "weight" and isinstance(module, norms):
                value = 1 + 0.3 * noise
            elif name == "weight" and matrix:
                value = noise / weight[0].numel() ** 0.5
            elif name == "mix_factor":
                value = 1.5 * noise
            else:  # biases, class and position embeddings
                value = 0.3 * noise
            weight.data.copy_(value)
    return model.eval()


def main() -> None:
    """Read the flags and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", required=True, type=Path, help="folder to write")
    add("--preset", default="svd_xt", choices=["svd", "svd_xt"], help="whose shapes")
    add("--dtype", default="float32", choices=["float32", "float16"], help="of the weights")
    options = parser.parse_args()
    pipe = make_pipeline(model_config.PRESETS[options.preset]())
    if options.dtype == "float16":
        pipe.to(torch.float16).save_pretrained(options.output, variant="fp16")
    else:
        pipe.save_pretrained(options.output)
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
