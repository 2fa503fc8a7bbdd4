"""What the UNet trains on: latents of crops, reference pictures and their palettes, kept on disk.

The VAE runs once over every crop; training reads bytes and never touches it.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from palette_vc_jax.data.clips import Crops, grey_of
from palette_vc_jax.models import functional
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.palette.image import from_image


class LatentClips(NamedTuple):
    """Latents of N crops with T frames, and R reference frames of each."""

    color: np.ndarray  # [N, T, h, w, C] float16, unit scale
    grey: np.ndarray  # [N, T, h, w, C] float16, as encoded: conditions are not scaled
    references: np.ndarray  # [N, R, H, W, 3] uint8
    palettes: np.ndarray  # [N, R, 15] float32 in [-1, 1]
    lengths: np.ndarray  # [N] frames that are real
    turned: np.ndarray  # [N] bool, whether its hues are turned: only a palette tells them


def encode_crops(model: Model, crops: Crops, reference_every: int) -> LatentClips:
    """Encode crops in color and in grey, and take each `reference_every`-th frame's palette."""
    config = model.config.vae

    @jax.jit
    def mode(frames):
        return functional.apply(VAE, config, model.params["vae"], frames[None], method="encode")[0][
            0
        ]

    color, grey = [], []
    for clip in tqdm(crops.pixels, desc="encoding", unit="crop", disable=None):
        frames = clip.astype(np.float32) / 127.5 - 1.0
        color.append(np.asarray(mode(frames) * config.scaling_factor, np.float16))
        grey.append(np.asarray(mode(grey_of(frames)), np.float16))
    references = crops.pixels[:, ::reference_every]
    palettes = [
        [from_image(picture, source="training").vector() for picture in clip]
        for clip in tqdm(references, desc="palettes", unit="crop", disable=None)
    ]
    return LatentClips(
        np.stack(color),
        np.stack(grey),
        references,
        np.array(palettes, np.float32),
        crops.lengths,
        crops.turned,
    )


def save_latents(path: Path, clips: LatentClips) -> None:
    """Write clips beside `path`, then move them into place whole."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **clips._asdict())
    partial.rename(path)


def load_latents(path: Path) -> LatentClips:
    """Read what `save_latents` wrote."""
    with np.load(path) as arrays:
        return LatentClips(**{name: arrays[name] for name in LatentClips._fields})


def sample_windows(
    clips: LatentClips, frames: int, strides: tuple[int, ...], batch: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw a batch of windows, each with a random reference frame of its own clip.

    Args:
        clips: to draw from.
        frames: a window.
        strides: of which one is drawn a window; too long ones fall back to 1.
        batch: windows.
        rng: source of every choice.

    Returns:
        `color`, `grey` `[B, T, h, w, C]`, `reference` `[B, H, W, 3]` in [-1, 1], `palette`
        `[B, 15]`, `turned` `[B]`.
    """
    color, grey, references, palettes, turned = [], [], [], [], []
    for clip in rng.integers(len(clips.lengths), size=batch):
        stride = rng.choice(strides)
        if (frames - 1) * stride >= clips.lengths[clip]:
            stride = 1
        span = (frames - 1) * stride + 1
        start = rng.integers(max(clips.lengths[clip] - span, 0) + 1)
        window = slice(start, start + span, stride)
        if rng.random() < 0.5:  # time runs both ways
            window = slice(start + span - 1, start - 1 if start else None, -stride)
        reference = rng.integers(clips.references.shape[1])
        color.append(clips.color[clip, window])
        grey.append(clips.grey[clip, window])
        references.append(clips.references[clip, reference])
        palettes.append(clips.palettes[clip, reference])
        turned.append(clips.turned[clip])
    return {
        "color": np.stack(color).astype(np.float32),
        "grey": np.stack(grey).astype(np.float32),
        "reference": np.stack(references).astype(np.float32) / 127.5 - 1.0,
        "palette": np.stack(palettes),
        "turned": np.array(turned),
    }
