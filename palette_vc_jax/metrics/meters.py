"""What a film's value is under each metric: a table of meters, each fed with chunks in order.

A meter holds sums, not frames. `value` raises ValueError where a film has no value; the message
says why, and becomes a named gap of the table.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np

from palette_vc_jax.metrics import color, structure, warp
from palette_vc_jax.metrics.chunk import Chunk

COLORLESS = 0.1  # a*b* units; Lab of an exact grey strays from 0 by less than 0.01
STRIDES = (1, 2, 4)  # frames between those that the CDC compares


class Meter(Protocol):
    """Measures one film beside the truth."""

    def add(self, film: Chunk, truth: Chunk) -> None:
        """Take the next frames of both."""

    def value(self) -> float:
        """Give the film's value."""


class Mean:
    """The mean over frames of `measure(film, truth) -> [n]`.

    Infinite values, which PSNR has where a frame equals the truth's (a black one, say), are left
    out unless there are no others.
    """

    def __init__(self, measure: Callable[[Chunk, Chunk], np.ndarray]):
        self.measure, self.sum, self.count, self.infinite = measure, 0.0, 0, 0

    def add(self, film: Chunk, truth: Chunk) -> None:
        values = np.asarray(self.measure(film, truth), np.float64)
        kept = values[~np.isinf(values)]
        self.sum, self.count = self.sum + kept.sum(), self.count + len(kept)
        self.infinite += len(values) - len(kept)

    def value(self) -> float:
        if not self.count:
            return float("inf") if self.infinite else float("nan")
        return float(self.sum / self.count)


class ChromaCorrelation:
    """Pearson's correlation of a*b* with the truth's, beyond what luma tells.

    In each frame the means of 16 bins of the truth's luma are removed from both
    (`color.beyond_luma`); the value is over all frames and both channels: 1 for the truth, about 0
    for any color that is a function of luma. 0 where either film is left with less than 0.1 units,
    as a grey copy is.
    """

    def __init__(self):
        self.products, self.count = np.zeros(3), 0

    def add(self, film: Chunk, truth: Chunk) -> None:
        for mine, true, luma in zip(film.chroma, truth.chroma, truth.luma, strict=True):
            left, right = color.beyond_luma(mine, luma), color.beyond_luma(true, luma)
            self.products += [np.sum(left * right), np.sum(left**2), np.sum(right**2)]
            self.count += left.size

    def value(self) -> float:
        both, left, right = self.products / max(self.count, 1)
        if min(left, right) < COLORLESS**2:
            return 0.0
        return float(both / np.sqrt(left * right))


class HistogramDistance:
    """The Jensen-Shannon distance of two films' a*b* histograms, 0 to 1.

    A film has one histogram (`color.histogram`); the distance is the square root of the divergence
    in bits.
    """

    def __init__(self):
        self.counts = np.zeros((2, color.HISTOGRAM_BINS**2))

    def add(self, film: Chunk, truth: Chunk) -> None:
        self.counts += [color.histogram(film.chroma), color.histogram(truth.chroma)]

    def value(self) -> float:
        divergence = color.jensen_shannon(*(self.counts / self.counts.sum(axis=1, keepdims=True)))
        return float(np.sqrt(divergence / np.log(2.0)))


class ColorConsistency:
    """Color distribution consistency (CDC) of codes 0 .. 255: how the histograms wander.

    The Jensen-Shannon divergence (natural logarithm) of the histograms of frames t and t + d, in
    the mean over t, over channels and over d = 1, 2, 4. Lower is steadier, not better: read it
    beside the truth's. Liu et al. 2021, "Temporally Consistent Video Colorization" (TCVC), as its
    code computes it.
    """

    def __init__(self, codes: Callable[[Chunk], np.ndarray]):
        self.codes = codes
        self.last: list[np.ndarray] = []  # histograms of the frames before
        self.sums, self.counts = np.zeros(len(STRIDES)), np.zeros(len(STRIDES))

    def add(self, film: Chunk, truth: Chunk) -> None:
        for histograms in color.channel_histograms(self.codes(film)):
            for index, stride in enumerate(STRIDES):
                if len(self.last) >= stride:
                    before = self.last[-stride]
                    self.sums[index] += color.jensen_shannon(before, histograms).mean()
                    self.counts[index] += 1
            self.last = [*self.last, histograms][-STRIDES[-1] :]

    def value(self) -> float:
        if not self.counts.all():
            least = STRIDES[-1] + 1
            raise ValueError(f"fewer than {least} frames, of which the CDC compares some")
        return float((self.sums / self.counts).mean())


