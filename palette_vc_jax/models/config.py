"""What every network is built from: frozen dataclasses, and the presets `svd`, `svd_xt`, `demo`.

The values of SVD are those of the published `config.json` files; a converted or trained
checkpoint carries all of them in its own `config.json`, so nothing is guessed when it is read.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

REFERENCES = ("gray", "color", "none")  # what the image tower can be trained with
# Fields that were added after config.json files had been written: these may lack them.
ADDED = {"sampling": {"reference"}}


def check_conditioning(fps: float, motion_bucket: float, noise_augmentation: float) -> None:
    """Check SVD's micro-conditioning; raises ValueError for the first number out of range."""
    limits = {
        "fps": (fps, 0, 1000),
        "motion_bucket": (motion_bucket, 0, 255),
        "noise_augmentation": (noise_augmentation, 0, 1),
    }
    for name, (value, least, most) in limits.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not least <= value <= most:
            raise ValueError(f"{name}={value!r}; give a number from {least} to {most}.")


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of the spatiotemporal UNet (diffusers: UNetSpatioTemporalConditionModel)."""

    latent_channels: int = 4  # of the VAE; the input has twice as many: [noisy, grey]
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # width of each level
    attention: tuple[bool, ...] = (True, True, True, False)  # transformers at this level?
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)  # head size = width / heads
    layers_per_block: int = 2  # residual blocks a level; the way up has one more
    cross_attention_dim: int = 1024  # width of the image embedding
    addition_time_embed_dim: int = 256  # sinusoid width of fps, motion and noise augmentation
    norm_groups: int = 32
    # diffusers builds its spatiotemporal blocks with two different epsilons.
    norm_eps: float = 1e-6  # residual blocks of levels with attention, all of the way up
    deep_norm_eps: float = 1e-5  # residual blocks of attention-free down levels, of the middle
    palette_colors: int = 5


@dataclass(frozen=True)
class VAEConfig:
    """Architecture of the VAE (diffusers: AutoencoderKLTemporalDecoder)."""

    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)  # halved between the levels
    layers_per_block: int = 2  # residual blocks a level; the decoder has one more
    norm_groups: int = 32
    scaling_factor: float = 0.18215  # latents * this have unit scale

    @property
    def downscale(self) -> int:
        """Pixels a latent, along each side."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Architecture of the CLIP vision tower (transformers: CLIPVisionModelWithProjection)."""

    hidden_size: int = 1280
    intermediate_size: int = 5120
    layers: int = 32
    heads: int = 16
    image_size: int = 224  # pixels a side
    patch_size: int = 14  # pixels a side
    projection_dim: int = 1024


@dataclass(frozen=True)
class SamplingConfig:
    """What a model was trained for: the sampler's defaults.

    Raises ValueError on construction as `check_conditioning`, and for an unknown reference.
    """

    short_side: int = 576  # pixels of the model's pictures
    num_frames: int = 14  # frames a window
    overlap: int = 4  # frames shared by neighboring windows
    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    solver: str = "euler"
    noise_share: float = 0.0  # of the noise's variance, one picture for all frames
    guidance_scale: float = 1.0
    fps: int = 6  # the value sent to the network (SVD: frames per second - 1)
    motion_bucket: int = 127
    noise_augmentation: float = 0.0  # deviation of noise on the gray pixels, in [-1, 1]
    reference: str = "gray"  # what the image tower mostly saw: a name in REFERENCES

    def __post_init__(self):
        check_conditioning(self.fps, self.motion_bucket, self.noise_augmentation)
        if self.reference not in REFERENCES:
            raise ValueError(
                f"sampling.reference={self.reference!r}; use one of {', '.join(REFERENCES)}."
            )


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: three networks and the settings they were trained for."""

    name: str
    unet: UNetConfig = UNetConfig()
    vae: VAEConfig = VAEConfig()
    image_encoder: ImageEncoderConfig = ImageEncoderConfig()
    sampling: SamplingConfig = SamplingConfig()

    @property
    def pixel_multiple(self) -> int:
        """Pixel sides are multiples of this: the VAE's downscale times the UNet's."""
        return self.vae.downscale * 2 ** (len(self.unet.block_out_channels) - 1)


def svd() -> ModelConfig:
    """Stable Video Diffusion, 14 frames of 1024x576."""
    return ModelConfig("svd")


def svd_xt() -> ModelConfig:
    """SVD-XT and SVD-XT 1.1: the same networks, trained on 25 frames."""
    return ModelConfig("svd_xt", sampling=SamplingConfig(num_frames=25, overlap=6))


def demo() -> ModelConfig:
    """The small model bundled with the package: SVD's blocks, narrow, for two CPU cores."""
    return ModelConfig(
        "demo",
        unet=UNetConfig(
            latent_channels=8,
            block_out_channels=(96, 128, 160),
            attention=(False, True, False),
            num_attention_heads=(1, 2, 2),
            layers_per_block=1,
            cross_attention_dim=128,
            addition_time_embed_dim=32,
            norm_groups=8,
        ),
        vae=VAEConfig(
            latent_channels=8,
            block_out_channels=(32, 64, 96),
            layers_per_block=1,
            norm_groups=4,
            scaling_factor=1.0,  # unit scale is folded into quant_conv after training
        ),
        image_encoder=ImageEncoderConfig(
            hidden_size=128,
            intermediate_size=512,
            layers=3,
            heads=4,
            image_size=64,
            patch_size=8,
            projection_dim=128,
        ),
        sampling=SamplingConfig(
            # Two steps stay near the mean of what the model holds possible, which is steadier
            # and more often right than one sample; guidance gives back the colorfulness.
            short_side=80,
            num_frames=6,
            overlap=4,
            steps=2,
            sigma_min=10.0,
            sigma_max=100.0,
            noise_share=1.0,
            guidance_scale=1.7,
        ),
    )


PRESETS = {"svd": svd, "svd_xt": svd_xt, "demo": demo}


def to_dict(config: ModelConfig) -> dict[str, Any]:
    """Turn a config into plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> ModelConfig:
    """Rebuild a config from JSON values; fields of `ADDED` may be missing.

    Raises ValueError naming the first section or key that is missing or unknown.
    """
    sections = {
        "unet": UNetConfig,
        "vae": VAEConfig,
        "image_encoder": ImageEncoderConfig,
        "sampling": SamplingConfig,
    }
    wrong = set(values) ^ (set(sections) | {"name"})
    if wrong:
        raise ValueError(f"model config: unknown or missing sections {sorted(wrong)}.")
    built = {name: _section(cls, name, values[name]) for name, cls in sections.items()}
    return ModelConfig(values["name"], **built)


def _section(cls: type, name: str, values: dict[str, Any]) -> Any:
    wrong = set(values) ^ {field.name for field in dataclasses.fields(cls)}
    wrong -= ADDED.get(name, set()) - set(values)
    if wrong:
        raise ValueError(f"model config: section {name!r} has unknown or missing {sorted(wrong)}.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
