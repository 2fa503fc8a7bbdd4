"""What every network is built from: frozen dataclasses, and the presets `svd`, `svd_xt`, `demo`.

The values of SVD are those of the published `config.json` files; a converted or trained
checkpoint carries all of them in its own `config.json`, so nothing is guessed when it is read.
"""

import dataclasses
import numbers
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REFERENCES = ("gray", "color", "none")  # what the image tower can be trained with
TOKENS = ("class", "patches")  # CLIP's image embedding, as SVD has it, or one token per patch
# Fields that were added after config.json files had been written: these may lack them.
ADDED = {
    "sampling": {"reference", "decode_chunk", "palette_colorfulness"},
    "image_encoder": {"tokens"},
}
# Fields that config.json files of earlier versions have under another name: old -> new.
RENAMED = {"sampling": {"noise_share": "shared_noise_fraction", "num_frames": "window"}}


CONDITIONING = {"fps": (0, 1000), "motion_bucket": (0, 255), "noise_augmentation": (0, 1)}


def check_limits(settings: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Check fields of the dataclass `settings` against the least and most of each.

    Raises:
        ValueError: naming the first that is not of its type or not in its range.
    """
    kinds = typing.get_type_hints(type(settings))
    for name, (least, most) in limits.items():
        value, whole = getattr(settings, name), kinds[name] is int
        number = isinstance(value, numbers.Integral if whole else numbers.Real)
        if not number or isinstance(value, bool) or not least <= value <= most:  # type: ignore[operator]
            what = "a whole number" if whole else "a number"
            raise ValueError(f"{name}={str(value)[:40]}; give {what} from {least} to {most}.")


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of the spatiotemporal UNet (diffusers: UNetSpatioTemporalConditionModel)."""

    latent_channels: int = 4  # of the VAE; the input has twice as many: [noisy, gray]
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
    tokens: str = "class"  # what becomes the context: a name in TOKENS

    @property
    def context_length(self) -> int:
        """Tokens of the context, L."""
        return 1 if self.tokens == "class" else (self.image_size // self.patch_size) ** 2


NetworkConfig = UNetConfig | VAEConfig | ImageEncoderConfig


@dataclass(frozen=True)
class SamplingConfig:
    """What a model was trained for: the sampler's defaults.

    Raises ValueError on construction for numbers outside `CONDITIONING`, and for an unknown
    reference.
    """

    short_side: int = 576  # pixels of the model's pictures
    window: int = 14  # frames denoised together
    overlap: int = 4  # frames shared by neighboring windows
    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    solver: str = "euler"
    shared_noise_fraction: float = 0.0  # of the noise's variance, the same in all frames
    guidance_scale: float = 1.0
    fps: int = 6  # the value sent to the network (SVD: frames per second - 1)
    motion_bucket: int = 127
    noise_augmentation: float = 0.0  # deviation of noise on the gray pixels, in [-1, 1]
    reference: str = "gray"  # what the image tower mostly saw: a name in REFERENCES
    decode_chunk: int = 10  # frames that a device decodes together
    # Colorfulness of films under a palette, as a share of the palette's own.
    palette_colorfulness: float = 1.0

    def __post_init__(self) -> None:
        check_limits(self, CONDITIONING)
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
    return ModelConfig("svd_xt", sampling=SamplingConfig(window=25, overlap=6))


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
            hidden_size=192,
            intermediate_size=768,
            layers=4,
            heads=4,
            image_size=96,
            patch_size=12,
            projection_dim=128,
            tokens="patches",
        ),
        sampling=SamplingConfig(
            # Two steps stay near the mean of what the model holds possible, which is steadier
            # and more often right than one sample.
            short_side=112,
            window=8,
            overlap=1,
            steps=2,
            sigma_min=5.0,
            sigma_max=100.0,
            shared_noise_fraction=1.0,
            decode_chunk=18,  # of small frames; neighboring chunks share four
            palette_colorfulness=0.67,  # docs/benchmarks.md, "The automatic palette"
        ),
    )


# What a file may say, so that one that is damaged or hostile asks for no endless network.
MAX_LEVELS = 8
MAX_MULTIPLE = 1024  # pixels; frames have at least this size
DEFAULT_RANGES = {int: (1, 2**16), float: (0.0, 1e6)}
RANGES = {
    "layers_per_block": (1, 16),
    "layers": (1, 128),
    "palette_colors": (5, 5),
    "image_size": (1, 2**12),
    "norm_eps": (1e-12, 1.0),
    "deep_norm_eps": (1e-12, 1.0),
    "scaling_factor": (1e-6, 1e6),
    "overlap": (0, 2**16),
    "fps": (0, 2**16),
    "motion_bucket": (0, 2**16),
    "shared_noise_fraction": (0.0, 1.0),
    "palette_colorfulness": (0.1, 10.0),
}

