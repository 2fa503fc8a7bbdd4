"""Previews: held-out clips colored during training, always from the same noise.

    gray 1 2 3 | ours 1 2 3 | truth 1 2 3      a row a clip, first, middle and last frame

All three are decoded from latents: what the model is given, what it makes of it, and the best
that it could.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from PIL import Image, ImageDraw

from palette_vc_jax import atomic
from palette_vc_jax.data.samples import Batch
from palette_vc_jax.diffusion import schedule
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.networks import functions, load_networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.parallel import placement
from palette_vc_jax.pixels import to_gray3
from palette_vc_jax.sampling.colorize import (
    ColorizeSettings,
    decode_film,
    default_settings,
    film_conditions,
)
from palette_vc_jax.sampling.sampler import check_finite, sample_film
from palette_vc_jax.sampling.settings import frame_noise
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.resize import resize

CLIPS = 4  # at most
FRAMES = 3  # of each clip
WIDTH = 160  # pixels of a frame
GAP, TITLE = 4, 14  # pixels between pictures, and above them
SEED = 0  # of the noise


def make_previews(
    model: Model, batch: Batch, dtype: jnp.dtype = jnp.float32
) -> tuple[Callable[[Mapping[str, Any]], np.ndarray], Callable[[np.ndarray, Path], None]]:
    """Make two functions: one samples `batch` with given networks, the other writes the PNG.

    Both raise FloatingPointError if a network returns values that are not finite.

    Every process has to sample, for parameters may be spread over all. The first one decodes and
    writes, as a program of its own devices: outside of the run's mesh.

    Args:
        model: config and VAE.
        batch: of latents `[B, T, h, w, C]` and what goes with them, as `Encoder.batch` returns
            it; each clip is one window.
        dtype: what the UNet computes in.
    """
    batch = {name: np.asarray(values[:CLIPS]) for name, values in batch.items()}

    @functools.cache
    def fixed() -> list[np.ndarray]:
        scale = model.config.vae.scaling_factor  # gray latents come without
        gray, truth = (_decode(model, x) for x in (scale * batch["gray"], batch["color"]))
        return [255.0 * to_gray3(gray / 255.0), truth]

    def sample(params: Mapping[str, Any]) -> np.ndarray:
        return _color(model.config, params, batch, dtype)

    def write(latents: np.ndarray, path: Path) -> None:
        gray, truth = fixed()
        _save(path, {"gray": gray, "ours": _decode(model, latents), "truth": truth})

    return sample, write


def _settings(config: ModelConfig, frames: int) -> ColorizeSettings:
    return default_settings(config, window=frames, overlap=min(config.sampling.overlap, frames - 1))


def _shots(latents: np.ndarray) -> list[Shot]:
    """Lay clips `[B, T, ...]` one after the other, as shots of a film."""
    clips, frames = latents.shape[:2]
    return [(clip * frames, (clip + 1) * frames) for clip in range(clips)]


def _color(
    config: ModelConfig, params: Mapping[str, Any], batch: Batch, dtype: jnp.dtype
) -> np.ndarray:
    """Sample the clips' latents `[B, T, h, w, C]` as `sample.py` would, palettes given.

    The image tower sees the reference that the model was mostly trained with.
    """
    networks, own = functions(config), config.sampling
    settings = _settings(config, batch["gray"].shape[1])
    sampler = settings.sampler
    gray = batch["gray"].reshape(-1, *batch["gray"].shape[2:])
    in_color = own.reference == "color"
    if "image_encoder" in params:
        pictures = batch["reference"] if in_color else to_gray3(batch["reference"])
        context = _on_host(networks.embed(params["image_encoder"], pictures))
    else:
        context = batch["context_color" if in_color else "context_gray"]
    context = context * (own.reference != "none")
    noise = frame_noise(SEED, 0, len(gray), gray.shape[1:], sampler.shared_noise_fraction)
    latents = sample_film(
        networks.predict,
        _cast(params["unet"], dtype),
        noise * np.float32(schedule.initial_scale(sampler.sigma_max)),
        film_conditions(settings, gray, context, batch["palette"]),
        sampler.plan(_shots(batch["gray"]), placement.num_batch_shards()),
        sampler,
    )
    result = _on_host(latents).reshape(batch["gray"].shape)
    check_finite(result, "the UNet")
    return result


@functools.partial(jax.jit, static_argnums=1)
def _cast(params: Any, dtype: jnp.dtype) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def _on_host(array: jax.Array) -> np.ndarray:
    """Fetch an array, from the other processes too."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array, np.float32)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True), np.float32)


def _decode(model: Model, latents: np.ndarray) -> np.ndarray:
    """Decode clips `[B, T, h, w, C]` of unit scale; frames `[B, FRAMES, H, W, 3]` in [0, 255]."""
    networks = load_networks(Model(model.config, {"vae": model.params["vae"]}))
    chunks = decode_film(
        networks.decode,
        latents.reshape(-1, *latents.shape[2:]),
        _shots(latents),
        _settings(model.config, latents.shape[1]),
    )
    count = latents.shape[1]
    shown = np.linspace(0, count - 1, min(FRAMES, count)).astype(int)
    film = np.concatenate(list(chunks))  # [B*T, H, W, 3] in [-1, 1]
    film = film.reshape(*latents.shape[:2], *film.shape[1:])[:, shown]
    check_finite(film, "the VAE's decoder")
    return 127.5 * np.clip(film, -1.0, 1.0) + 127.5


def _save(path: Path, groups: Mapping[str, np.ndarray]) -> None:
    """Put groups of frames `[B, FRAMES, H, W, 3]` in [0, 255] side by side, in one PNG."""
    clips, frames, height, width, _ = next(iter(groups.values())).shape
    height, width = max(1, round(height * WIDTH / width)), WIDTH
    block = frames * width + GAP
    size = (clips * (height + GAP) + TITLE, len(groups) * block - GAP, 3)
    sheet = np.full(size, 255, np.uint8)
    for column, film in enumerate(groups.values()):
        for clip in range(clips):
            row = np.concatenate([resize(frame, height, width) for frame in film[clip]], axis=1)
            top, left = TITLE + clip * (height + GAP), column * block
            sheet[top : top + height, left : left + frames * width] = np.rint(row)
    picture = Image.fromarray(sheet)
    for column, name in enumerate(groups):
        ImageDraw.Draw(picture).text((column * block + 2, 1), name, fill=(0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as partial:
        picture.save(partial, format="PNG")
