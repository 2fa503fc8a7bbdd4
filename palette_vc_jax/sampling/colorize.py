"""Color grey pictures: encode, embed, sample, decode, as one stream over a run of shots."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.decode import decode_chunks, encode_frames
from palette_vc_jax.sampling.sampler import Progress, check_finite, sample
from palette_vc_jax.sampling.settings import FilmConditions, SamplerSettings
from palette_vc_jax.sampling.windows import Shot

REFERENCES = ("grey", "none")


@dataclass(frozen=True)
class ColorizeSettings:
    """What a run is told beside the palette and the seed.

    Raises ValueError on construction for a reference that is not known, or a size of the model's
    pictures below 1.
    """

    sampler: SamplerSettings
    short_side: int  # pixels of the model's pictures
    reference: str = "grey"  # what the image tower sees: the shot's middle frame, or nothing
    encode_batch: int = 8  # frames encoded together
    decode_chunk: int = 10  # frames decoded together
    decode_context: int = 1  # decoded and dropped at either end of a chunk
    decode_fade: int = 2  # frames over which neighboring chunks fade into each other

    def __post_init__(self):
        if self.reference not in REFERENCES:
            raise ValueError(
                f"reference {self.reference!r} is not known; use one of {', '.join(REFERENCES)}."
            )
        if self.short_side < 1:
            raise ValueError(f"short side of {self.short_side} pixels; at least 1 is needed.")


def default_settings(config: ModelConfig, **overrides: Any) -> ColorizeSettings:
    """Give the settings that a model was trained for, with some of the sampler's replaced.

    `short_side` and `reference` may be among the overrides; None leaves the default.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    own = config.sampling
    outer = {name: given.pop(name) for name in ("short_side", "reference") if name in given}
    sampler = SamplerSettings(
        **{
            "steps": own.steps,
            "sigma_min": own.sigma_min,
            "sigma_max": own.sigma_max,
            "solver": own.solver,
            "noise_share": own.noise_share,
            "guidance_scale": own.guidance_scale,
            "window": own.num_frames,
            "overlap": own.overlap,
        }
        | given
    )
    return replace(ColorizeSettings(sampler, own.short_side), **outer)


class Networks(NamedTuple):
    """A model's networks as jitted functions; `params` are on the device, in compute type."""

    config: ModelConfig
    params: dict[str, Any]
    encode: Any  # (params, frames [N, H, W, 3] in [-1, 1]) -> latents [N, h, w, C], unscaled
    embed: Any  # (params, pictures [N, H, W, 3] in [-1, 1]) -> [N, 1, D]
    predict: Any  # the sampler's `predict`
    decode: Any  # (params, latents [1, T, h, w, C] of unit scale) -> frames [1, T, H, W, 3]


def load_networks(model: Model) -> Networks:
    """Put a model on the device: bfloat16 on accelerators, float32 on the CPU."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), model.params)
    return Networks(model.config, params, *_functions(model.config))


@functools.lru_cache(maxsize=8)
def _functions(config: ModelConfig) -> tuple[Any, Any, Any, Any]:
    """Make a config's functions once: jit knows a function by its identity."""

    def cast(params: Any, *arrays: jax.Array) -> tuple[jax.Array, ...]:
        dtype = jax.tree.leaves(params)[0].dtype
        return tuple(array.astype(dtype) for array in arrays)

    @jax.jit
    def encode(params, frames):
        (frames,) = cast(params["vae"], frames)
        mean, _ = functional.apply(VAE, config.vae, params["vae"], frames[None], method="encode")
        return mean[0].astype(jnp.float32)

    @jax.jit
    def embed(params, pictures):
        tower = params["image_encoder"]
        (ready,) = cast(tower, clip.preprocess(pictures, config.image_encoder.image_size))
        return functional.apply(ImageEncoder, config.image_encoder, tower, ready)

    def predict(params, inputs, c_noise, context, ids, palette, mask):
        inputs, context = cast(params["unet"], inputs, context)
        return functional.apply(
            UNet, config.unet, params["unet"], inputs, c_noise, context, ids, palette, mask
        )

    @jax.jit
    def decode(params, latents):
        (latents,) = cast(params["vae"], latents / config.vae.scaling_factor)
        frames = functional.apply(VAE, config.vae, params["vae"], latents, method="decode")
        return frames.astype(jnp.float32)

    return encode, embed, predict, decode


def colorize(
    networks: Networks,
    greys: Iterable[np.ndarray],
    shots: Sequence[Shot],
    palette: Palette | None,
    settings: ColorizeSettings,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[np.ndarray]:
    """Color a run of shots, yielding frames in order as float32 [n, H, W, 3] in [0, 1].

    Args:
        networks: from `load_networks`.
        greys: Y' pictures [H, W] in [0, 1] of the model's size, one for each frame of `shots`,
            read once.
        shots: half-open ranges in the film's frame numbers, each following the one before.
        palette: colors to steer by, or None for the null palette.
        settings: see `ColorizeSettings`.
        seed: of the noise, 0 to 2^32 - 1.
        progress: called with (done, total) batches of windows while sampling.

    Holds the latents of all shots given (`sampler.film_bytes`), and pixels of a few frames.

    Raises:
        FloatingPointError: if a network gives values that are not finite.
    """
    config, params = networks.config, networks.params
    middles = [(start + stop) // 2 for start, stop in shots]
    references: list[np.ndarray] = []

    def watched() -> Iterator[np.ndarray]:
        for index, grey in enumerate(greys, start=shots[0][0]):
            if index in middles:
                references.append(grey)
            yield grey

    encode = functools.partial(networks.encode, params)
    grey_latents = np.concatenate(list(encode_frames(encode, watched(), settings.encode_batch)))
    check_finite(grey_latents, "the VAE's encoder")
    pictures = 2.0 * np.stack(references)[..., None].repeat(3, axis=-1) - 1.0
    context = np.asarray(networks.embed(params, pictures), np.float32)
    check_finite(context, "the image encoder")
    sampling = config.sampling
    conditions = FilmConditions(
        grey=grey_latents,
        context=context * (settings.reference != "none"),
        added_time_ids=np.array(
            [sampling.fps, sampling.motion_bucket, sampling.noise_augmentation], np.float32
        ),
        palette=np.zeros(3 * config.unet.palette_colors) if palette is None else palette.vector(),
        palette_mask=float(palette is not None),
    )
    latents = sample(
        networks.predict, params, conditions, shots, settings.sampler, seed, progress=progress
    )
    first = shots[0][0]
    local = [(start - first, stop - first) for start, stop in shots]

    def decode(part: np.ndarray) -> np.ndarray:
        frames = np.asarray(networks.decode(params, part), np.float32)
        check_finite(frames, "the VAE's decoder")
        return frames

    chunks = decode_chunks(
        decode,
        latents,
        local,
        settings.decode_chunk,
        settings.decode_context,
        settings.decode_fade,
    )
    for frames in chunks:
        yield np.clip((frames + 1.0) / 2.0, 0.0, 1.0)
