"""A palette from a picture: the centers of a K-means clustering of its pixels."""

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from palette_vc_jax.palette.palette import COLORS, Palette

PIXELS = 4096  # clustered at most; more change the centers by less than a code


def from_image(picture: np.ndarray, source: str, seed: int = 0) -> Palette:
    """Cluster the colors of a picture `[H, W, 3]` uint8 sRGB into a palette.

    A picture of fewer than five colors gives those, repeated as `Palette.of` does.
    """
    return Palette.of(kmeans(picture.reshape(-1, 3), seed) / 255.0, source)


def kmeans(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Give at most five cluster centers `[n, 3]` of pixels `[N, 3]`, in their own scale."""
    if len(pixels) > PIXELS:
        pixels = np.random.default_rng(seed).choice(pixels, PIXELS, replace=False)
    distinct = len(np.unique(pixels, axis=0))
    model = KMeans(min(COLORS, distinct), n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(pixels.astype(np.float64)).cluster_centers_.clip(0.0, 255.0)
