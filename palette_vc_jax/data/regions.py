"""Regions of training crops: each gets the palette of its own pixels.

A crop is split once: into a box and its surroundings, or into cells, the points that are nearest
to one of two or three seeds. A seed is a point of the crop's first frame. Distance is measured in
the picture and, for two thirds of the crops, in luma too, so that cells follow what is in the
picture and move with it.
"""

import numpy as np

from palette_vc_jax.palette.image import from_image
from palette_vc_jax.pixels import luma

REGIONS = 3  # at most
BOXES = 0.25  # share of the crops that have a box
LUMA_WEIGHTS = (0.0, 1.0, 4.0)  # distance of black and white; the sides of a frame have length 1
LEAST = 16  # pixels that a palette is made of


def split(frames: np.ndarray, first: np.ndarray, cell: int, rng: np.random.Generator) -> np.ndarray:
    """Split frames of a crop into regions.

    Args:
        frames: uint8 sRGB `[T, H, W, 3]`.
        first: the first frame of the crop, uint8 `[H, W, 3]`.
        cell: pixels of a side of a latent pixel; it divides H and W.
        rng: in the same state for all calls for a crop.

    Returns:
        The region of each latent pixel, uint8 `[T, h, w]`, below `REGIONS`.
    """
    height, width = first.shape[0] // cell, first.shape[1] // cell
    y, x = np.mgrid[:height, :width]
    if rng.random() < BOXES:
        top, bottom = np.sort(rng.choice(height + 1, 2, replace=False))
        left, right = np.sort(rng.choice(width + 1, 2, replace=False))
        inside = (top <= y) & (y < bottom) & (left <= x) & (x < right)
        return np.repeat(inside[None].astype(np.uint8), len(frames), axis=0)
    weight = rng.choice(LUMA_WEIGHTS)
    seeds = rng.choice(height * width, int(rng.integers(2, REGIONS + 1)), replace=False)

    def features(frame: np.ndarray) -> np.ndarray:
        shape = height, cell, width, cell
        light = luma(frame).reshape(shape).mean((1, 3)) / 255.0
        return np.stack([y / height, x / width, weight * light], axis=-1).reshape(-1, 3)

    centers = features(first)[seeds]  # [R, 3]
    regions = np.empty((len(frames), height, width), np.uint8)
    for region, frame in zip(regions, frames, strict=True):
        distance = np.square(features(frame)[:, None] - centers).sum(-1)  # [h * w, R]
        region[:] = distance.argmin(1).reshape(height, width)
    return regions


def palettes(frame: np.ndarray, whole: np.ndarray, regions: np.ndarray, cell: int) -> np.ndarray:
    """Return the palette of each region of a frame, `[REGIONS, 15]` in [-1, 1].

    A region that is too small, or is not in the frame, gets the palette of the whole frame.

    Args:
        frame: uint8 sRGB `[H, W, 3]`.
        whole: the palette of the whole frame, `[15]` in [-1, 1].
        regions: from `split`, uint8 `[h, w]`.
        cell: pixels of a side of a latent pixel.
    """
    large = regions.repeat(cell, axis=0).repeat(cell, axis=1)
    vectors = [
        from_image(own[None], source="training").vector() if len(own) >= LEAST else whole
        for own in (frame[large == region] for region in range(REGIONS))
    ]
    return np.stack(vectors).astype(np.float32)
