"""Pixels to what the UNet is trained on: latents in color and in gray, and picture embeddings.

The networks that do this are frozen. The cache and the batches of a run without one come from
the same compiled functions, and both round latents to float16: training is the same with either.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.data.samples import Batch
from palette_vc_jax.models import functional, networks
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.functional import Params
from palette_vc_jax.models.store import Model, sha256
from palette_vc_jax.pixels import to_gray3, to_signed


class Encoder:
    """The frozen networks, put on each of this process' devices when they are first used.

    Frames go to the devices in turn, each alone, so that what is made of a frame does not depend
    on the others or on the number of devices.
    """

    def __init__(self, model: Model, embeds: bool, dtype: jnp.dtype = jnp.float32):
        """Take the networks of `model`.

        Args:
            model: with the parameters of the VAE and, if `embeds`, of the image encoder.
            embeds: embed reference pictures; otherwise they are left as they are.
            dtype: what the networks compute in. With float32, products are exact everywhere.
        """
        self.model, self.embeds, self.dtype = model, embeds, jnp.dtype(dtype)
        self._placed: dict[str, list[tuple[jax.Device, Params]]] = {}

    @functools.cached_property
    def hashes(self) -> dict[str, str | None]:
        """The sha256 of the networks' files by name; None for one that is not used."""
        folder = self.model.folder
        return {
            "vae": sha256(folder / "vae.safetensors"),
            "image_encoder": sha256(folder / "image_encoder.safetensors") if self.embeds else None,
        }

    def latents(
        self, frames: np.ndarray, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode uint8 frames `[N, H, W, 3]`, each alone.

        With `seeds` uint32 `[N, 2]`, gray frames get the noise of the model's noise augmentation.

        Returns float16 `[N, h, w, C]` twice: color latents of unit scale, and unscaled latents
        of the gray frames, as conditions are.
        """
        deviation = 0.0 if seeds is None else self.model.config.sampling.noise_augmentation
        seeds = np.zeros((len(frames), 2), np.uint32) if seeds is None else seeds
        encode = functools.partial(_encode, config=self.model.config, deviation=deviation)
        pairs = self._on_devices(encode, "vae", frames, seeds)  # [N, 2, h, w, C]
        return pairs[:, 0], pairs[:, 1]

    def contexts(self, pictures: np.ndarray) -> np.ndarray:
        """Embed uint8 pictures `[N, H, W, 3]` in color and in gray: float16 `[N, 2, L, D]`."""
        embed = functools.partial(_embed, config=self.model.config)
        return self._on_devices(embed, "image_encoder", pictures)

    def batch(self, batch: Batch) -> Batch:
        """Turn pixels, as `ClipReader` gives them, into latents; leave a batch of latents alone.

        Gives `color` and `gray` `[B, T, h, w, C]`, `palette`, `hue_shifted`, and `reference` in
        [-1, 1] or, where pictures are embedded, `context_color` and `context_gray` `[B, L, D]`.
        """
        batch = dict(batch)
        if "frames" in batch:
            frames, seeds = batch.pop("frames"), batch.pop("noise_seed", None)
            seeds = None if seeds is None else seeds.reshape(-1, 2)
            latents = self.latents(frames.reshape(-1, *frames.shape[2:]), seeds)
            shape = frames.shape[:2]
            batch["color"], batch["gray"] = (x.reshape(*shape, *x.shape[1:]) for x in latents)
            if self.embeds:
                contexts = self.contexts(batch.pop("reference"))
                batch["context_color"], batch["context_gray"] = contexts[:, 0], contexts[:, 1]
        for key in {"color", "gray", "context_color", "context_gray"} & batch.keys():
            batch[key] = batch[key].astype(np.float32)
        if "reference" in batch:
            batch["reference"] = to_signed(batch["reference"])
        return batch

    def release(self) -> None:
        """Free the devices' memory until the networks are used again."""
        self._placed.clear()

    def _on_devices(self, function: Callable, network: str, *arrays: np.ndarray) -> np.ndarray:
        """Call `function` on each row of `arrays`; all calls run before the first is waited for."""
        if network not in self._placed:
            self._placed[network] = self._place(network)
        places = self._placed[network]
        results = []
        for number, row in enumerate(zip(*arrays, strict=True)):
            device, params = places[number % len(places)]
            results.append(function(params, *jax.device_put(row, device)))
        return np.stack(jax.device_get(results))

    def _place(self, network: str) -> list[tuple[jax.Device, Params]]:
        params = self.model.params[network]
        host = jax.tree.map(np.asarray, params, functional.types(params, self.dtype))
        return [(device, jax.device_put(host, device)) for device in jax.local_devices()]


@functools.partial(jax.jit, static_argnames=("config", "deviation"))
def _encode(
    params: Params,
    frame: jax.Array,
    seed: jax.Array,
    config: ModelConfig,
    deviation: float,
) -> jax.Array:
    """Encode a uint8 frame `[H, W, 3]` in color and in gray as float16 `[2, h, w, C]`."""
    with jax.default_matmul_precision("float32"):
        color, gray = _color_and_gray(frame)
        if deviation:  # as SVD: on the pixels, before the VAE
            key = jax.random.wrap_key_data(seed, impl="threefry2x32")
            gray = gray + deviation * jax.random.normal(key, gray.shape)
        (latents,) = networks.encode(config, params, jnp.stack([color, gray])[None])
    scale = jnp.array([config.vae.scaling_factor, 1.0])[:, None, None, None]
    return (latents * scale).astype(jnp.float16)


@functools.partial(jax.jit, static_argnames="config")
def _embed(params: Params, picture: jax.Array, config: ModelConfig) -> jax.Array:
    """Embed a uint8 picture `[H, W, 3]` in color and in gray as float16 `[2, L, D]`."""
    with jax.default_matmul_precision("float32"):
        return networks.embed(config, params, _color_and_gray(picture)).astype(jnp.float16)


def _color_and_gray(frame: jax.Array) -> jax.Array:
    """Return a uint8 frame and its Y' in [-1, 1], `[2, H, W, 3]`."""
    rgb = to_signed(frame)
    return jnp.stack([rgb, to_gray3(rgb)])