PRESETS = {"svd": svd, "svd_xt": svd_xt, "demo": demo}


def to_dict(config: ModelConfig) -> dict[str, Any]:
    """Turn a config into plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(values: Any) -> ModelConfig:
    """Rebuild a config from JSON values; fields of `ADDED` may be missing.

    Raises:
        ValueError: naming the first section or key that is missing or unknown, of the wrong type,
            out of range, or that does not fit the others.
    """
    sections = {
        "unet": UNetConfig,
        "vae": VAEConfig,
        "image_encoder": ImageEncoderConfig,
        "sampling": SamplingConfig,
    }
    if not isinstance(values, dict):
        raise ValueError("model config: not a JSON object.")
    wrong = set(values) ^ (set(sections) | {"name"})
    if wrong:
        raise ValueError(f"model config: unknown or missing sections {sorted(wrong)}.")
    built = {name: _section(cls, name, values[name]) for name, cls in sections.items()}
    config = ModelConfig(_value("name", values["name"], str), **built)
    for fits, what in _conditions(config):
        if not fits:
            raise ValueError(f"model config: {what}.")
    return config


def check(config: ModelConfig) -> ModelConfig:
    """Return a config that was not read by `from_dict`; raise ValueError as it does."""
    return from_dict(to_dict(config))


def check_together(config: ModelConfig) -> None:
    """Raise ValueError unless the three networks of a config can work together."""
    unet, vae, tower = config.unet, config.vae, config.image_encoder
    for one, other, names in (
        (unet.latent_channels, vae.latent_channels, "unet.latent_channels, vae.latent_channels"),
        (
            unet.cross_attention_dim,
            tower.projection_dim,
            "unet.cross_attention_dim, image_encoder.projection_dim",
        ),
    ):
        if one != other:
            raise ValueError(f"model config: {names} = {one}, {other}; they must be equal.")


def _section(cls: type, name: str, values: Any) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"model config: section {name!r} is not a JSON object.")
    values = {RENAMED.get(name, {}).get(key, key): value for key, value in values.items()}
    wrong = set(values) ^ {field.name for field in dataclasses.fields(cls)}
    wrong -= ADDED.get(name, set()) - set(values)
    if wrong:
        raise ValueError(f"model config: section {name!r} has unknown or missing {sorted(wrong)}.")
    kinds = typing.get_type_hints(cls)
    return cls(**{key: _value(f"{name}.{key}", values[key], kinds[key]) for key in values})


def _value(where: str, value: Any, kind: Any) -> Any:
    """Return a JSON value as `kind`, or raise ValueError naming `where` it stands."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_LEVELS:
            raise ValueError(f"model config: {where} must be a list of 1 to {MAX_LEVELS} values.")
        return tuple(_value(where, item, typing.get_args(kind)[0]) for item in value)
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        raise ValueError(
            f"model config: {where} = {str(value)[:40]}; a value of type {kind.__name__} is needed."
        )
    if kind in DEFAULT_RANGES:
        low, high = RANGES.get(where.rpartition(".")[2], DEFAULT_RANGES[kind])
        if not low <= value <= high:
            raise ValueError(
                f"model config: {where} = {str(value)[:40]}; {low} to {high} is allowed."
            )
    return value


def _conditions(config: ModelConfig) -> list[tuple[bool, str]]:
    """List what must hold between the values: (whether it does, what it is)."""
    unet, vae, tower = config.unet, config.vae, config.image_encoder
    multiple = config.pixel_multiple
    levels = {len(unet.block_out_channels), len(unet.attention), len(unet.num_attention_heads)}
    heads = zip(unet.block_out_channels, unet.num_attention_heads, strict=False)
    return [
        (len(levels) == 1, "the lists of unet must be of one length"),
        (
            multiple <= MAX_MULTIPLE,
            f"the levels of vae and unet make pixel sides multiples of {multiple}; {MAX_MULTIPLE} "
            "is the most",
        ),
        (
            all(width % (2 * count) == 0 for width, count in heads),
            "unet.block_out_channels must be even multiples of unet.num_attention_heads",
        ),
        *(
            (
                all(width % part.norm_groups == 0 for width in part.block_out_channels),
                f"{name}.block_out_channels must be multiples of {name}.norm_groups",
            )
            for name, part in (("unet", unet), ("vae", vae))
        ),
        (unet.addition_time_embed_dim % 2 == 0, "unet.addition_time_embed_dim must be even"),
        (
            tower.hidden_size % tower.heads == 0,
            "image_encoder.hidden_size must be a multiple of image_encoder.heads",
        ),
        (
            tower.patch_size <= tower.image_size,
            "image_encoder.patch_size must not exceed image_encoder.image_size",
        ),
        (tower.tokens in TOKENS, f"image_encoder.tokens must be one of {', '.join(TOKENS)}"),
    ]