class WarpError:
    """The mean over pairs of frames of `warp.warp_error`, along the truth's flow."""

    def __init__(self, view: Callable[[Chunk], np.ndarray]):
        """`view` gives what is compared of frames, `[n, H, W, C]`."""
        self.view, self.sum, self.count = view, 0.0, 0

    def add(self, film: Chunk, truth: Chunk) -> None:
        frames = film.followed(self.view)
        for first, second, flow in zip(frames[:-1], frames[1:], truth.flows, strict=True):
            error = warp.warp_error(first, second, flow)
            if not np.isnan(error):
                self.sum, self.count = self.sum + error, self.count + 1

    def value(self) -> float:
        if not self.count:
            raise ValueError("no pair of frames in which motion could be followed")
        return self.sum / self.count


class Metric(NamedTuple):
    """A metric of single films: its name in the field, which way is better, and its meter."""

    title: str
    better: str  # 'high', 'low', or 'truth' where nearer the truth's value is better
    meter: Callable[[], Meter]
    network: str | None = None  # whose features it needs


def _chroma_codes(chunk: Chunk) -> np.ndarray:
    return np.rint(chunk.chroma + 128.0).clip(0, 255).astype(np.int64)


def _chroma_error(film: Chunk, truth: Chunk) -> np.ndarray:
    return np.linalg.norm(film.chroma - truth.chroma, axis=-1).mean(axis=(1, 2))


def _lpips(network: str) -> Callable[[Chunk, Chunk], np.ndarray]:
    def distances(film: Chunk, truth: Chunk) -> np.ndarray:
        distance = film.networks[network].distance
        return np.asarray(distance(film.features(network), truth.features(network)))[: len(film)]

    return distances


METRICS = {
    "colorfulness": Metric(
        "Colorful (Hasler-Suesstrunk, signed)",
        "truth",
        lambda: Mean(lambda film, _: color.colorfulness(film.rgb)),
    ),
    "colorfulness_abs": Metric(
        "Colorful (absolute variant)",
        "truth",
        lambda: Mean(lambda film, _: color.colorfulness(film.rgb, signed=False)),
    ),
    "psnr_rgb": Metric(
        "PSNR, RGB [dB]",
        "high",
        lambda: Mean(lambda film, truth: structure.psnr(film.codes, truth.codes)),
    ),
    "psnr_y": Metric(
        "PSNR, luma (fidelity) [dB]",
        "high",
        lambda: Mean(lambda film, truth: structure.psnr(film.luma_codes, truth.luma_codes)),
    ),
    "ssim_rgb": Metric(
        "SSIM, RGB",
        "high",
        lambda: Mean(lambda film, truth: structure.ssim(film.codes, truth.codes)),
    ),
    "ssim_y": Metric(
        "SSIM, luma",
        "high",
        lambda: Mean(lambda film, truth: structure.ssim(film.luma_codes, truth.luma_codes)),
    ),
    "lpips_alex": Metric(
        "LPIPS 0.1, alex", "low", lambda: Mean(_lpips("lpips_alex")), "lpips_alex"
    ),
    "lpips_vgg": Metric("LPIPS 0.1, vgg", "low", lambda: Mean(_lpips("lpips_vgg")), "lpips_vgg"),
    "chroma_error": Metric("a*b* error", "low", lambda: Mean(_chroma_error)),
    "chroma_correlation": Metric("a*b* correlation given luma", "high", ChromaCorrelation),
    "histogram_distance": Metric("a*b* histogram distance", "low", HistogramDistance),
    "cdc": Metric("CDC, RGB", "truth", lambda: ColorConsistency(lambda chunk: chunk.codes)),
    "cdc_ab": Metric("CDC, a*b*", "truth", lambda: ColorConsistency(_chroma_codes)),
    "warp_error": Metric("warp error, RGB", "truth", lambda: WarpError(lambda chunk: chunk.rgb)),
    "warp_error_ab": Metric(
        "warp error, a*b* / 100",
        "truth",
        lambda: WarpError(lambda chunk: chunk.chroma / 100.0),
    ),
}


def measure(
    names: Iterable[str], film: np.ndarray, truth: np.ndarray | None = None
) -> dict[str, float]:
    """Measure a film `[T, H, W, 3]` that fits memory, uint8 or float in [0, 1].

    Raises ValueError for a film that has no value under one of the metrics.
    """
    chunk = Chunk(film)
    beside = chunk if truth is None else Chunk(truth)
    values = {}
    for name in names:
        meter = METRICS[name].meter()
        meter.add(chunk, beside)
        values[name] = meter.value()
    return values
