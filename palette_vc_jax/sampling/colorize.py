"""Color gray pictures: encode, embed, sample, decode, as one stream over a run of shots."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ModelConfig, check_conditioning
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.decode import decode_chunks, encode_frames
from palette_vc_jax.sampling.reference import GRAY, NONE, Reference
from palette_vc_jax.sampling.sampler import Progress, check_finite, sample
from palette_vc_jax.sampling.settings import FilmConditions, SamplerSettings
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.resize import resize

OUTER = ("short_side", "fps", "motion_bucket", "noise_augmentation")  # not the sampler's
_PIXELS = 1  # sets the noise on gray frames apart from other uses of a seed


@dataclass(frozen=True)
class ColorizeSettings:
    """Settings of a run beside the palette, the reference and the seed.

    Raises ValueError on construction for micro-conditioning out of range, or a size of the
    model's pictures below 1.
    """

    sampler: SamplerSettings
    short_side: int  # pixels of the model's pictures
    fps: int = 6  # the value sent to the network (SVD: frames per second - 1)
    motion_bucket: int = 127
    noise_augmentation: float = 0.0  # deviation of noise on the gray pixels, in [-1, 1]
    encode_batch: int = 8  # frames encoded together
    decode_chunk: int = 10  # frames decoded together
    decode_context: int = 1  # decoded and dropped at either end of a chunk
    decode_fade: int = 2  # frames over which neighboring chunks fade into each other

    def __post_init__(self):
        check_conditioning(self.fps, self.motion_bucket, self.noise_augmentation)
        if self.short_side < 1:
            raise ValueError(f"short side of {self.short_side} pixels; at least 1 is needed.")


def default_settings(config: ModelConfig, **overrides: Any) -> ColorizeSettings:
    """Return the settings that a model was trained for, with some of the sampler's replaced.

    Names of `OUTER` may be among the overrides; None leaves the default.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    own = config.sampling
    outer = {name: given.pop(name, getattr(own, name)) for name in OUTER}
    sampler = SamplerSettings(
        **{
            "steps": own.steps,
            "sigma_min": own.sigma_min,
            "sigma_max": own.sigma_max,
            "solver": own.solver,
            "shared_noise_fraction": own.shared_noise_fraction,
            "guidance_scale": own.guidance_scale,
            "window": own.num_frames,
            "overlap": own.overlap,
        }
        | given
    )
    return ColorizeSettings(sampler, **outer)


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
    grays: Iterable[np.ndarray],
    shots: Sequence[Shot],
    palette: Palette | None,
    settings: ColorizeSettings,
    seed: int,
    progress: Progress | None = None,
    reference: Reference = GRAY,
) -> Iterator[np.ndarray]:
    """Color a run of shots, yielding frames in order as float32 [n, H, W, 3] in [0, 1].

    Args:
        networks: from `load_networks`.
        grays: Y' pictures [H, W] in [0, 1] of the model's size, one for each frame of `shots`,
            read once.
        shots: half-open ranges in the film's frame numbers, each following the one before.
        palette: colors to steer by, or None for the null palette.
        settings: see `ColorizeSettings`.
        seed: of the noise, 0 to 2^32 - 1.
        progress: called with (done, total) batches of windows while sampling.
        reference: what the image tower sees.

    Holds the latents of all shots given (`sampler.film_bytes`), and pixels of a few frames.

    Raises:
        FloatingPointError: if a network gives values that are not finite.
    """
    config, params = networks.config, networks.params
    middles = [(start + stop) // 2 for start, stop in shots]
    seen: list[np.ndarray] = []  # the middle frame of each shot

    def watched() -> Iterator[np.ndarray]:
        for index, gray in enumerate(grays, start=shots[0][0]):
            if index in middles:
                seen.append(gray)
            yield _with_noise(gray, settings.noise_augmentation, seed, index)

    encode = functools.partial(networks.encode, params)
    gray_latents = np.concatenate(list(encode_frames(encode, watched(), settings.encode_batch)))
    check_finite(gray_latents, "the VAE's encoder")
    vector = np.zeros(3 * config.unet.palette_colors) if palette is None else palette.vector()
    context = _context(networks, reference, seen)
    conditions = film_conditions(
        settings, gray_latents, context, vector, float(palette is not None)
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

    for frames in decode_film(decode, latents, local, settings):
        yield np.clip((frames + 1.0) / 2.0, 0.0, 1.0)


def film_conditions(
    settings: ColorizeSettings,
    gray: np.ndarray,
    context: np.ndarray,
    palette: np.ndarray,
    palette_mask: np.ndarray | float = 1.0,
) -> FilmConditions:
    """Return what a film is sampled from; arrays as `FilmConditions` has them."""
    ids = np.array([settings.fps, settings.motion_bucket, settings.noise_augmentation], np.float32)
    return FilmConditions(gray, context, ids, palette, palette_mask)


def decode_film(
    decode: Callable[[np.ndarray], np.ndarray],
    latents: np.ndarray,
    shots: Sequence[Shot],
    settings: ColorizeSettings,
) -> Iterator[np.ndarray]:
    """Decode latents in the chunks of the settings, as `decode_chunks` does."""
    sizes = settings.decode_chunk, settings.decode_context, settings.decode_fade
    return decode_chunks(decode, latents, shots, *sizes)


def _with_noise(gray: np.ndarray, deviation: float, seed: int, index: int) -> np.ndarray:
    """Add SVD's noise augmentation to frame `index` of a film.

    SVD adds noise of this deviation to the pixels, in [-1, 1], before the VAE. A frame's noise
    depends on the seed and the frame's number alone. Returns `gray` `[H, W]` as it is where the
    deviation is 0, otherwise [H, W, 3], in [0, 1] but for the noise.
    """
    if deviation == 0.0:
        return gray
    noise = np.random.default_rng((_PIXELS, seed, index)).standard_normal((*gray.shape, 3))
    return (gray[..., None] + 0.5 * deviation * noise).astype(np.float32)


def _context(networks: Networks, reference: Reference, grays: list[np.ndarray]) -> np.ndarray:
    """Embed what the image tower sees of S shots whose middle frames are `grays`: [S, L, D]."""
    if reference.source == NONE.source:
        return np.zeros((len(grays), 1, networks.config.image_encoder.projection_dim), np.float32)
    if reference.picture is None:
        pictures = np.stack(grays)[..., None].repeat(3, axis=-1)
    else:
        pictures = resize(reference.picture, *grays[0].shape)[None] / np.float32(255.0)
    context = np.asarray(networks.embed(networks.params, 2.0 * pictures - 1.0), np.float32)
    check_finite(context, "the image encoder")
    return np.broadcast_to(context, (len(grays), *context.shape[1:]))
