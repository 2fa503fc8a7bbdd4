"""Measures of a film's colors, alone or beside the truth: pure functions of numpy arrays.

Films are float32 `[T, H, W, 3]`, sRGB in [0, 1]. Where a*b* is named it is CIE Lab under D65, as
scikit-image computes it; its unit is about a just noticeable difference.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.color import rgb2lab

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
LUMA_BINS = 16
HISTOGRAM_BINS = 32  # a side
HISTOGRAM_STEP = 4.0  # a*b* units a bin
COLORLESS = 0.1  # a*b* units; Lab of an exact grey strays from 0 by less than 0.01
STRIDES = (1, 2, 4)  # frames between those that the CDC compares


def chroma(frames: np.ndarray) -> np.ndarray:
    """Give a*b* `[..., 2]` of sRGB `[..., 3]` in [0, 1]."""
    return rgb2lab(frames)[..., 1:]


def colorfulness(frames: np.ndarray) -> float:
    """Measure how colorful a film is: 0 not, 33 moderately, 59 quite, 109 extremely.

    With rg = R - G and yb = (R + G) / 2 - B on a scale of 0 to 255, both signed, a frame has
    M = hypot(std rg, std yb) + 0.3 hypot(mean rg, mean yb); the film has the mean over frames.
    Hasler and Suesstrunk 2003, "Measuring colourfulness in natural images".
    """
    red, green, blue = np.moveaxis(frames.astype(np.float64) * 255.0, -1, 0)
    opponents = red - green, 0.5 * (red + green) - blue
    spread = np.hypot(*(o.std(axis=(1, 2)) for o in opponents))
    offset = np.hypot(*(o.mean(axis=(1, 2)) for o in opponents))
    return float((spread + 0.3 * offset).mean())


def chroma_correlation(frames: np.ndarray, truth: np.ndarray) -> float:
    """Correlate a film's a*b* with the truth's, beyond what luma tells.

    The pixels of each frame are sorted by the truth's BT.601 luma into 16 bins of equal counts
    (equal lumas share a bin), and each bin's mean a* and b* are removed from both films. The
    value is Pearson's correlation of what is left, over all frames and both channels: 1 for the
    truth, about 0 for any color that is a function of luma. 0 where either film is left with less
    than 0.1 units, as a grey copy is.
    """
    left, right = (np.stack(list(map(_beyond_luma, f, truth))) for f in (frames, truth))
    spreads = np.sqrt([np.mean(left**2), np.mean(right**2)])
    if spreads.min() < COLORLESS:
        return 0.0
    return float(np.mean(left * right) / spreads.prod())


def _beyond_luma(frame: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Remove the mean a*b* of each luma bin from one frame; `[H * W, 2]` float64."""
    luma = (truth @ LUMA).ravel()
    edges = np.quantile(luma, np.arange(1, LUMA_BINS) / LUMA_BINS)
    bins = np.searchsorted(edges, luma, side="right")
    ab = chroma(frame).reshape(-1, 2).astype(np.float64)
    counts = np.maximum(np.bincount(bins, minlength=LUMA_BINS), 1)
    sums = [np.bincount(bins, weights=channel, minlength=LUMA_BINS) for channel in ab.T]
    return ab - (np.stack(sums, axis=1) / counts[:, None])[bins]


def histogram_distance(frames: np.ndarray, truth: np.ndarray) -> float:
    """Give the Jensen-Shannon distance of two films' a*b* histograms, 0 to 1.

    A film has one histogram, 32 x 32 bins of 4 units of which one is centered on neutral, so that
    grey does not fall on an edge; colors beyond [-66, 62] count in the outer bins. The distance
    is the square root of the divergence in bits.
    """
    divergence = jensen_shannon(*(_histogram(film) for film in (frames, truth)))
    return float(np.sqrt(divergence / np.log(2.0)))


def _histogram(frames: np.ndarray) -> np.ndarray:
    codes = np.rint(chroma(frames) / HISTOGRAM_STEP).astype(int) + HISTOGRAM_BINS // 2
    a, b = np.moveaxis(codes.clip(0, HISTOGRAM_BINS - 1), -1, 0)
    return np.bincount((HISTOGRAM_BINS * a + b).ravel(), minlength=HISTOGRAM_BINS**2) / a.size


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Give the Jensen-Shannon divergence of distributions along the last axis, 0 to ln 2.

    JS(p, q) = (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2, natural logarithm.
    """
    middle = 0.5 * (p + q)
    terms = [
        np.where(x > 0.0, x * np.log(np.where(x > 0.0, x, 1.0) / np.where(x > 0.0, middle, 1.0)), 0)
        for x in (p, q)
    ]
    return np.maximum(0.5 * (terms[0] + terms[1]).sum(axis=-1), 0.0)


def cdc(codes: np.ndarray) -> float:
    """Measure the color distribution consistency of codes `[T, H, W, C]` in 0 .. 255.

    Each frame and channel has a histogram of 256 bins. The value is the Jensen-Shannon divergence
    (natural logarithm) of frames t and t + d, in the mean over t, over channels and over d = 1, 2,
    4. Lower is steadier, not better: read it beside the truth's. Liu et al. 2021, "Temporally
    Consistent Video Colorization" (TCVC), as its code computes it. Raises ValueError for less than
    5 frames.
    """
    if len(codes) <= STRIDES[-1]:
        raise ValueError(
            f"a film of {len(codes)} frames; the CDC compares frames {STRIDES[-1]} apart: "
            f"give at least {STRIDES[-1] + 1}."
        )
    channels = np.moveaxis(codes, -1, 1).reshape(len(codes), codes.shape[-1], -1)  # [T, C, H*W]
    histograms = np.array(
        [[np.bincount(c, minlength=256) / c.size for c in frame] for frame in channels]
    )
    means = [jensen_shannon(histograms[:-d], histograms[d:]).mean() for d in STRIDES]
    return float(np.mean(means))


def chroma_cdc(frames: np.ndarray) -> float:
    """Measure the CDC of a film's a* and b*, in bins of one unit; source luma hides nothing."""
    return cdc(np.rint(chroma(frames) + 128.0).clip(0, 255).astype(np.int64))


def chroma_error(frames: np.ndarray, truth: np.ndarray) -> float:
    """Give the mean distance of a film's a*b* to the truth's, in units of a*b*."""
    return float(np.linalg.norm(chroma(frames) - chroma(truth), axis=-1).mean())


def palette_distance(asked: np.ndarray, found: np.ndarray) -> float:
    """Give the distance of two sets of sRGB colors `[n, 3]` in [0, 1], in units of a*b*.

    Colors are paired one to one so that the mean distance over pairs is least; that mean is the
    value. Lightness is left out: a film's luma is its source's, whatever palette was asked for.
    """
    costs = np.linalg.norm(chroma(asked)[:, None] - chroma(found)[None], axis=-1)
    return float(costs[linear_sum_assignment(costs)].mean())
