"""Make a palette from an image by K-means clustering of its pixels."""

import warnings

import numpy as np

from palette_vc_jax.palette.palette import COLORS, Palette

PIXELS = 4096  # maximum pixels to cluster; more change the centers by less than an 8-bit code


def from_image(image: np.ndarray, source: str, seed: int = 0) -> Palette:
    """Cluster the colors of an image `[H, W, 3]` uint8 sRGB into a palette.

    If the image has fewer than five colors, `Palette.of` repeats them.
    """
    return Palette.of(kmeans(image.reshape(-1, 3), seed) / 255.0, source)


def kmeans(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return at most five cluster centers `[n, 3]` of pixels `[N, 3]`, in the input's scale."""
    from sklearn.cluster import KMeans  # its import takes a second
    from sklearn.exceptions import ConvergenceWarning

    if len(pixels) > PIXELS:
        pixels = np.random.default_rng(seed).choice(pixels, PIXELS, replace=False)
    distinct = len(np.unique(pixels, axis=0))
    model = KMeans(min(COLORS, distinct), n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(pixels.astype(np.float64)).cluster_centers_.clip(0.0, 255.0)
