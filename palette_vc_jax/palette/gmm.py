"""The paper's palette prior: a Gaussian mixture over the colors of training film.

Ten frames are drawn from each training clip. Gray pixels, whose R, G and B have a variance below
50 in 8-bit units, are removed. A mixture is fitted to the other pixels, and a palette is five draws
from it ('Consistent Video Colorization via Palette Guidance', section 3.3).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from palette_vc_jax import atomic, files
from palette_vc_jax.palette.palette import COLORS, Palette

COMPONENTS = 16
FIT = "python -m palette_vc_jax mixture --clips CLIPS --output {}"  # command that fits a mixture
GRAY_VARIANCE = 50.0  # variance of a pixel's three 8-bit values, below which it is gray


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K Gaussians over sRGB in [0, 1].

    Args:
        weights: `[K]`, with sum 1.
        means: `[K, 3]`.
        covariances: `[K, 3, 3]`.
        fitted_on: description of the pixels, as plain JSON values.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    fitted_on: dict[str, object] = field(default_factory=dict)


def colored(pixels: np.ndarray) -> np.ndarray:
    """Return pixels `[N, 3]` uint8 without the gray ones."""
    return pixels[pixels.astype(np.float32).var(axis=-1) >= GRAY_VARIANCE]


def fit(
    pixels: np.ndarray, components: int = COMPONENTS, seed: int = 0, **fitted_on: object
) -> Mixture:
    """Fit a mixture to the colored ones of pixels `[N, 3]` uint8 sRGB.

    Args:
        pixels: sRGB `[N, 3]` uint8.
        components: number of Gaussians.
        seed: seed of the fit.
        fitted_on: description of the pixels.

    Raises:
        ValueError: if there are fewer than ten colored pixels per component.
    """
    from sklearn.mixture import GaussianMixture  # its import takes a second

    kept = colored(pixels)
    if len(kept) < 10 * components:
        raise ValueError(
            f"{len(kept)} of {len(pixels)} pixels have color; a mixture of {components} needs "
            f"{10 * components}: give more color frames."
        )
    model = GaussianMixture(components, random_state=seed, reg_covar=1e-4).fit(kept / 255.0)
    order = np.argsort(-model.weights_)
    parts = (model.weights_[order], model.means_[order], model.covariances_[order])
    return Mixture(*parts, fitted_on | {"pixels": len(kept)})


def sample(mixture: Mixture, seed: int) -> Palette:
    """Draw a palette of five colors, which depends only on the mixture and the seed."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(mixture.weights), size=COLORS, p=mixture.weights)
    normal = rng.standard_normal((COLORS, 3))
    roots = np.linalg.cholesky(mixture.covariances[chosen])
    colors = mixture.means[chosen] + np.einsum("nij,nj->ni", roots, normal)
    return Palette.of(np.clip(colors, 0.0, 1.0), f"gmm:{seed}")


def save(mixture: Mixture, path: str | Path) -> None:
    """Write a mixture as JSON."""
    values = {
        "fitted_on": mixture.fitted_on,
        "weights": mixture.weights.round(6).tolist(),
        "means": mixture.means.round(6).tolist(),
        "covariances": mixture.covariances.round(8).tolist(),
    }
    atomic.write_text(Path(path), json.dumps(values, indent=1) + "\n")


def load(path: str | Path) -> Mixture:
    """Read a mixture that `save` wrote.

    Raises:
        ValueError: if the file is missing or is not a valid mixture.
    """
    files.check_regular(path)
    try:
        values = files.read_json(path)
        weights, means, covariances = (
            np.array(values[key], np.float64) for key in ("weights", "means", "covariances")
        )
        fitted_on = dict(values["fitted_on"])
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such mixture; run `{FIT.format(path)}` to fit one to color clips."
        ) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a mixture's JSON ({error!r}).") from None
    count = weights.size
    parts = (weights, means, covariances)
    if [part.shape for part in parts] != [(count,), (count, 3), (count, 3, 3)]:
        raise ValueError(
            f"{path}: the shapes of the mixture's weights, means and covariances do not agree."
        )
    if not all(np.isfinite(part).all() for part in parts) or weights.min(initial=0.0) < 0.0:
        raise ValueError(f"{path}: a mixture's values must be finite, and its weights at least 0.")
    if weights.sum() == 0.0 or np.linalg.eigvalsh(covariances).min() <= 0.0:
        raise ValueError(
            f"{path}: a mixture needs a weight above 0 and positive definite covariances."
        )
    return Mixture(weights / weights.sum(), means, covariances, fitted_on)
