"""The metrics of single films: a table of meters, each updated with chunks in order.

A meter holds sums, not frames. To add a metric, write a measure of frames in `color.py` or
`structure.py`, or a meter here, and add a row to `METRICS`; tables and the command follow.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np

from palette_vc_jax.metrics import color, structure, warp
from palette_vc_jax.metrics.chunk import Chunk
from palette_vc_jax.pixels import colorfulness

COLORLESS = 0.1  # a*b* units; for comparison, an exact gray has less than 0.01
STRIDES = (1, 2, 4)  # distances of the frames that the CDC compares


class Meter(Protocol):
    """Measure one film against the truth."""

    def update(self, film: Chunk, truth: Chunk) -> None:
        """Add the next frames of both."""

    def compute(self) -> float:
        """Return the film's value.

        Raises:
            ValueError: if the film has no value; the message says why, and is listed with the
                table.
        """


class Mean:
    """The mean over frames of `measure(film, truth) -> [n]`.

    Infinite values are ignored unless there are no others: PSNR is infinite if a frame, for
    example a black one, equals the truth's.
    """

    def __init__(self, measure: Callable[[Chunk, Chunk], np.ndarray]):
        self.measure, self.sum, self.count, self.infinite = measure, 0.0, 0, 0

    def update(self, film: Chunk, truth: Chunk) -> None:
        values = np.asarray(self.measure(film, truth), np.float64)
        kept = values[~np.isinf(values)]
        self.sum, self.count = self.sum + kept.sum(), self.count + len(kept)
        self.infinite += len(values) - len(kept)

    def compute(self) -> float:
        if not self.count:
            return float("inf") if self.infinite else float("nan")
        return float(self.sum / self.count)


class ChromaCorrelation:
    """Pearson's correlation of a*b* with the truth's, beyond what follows from luma.

    In each frame the means over 16 bins of the truth's luma are subtracted from both
    (`color.beyond_luma`). The value is over all frames and both channels: 1 for the truth, about 0
    for any color that is a function of luma, and 0 if the residual of either film is below 0.1
    units, as that of a gray copy is.
    """

    def __init__(self):
        self.products, self.count = np.zeros(3), 0

    def update(self, film: Chunk, truth: Chunk) -> None:
        for mine, true, luma in zip(film.chroma, truth.chroma, truth.luma, strict=True):
            left, right = color.beyond_luma(mine, luma), color.beyond_luma(true, luma)
            self.products += [np.sum(left * right), np.sum(left**2), np.sum(right**2)]
            self.count += left.size

    def compute(self) -> float:
        both, left, right = self.products / max(self.count, 1)
        if min(left, right) < COLORLESS**2:
            return 0.0
        return float(both / np.sqrt(left * right))


class HistogramDistance:
    """The Jensen-Shannon distance between the a*b* histograms of two films, 0 to 1.

    A film has one histogram (`color.histogram`); the distance is the square root of the divergence
    in bits.
    """

    def __init__(self):
        self.counts = np.zeros((2, color.HISTOGRAM_BINS**2))

    def update(self, film: Chunk, truth: Chunk) -> None:
        self.counts += [color.histogram(film.chroma), color.histogram(truth.chroma)]

    def compute(self) -> float:
        divergence = color.jensen_shannon(*(self.counts / self.counts.sum(axis=1, keepdims=True)))
        return float(np.sqrt(divergence / np.log(2.0)))


class ColorConsistency:
    """Color distribution consistency (CDC) of codes 0 to 255: how much histograms change.

    The mean over t, channels and d = 1, 2, 4 of the Jensen-Shannon divergence (natural logarithm)
    between the histograms of frames t and t + d. Lower is steadier, not better: compare it with
    the truth's. Liu et al. 2021, "Temporally Consistent Video Colorization" (TCVC), as its code
    computes it.
    """

    def __init__(self, codes: Callable[[Chunk], np.ndarray]):
        self.codes = codes
        self.last: list[np.ndarray] = []  # histograms of the previous frames
        self.sums, self.counts = np.zeros(len(STRIDES)), np.zeros(len(STRIDES))

    def update(self, film: Chunk, truth: Chunk) -> None:
        for change in self.changes(film):
            known = ~np.isnan(change)
            self.sums[known] += change[known]
            self.counts += known

    def changes(self, film: Chunk) -> np.ndarray:
        """Return the divergence `[n, len(STRIDES)]` of the next frames from earlier ones.

        Values are nan where the film has no earlier frame at that distance.
        """
        changes = np.full((len(film), len(STRIDES)), np.nan)
        frames = color.channel_histograms(self.codes(film))
        for row, histograms in zip(changes, frames, strict=True):
            for index, stride in enumerate(STRIDES):
                if len(self.last) >= stride:
                    row[index] = color.jensen_shannon(self.last[-stride], histograms).mean()
            self.last = [*self.last, histograms][-STRIDES[-1] :]
        return changes

    def compute(self) -> float:
        if not self.counts.all():
            least = STRIDES[-1] + 1
            raise ValueError(f"fewer than {least} frames, which the CDC needs")
        return float((self.sums / self.counts).mean())


class WarpError:
    """The mean over pairs of consecutive frames of `warp.warp_error`, along the truth's flow."""

    def __init__(self, view: Callable[[Chunk], np.ndarray]):
        """Compare `view(chunk)`, `[n, H, W, C]`."""
        self.view, self.sum, self.count = view, 0.0, 0

    def update(self, film: Chunk, truth: Chunk) -> None:
        frames = film.with_before(self.view)
        for first, second, flow in zip(frames[:-1], frames[1:], truth.flows, strict=True):
            error = warp.warp_error(first, second, flow)
            if not np.isnan(error):
                self.sum, self.count = self.sum + error, self.count + 1

    def compute(self) -> float:
        if not self.count:
            raise ValueError("no pair of frames in which motion could be followed")
        return self.sum / self.count


class Metric(NamedTuple):
    """A metric of single films."""

    title: str  # established name
    better: str  # 'high', 'low', or 'truth': close to the truth's value
    meter: Callable[[], Meter]
    network: str | None = None  # name of the network that it needs


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
        lambda: Mean(lambda film, _: colorfulness(film.rgb)),
    ),
    "colorfulness_abs": Metric(
        "Colorful (absolute variant)",
        "truth",
        lambda: Mean(lambda film, _: colorfulness(film.rgb, signed=False)),
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
    """Measure a film that fits in memory.

    Args:
        names: keys of `METRICS` that need no network.
        film: sRGB `[T, H, W, 3]`, uint8 or float in [0, 1].
        truth: film of the same shape; None for the film itself.

    Raises:
        ValueError: if the film has no value for one of the metrics.
    """
    chunk = Chunk(film)
    reference = chunk if truth is None else Chunk(truth)
    values = {}
    for name in names:
        meter = METRICS[name].meter()
        meter.update(chunk, reference)
        values[name] = meter.compute()
    return values
