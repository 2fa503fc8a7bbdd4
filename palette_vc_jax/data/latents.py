"""Pixels to what the UNet is trained on: latents in color and in grey, and picture embeddings.

The networks that do this are frozen. The cache and the batches of a run without one come from
the same compiled functions, and both round latents to float16: training is the same with either.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.data.samples import Batch
from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ImageEncoderConfig, VAEConfig
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.vae import VAE

LUMA = (0.299, 0.587, 0.114)  # BT.601


class Encoder(NamedTuple):
    """The frozen networks; without an image encoder, pictures are left as they are."""

    model: Model
    embeds: bool

    def latents(
        self, frames: np.ndarray, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode uint8 frames `[N, H, W, 3]`, each alone.

        With `seeds` uint32 `[N, 2]`, gray frames get the noise of the model's noise augmentation.

        Returns float16 `[N, h, w, C]` twice: color latents of unit scale, and unscaled latents
        of the grey frames, as conditions are.
        """
        config = self.model.config
        deviation = 0.0 if seeds is None else config.sampling.noise_augmentation
        seeds = np.zeros((len(frames), 2), np.uint32) if seeds is None else seeds
        color, grey = _encode(self.model.params["vae"], frames, seeds, config.vae, deviation)
        return np.asarray(color), np.asarray(grey)

    def contexts(self, pictures: np.ndarray) -> np.ndarray:
        """Embed uint8 pictures `[N, H, W, 3]` in color and in grey: float32 `[N, 2, L, D]`."""
        config = self.model.config.image_encoder
        return np.asarray(_embed(self.model.params["image_encoder"], pictures, config))

    def batch(self, batch: Batch) -> Batch:
        """Turn pixels, as `ClipReader` gives them, into latents; leave a batch of latents alone.

        Gives `color` and `grey` `[B, T, h, w, C]`, `palette`, `turned`, and `reference` in
        [-1, 1] or, where pictures are embedded, `context_color` and `context_grey` `[B, L, D]`.
        """
        batch = dict(batch)
        if "frames" in batch:
            frames, seeds = batch.pop("frames"), batch.pop("noise_seed", None)
            seeds = None if seeds is None else seeds.reshape(-1, 2)
            latents = self.latents(frames.reshape(-1, *frames.shape[2:]), seeds)
            shape = frames.shape[:2]
            batch["color"], batch["grey"] = (x.reshape(*shape, *x.shape[1:]) for x in latents)
            if self.embeds:
                contexts = self.contexts(batch.pop("reference"))
                batch["context_color"], batch["context_grey"] = contexts[:, 0], contexts[:, 1]
        for key in ("color", "grey"):
            batch[key] = batch[key].astype(np.float32)
        if "reference" in batch:
            batch["reference"] = batch["reference"].astype(np.float32) / 127.5 - 1.0
        return batch


@functools.partial(jax.jit, static_argnums=(3, 4))
def _encode(
    params: functional.Params,
    frames: jax.Array,
    seeds: jax.Array,
    config: VAEConfig,
    deviation: float,
) -> tuple:
    def mode(frame: jax.Array) -> jax.Array:  # [H, W, 3] in [-1, 1]
        return functional.apply(VAE, config, params, frame[None, None], method="encode")[0][0, 0]

    def one(given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        frame, seed = given
        rgb = frame.astype(jnp.float32) / 127.5 - 1.0
        color, gray = mode(rgb) * config.scaling_factor, _grey(rgb)
        if deviation:  # as SVD: on the pixels, before the VAE
            key = jax.random.wrap_key_data(seed, impl="threefry2x32")
            gray = gray + deviation * jax.random.normal(key, gray.shape)
        return color.astype(jnp.float16), mode(gray).astype(jnp.float16)

    # A frame at a time: its latents are then the same in whatever company it comes.
    return jax.lax.map(one, (frames, seeds))


@functools.partial(jax.jit, static_argnums=2)
def _embed(params: functional.Params, pictures: jax.Array, config: ImageEncoderConfig) -> jax.Array:
    def one(picture: jax.Array) -> jax.Array:
        rgb = picture.astype(jnp.float32) / 127.5 - 1.0
        ready = clip.preprocess(jnp.stack([rgb, _grey(rgb)]), config.image_size)
        return functional.apply(ImageEncoder, config, params, ready)  # [2, L, D]

    return jax.lax.map(one, pictures)


def _grey(rgb: jax.Array) -> jax.Array:
    return jnp.broadcast_to((rgb @ jnp.array(LUMA))[..., None], rgb.shape)
