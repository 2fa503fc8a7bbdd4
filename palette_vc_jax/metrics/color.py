"""Measure the colors of single frames: pure functions of numpy arrays.

a*b* are those of CIE Lab under D65, as in scikit-image; one unit is about a just noticeable
difference. `meters.py` measures films with these functions.
"""

import numpy as np
from skimage.color import rgb2lab

LUMA_BINS = 16
HISTOGRAM_BINS = 32  # bins per axis
HISTOGRAM_STEP = 4.0  # a*b* units per bin


def chroma(frames: np.ndarray) -> np.ndarray:
    """Return a*b* `[..., 2]` of sRGB `[..., 3]` in [0, 1]."""
    return rgb2lab(frames)[..., 1:]


def beyond_luma(ab: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """Return the part of one frame's a*b* that does not follow from its luma.

    Pixels are sorted by luma into 16 bins of equal counts (equal lumas share a bin), and the mean
    a* and b* of each bin are subtracted.

    Args:
        ab: a*b* `[H, W, 2]`.
        luma: Y' `[H, W]`.

    Returns:
        The residual `[H * W, 2]`, float64.
    """
    edges = np.quantile(luma, np.arange(1, LUMA_BINS) / LUMA_BINS)
    bins = np.searchsorted(edges, luma.ravel(), side="right")
    ab = ab.reshape(-1, 2).astype(np.float64)
    counts = np.maximum(np.bincount(bins, minlength=LUMA_BINS), 1)
    sums = [np.bincount(bins, weights=channel, minlength=LUMA_BINS) for channel in ab.T]
    return ab - (np.stack(sums, axis=1) / counts[:, None])[bins]


def histogram(ab: np.ndarray) -> np.ndarray:
    """Return the counts `[1024]` of a*b* `[..., 2]` in 32 x 32 bins of 4 units.

    One bin is centered on neutral, so that gray is not on an edge. Colors outside [-66, 62] count
    in the outer bins.
    """
    codes = np.rint(ab / HISTOGRAM_STEP).astype(int) + HISTOGRAM_BINS // 2
    a, b = np.moveaxis(codes.clip(0, HISTOGRAM_BINS - 1), -1, 0)
    return np.bincount((HISTOGRAM_BINS * a + b).ravel(), minlength=HISTOGRAM_BINS**2)


def channel_histograms(codes: np.ndarray) -> np.ndarray:
    """Return the histograms `[T, C, 256]` of codes `[T, H, W, C]` 0 to 255; each sums to 1."""
    channels = np.moveaxis(codes, -1, 1).reshape(len(codes), codes.shape[-1], -1)  # [T, C, H*W]
    counts = [[np.bincount(c, minlength=256) for c in frame] for frame in channels]
    return np.array(counts) / channels.shape[-1]


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of distributions along the last axis, 0 to ln 2.

    JS(p, q) = (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2, natural logarithm.
    """
    middle = 0.5 * (p + q)
    terms = [
        np.where(x > 0.0, x * np.log(np.where(x > 0.0, x, 1.0) / np.where(x > 0.0, middle, 1.0)), 0)
        for x in (p, q)
    ]
    return np.maximum(0.5 * (terms[0] + terms[1]).sum(axis=-1), 0.0)


def palette_distance(requested: np.ndarray, found: np.ndarray) -> float:
    """Return the distance of two sets of sRGB colors `[n, 3]` in [0, 1], in units of a*b*.

    The distance is the smallest mean over one-to-one pairs of colors. Lightness is ignored,
    because a film's luma is its source's, whatever the requested palette.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import; training never needs it

    costs = np.linalg.norm(chroma(requested)[:, None] - chroma(found)[None], axis=-1)
    return float(costs[linear_sum_assignment(costs)].mean())
