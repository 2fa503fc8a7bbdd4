"""Measures of the colors of single frames: pure functions of numpy arrays.

a*b* is that of CIE Lab under D65, as scikit-image computes it; one unit is about a just noticeable
difference. `meters.py` measures films with these functions.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.color import rgb2lab

LUMA_BINS = 16
HISTOGRAM_BINS = 32  # a side
HISTOGRAM_STEP = 4.0  # a*b* units a bin


def chroma(frames: np.ndarray) -> np.ndarray:
    """Return a*b* `[..., 2]` of sRGB `[..., 3]` in [0, 1]."""
    return rgb2lab(frames)[..., 1:]


def colorfulness(frames: np.ndarray, signed: bool = True) -> np.ndarray:
    """Measure how colorful frames are: 0 not at all, 33 moderately, 59 quite, 109 extremely.

    With rg = R - G and yb = (R + G) / 2 - B on a scale of 0 to 255, a frame has
    M = hypot(std rg, std yb) + 0.3 hypot(mean rg, mean yb). Hasler and Suesstrunk 2003,
    "Measuring colourfulness in natural images", have both signed; the code of several
    colorization papers (DDColor, ColorMNet) takes absolute values first: `signed=False`.

    Args:
        frames: `[T, H, W, 3]` sRGB in [0, 1].

    Returns:
        `[T]`.
    """
    red, green, blue = np.moveaxis(frames.astype(np.float64) * 255.0, -1, 0)
    opponents = [red - green, 0.5 * (red + green) - blue]
    if not signed:
        opponents = [np.abs(opponent) for opponent in opponents]
    spread = np.hypot(*(o.std(axis=(1, 2)) for o in opponents))
    offset = np.hypot(*(o.mean(axis=(1, 2)) for o in opponents))
    return spread + 0.3 * offset


def beyond_luma(ab: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """Remove from one frame's a*b* `[H, W, 2]` what follows from its luma `[H, W]`.

    Pixels are sorted by luma into 16 bins of equal counts (equal lumas share a bin), and each
    bin's mean a* and b* are subtracted. Returns `[H * W, 2]` float64.
    """
    edges = np.quantile(luma, np.arange(1, LUMA_BINS) / LUMA_BINS)
    bins = np.searchsorted(edges, luma.ravel(), side="right")
    ab = ab.reshape(-1, 2).astype(np.float64)
    counts = np.maximum(np.bincount(bins, minlength=LUMA_BINS), 1)
    sums = [np.bincount(bins, weights=channel, minlength=LUMA_BINS) for channel in ab.T]
    return ab - (np.stack(sums, axis=1) / counts[:, None])[bins]


def histogram(ab: np.ndarray) -> np.ndarray:
    """Count pixels of a*b* `[..., 2]` in 32 x 32 bins of 4 units, `[1024]`.

    One bin is centered on neutral, so that gray does not fall on an edge; colors beyond
    [-66, 62] count in the outer bins.
    """
    codes = np.rint(ab / HISTOGRAM_STEP).astype(int) + HISTOGRAM_BINS // 2
    a, b = np.moveaxis(codes.clip(0, HISTOGRAM_BINS - 1), -1, 0)
    return np.bincount((HISTOGRAM_BINS * a + b).ravel(), minlength=HISTOGRAM_BINS**2)


def channel_histograms(codes: np.ndarray) -> np.ndarray:
    """Return the histograms of codes 0 to 255 in each frame and channel of `[T, H, W, C]`.

    `[T, C, 256]`; each histogram sums to 1.
    """
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

    Colors are paired one to one so that the mean distance over pairs is smallest; that mean is the
    value. Lightness is ignored: a film's luma is its source's, whatever the requested palette.
    """
    costs = np.linalg.norm(chroma(requested)[:, None] - chroma(found)[None], axis=-1)
    return float(costs[linear_sum_assignment(costs)].mean())
