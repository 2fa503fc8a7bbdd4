"""What is cut out of a clip: one rectangle of some frames, perhaps mirrored or varied in color.

A clip has a fixed number of crops, each a pure function of the seed, the clip and its number:
latents that were cached for it are those that would be computed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from palette_vc_jax import cli
from palette_vc_jax.data.augment import vary_colors
from palette_vc_jax.data.sources import ClipSource


@dataclass(frozen=True)
class CropConfig:
    """How crops are cut; all of it shapes the latents that are cached."""

    frames: int  # at most, from a random place in the clip
    size: tuple[int, int]  # pixels: height, width
    short_sides: tuple[int, int]  # pixels of the scaled frame's short side: least, most
    crops: int  # a clip
    reference_every: int  # frames between those that a palette and an embedding are taken from
    mirrored: bool = False  # every other crop is mirrored left to right
    hue_shift_rate: float | None = None  # share with a hue shift; None: colors as they are
    seed: int = 0
    region_cell: int = 0  # pixels of a cell of the maps of regions; 0: no regions


class Crop(NamedTuple):
    """One crop of one clip."""

    clip: int
    number: int  # among the clip's crops
    start: int  # first frame
    length: int  # frames
    place: tuple[float, float, float]  # of the rectangle: scale, top, left, each in [0, 1]
    mirrored: bool
    hue_shifted: bool


def draw_crop(source: ClipSource, index: int, config: CropConfig) -> Crop:
    """Choose crop `index`, counting the crops of all clips through."""
    clip, number = divmod(index, config.crops)
    rng = _rng(config, clip, number)
    frames = source.length(clip)
    length = min(frames, config.frames)
    start = int(rng.integers(frames - length + 1))
    place = tuple(float(value) for value in rng.uniform(size=3))
    hue_shifted = config.hue_shift_rate is not None and rng.random() < config.hue_shift_rate
    mirrored = config.mirrored and number % 2 == 1
    return Crop(clip, number, start, length, place, mirrored, bool(hue_shifted))


def references(length: int, config: CropConfig) -> range:
    """Return the frames of a crop that a palette and an embedding may be taken from."""
    return range(0, length, config.reference_every)


def read_crop(
    source: ClipSource, crop: Crop, frames: Sequence[int], config: CropConfig
) -> np.ndarray:
    """Read frames of a crop, counted from its first, as uint8 sRGB `[T, H, W, 3]`.

    Of the clip itself one frame is held at a time.
    """
    wanted = crop.start + np.asarray(frames)  # [T]
    height, width = config.size
    pixels = np.empty((len(wanted), height, width, 3), np.uint8)
    for frame, picture in source.scan(crop.clip, wanted.tolist()):
        box = _box(picture.shape[:2], crop.place, config)
        scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box)
        cut = np.asarray(scaled)
        cut = cut[:, ::-1] if crop.mirrored else cut
        if config.hue_shift_rate is not None:
            # Every frame draws the same variation, whichever of a crop's frames are read.
            rng = _rng(config, crop.clip, crop.number, 1)
            cut = vary_colors(cut[None], crop.hue_shifted, rng)[0]
        pixels[wanted == frame] = cut
    return pixels


def region_rng(config: CropConfig, crop: Crop) -> np.random.Generator:
    """Return the random numbers that split a crop into regions."""
    return _rng(config, crop.clip, crop.number, 2)


def _rng(config: CropConfig, *parts: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, *parts))


def _box(
    picture: tuple[int, int], place: tuple[float, float, float], config: CropConfig
) -> tuple[float, float, float, float]:
    """Return the rectangle (left, top, right, bottom) of a picture (height, width).

    The frame is scaled until its short side has a length within `short_sides`, or until it
    covers the crop; then a crop of `size` is cut from it.
    """
    (height, width), size = picture, config.size
    least, most = config.short_sides
    scale = (least + place[0] * (most - least)) / min(width, height)
    scale = max(scale, size[0] / height, size[1] / width)
    box_height, box_width = size[0] / scale, size[1] / scale
    # Rounding may leave the box larger than the picture by a hair.
    top = place[1] * max(height - box_height, 0.0)
    left = place[2] * max(width - box_width, 0.0)
    return left, top, min(left + box_width, width), min(top + box_height, height)


def load_crops(source: ClipSource, config: CropConfig) -> tuple[np.ndarray, np.ndarray]:
    """Read all crops of all clips into memory.

    Returns uint8 `[N, T, H, W, 3]`, the last frame repeated where a crop is shorter, and the
    lengths `[N]`.
    """
    drawn = [draw_crop(source, n, config) for n in range(len(source) * config.crops)]
    pixels = [
        read_crop(source, crop, np.minimum(range(config.frames), crop.length - 1), config)
        for crop in cli.progress(drawn, "reading clips", "crop")
    ]
    return np.stack(pixels), np.array([crop.length for crop in drawn])
