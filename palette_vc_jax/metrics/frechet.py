"""The Frechet distance of two sets of features, computed from their moments."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Moments of features `[N, D]`, in float64."""

    count: int
    mean: np.ndarray  # [D]
    scatter: np.ndarray  # [D, D], sum of outer products of deviations from the mean

    @property
    def covariance(self) -> np.ndarray:
        """The covariance, with divisor `count - 1`."""
        return self.scatter / (self.count - 1)


class Normal(NamedTuple):
    """A normal distribution; `factor` times its transpose is the covariance."""

    mean: np.ndarray  # [D]
    factor: np.ndarray  # [D, rank]


def moments(features: np.ndarray) -> Moments:
    """Compute the moments of features `[N, D]`.

    Raises:
        ValueError: if features are not finite.
    """
    features = np.asarray(features, np.float64)
    if not np.isfinite(features).all():
        raise ValueError(
            f"features of {len(features)} items are not all finite; check the frames for NaN, "
            "and convert the network's weights again."
        )
    mean = features.sum(axis=0) / max(len(features), 1)
    off = features - mean
    return Moments(len(features), mean, off.T @ off)


def merge(a: Moments | None, b: Moments) -> Moments:
    """Return the moments of the union of two sets; None is the empty set.

    Chan et al. 1979: the scatter grows by that of the two means, without cancellation.
    """
    if a is None:
        return b
    count = a.count + b.count
    step = b.mean - a.mean
    between = np.outer(step, step) * (a.count * b.count / count)
    return Moments(count, a.mean + step * (b.count / count), a.scatter + b.scatter + between)


def add(known: Moments | None, features: np.ndarray) -> Moments:
    """Return the moments of a set after features `[N, D]` are added."""
    return merge(known, moments(features))


def frechet(a: Moments, b: Moments) -> float:
    """Return the Frechet distance of two sets of features.

    Raises:
        ValueError: if a set has fewer than 2 items and thus no covariance, or the features are
            of different networks.
    """
    if min(a.count, b.count) < 2:
        raise ValueError(
            f"sets of {a.count} and {b.count} items; a Frechet distance needs at least 2 in each "
            "(far more to mean something): give more frames or clips."
        )
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"features of {a.mean.size} and {b.mean.size} values; compare those of one network."
        )
    return distance(normal(a.mean, a.covariance), normal(b.mean, b.covariance))


def normal(mean: np.ndarray, covariance: np.ndarray) -> Normal:
    """Return a normal distribution with a factored covariance, the slowest step."""
    return Normal(mean, _factor(covariance))


def distance(a: Normal, b: Normal) -> float:
    """Return |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) of two normal distributions.

    With A = F F' and B = G G', the eigenvalues of A B are the squared singular values of F' G, so
    the trace of the root is the sum of the singular values. This avoids the root of a singular
    matrix, and the distance of a set to itself is 0 even if it has few items. Dowson and Landau
    1982, "The Frechet distance between multivariate normal distributions".
    """
    shared = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum()
    spread = np.sum(a.factor**2) + np.sum(b.factor**2) - 2.0 * shared
    return max(float(np.sum((a.mean - b.mean) ** 2) + spread), 0.0)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Return F `[D, rank]` with F F' = `covariance`."""
    try:
        return np.linalg.cholesky(covariance)  # ten times faster than the eigenvectors
    except np.linalg.LinAlgError:  # lower rank: fewer items than features
        values, vectors = np.linalg.eigh(covariance)
        kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
        return vectors[:, kept] * np.sqrt(values[kept])
