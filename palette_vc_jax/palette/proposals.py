"""Choose the five colors of a palette among the colors proposed for tags.

Colors are picked one at a time, each far from those picked before (Gonzalez, 'Clustering to
minimize the maximum intercluster distance', 1985), with weights. K-means would average proposals,
and turn red and green into a brown that was not proposed.
"""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from skimage.color import lab2rgb, rgb2lab

from palette_vc_jax.palette.palette import COLORS

FAR = 40.0  # distance in CIE L*a*b* at which the score of a difference saturates
ALIKE = 7.0  # distance in CIE L*a*b* below which two colors count as one
SHADE = 18.0  # difference in lightness between neighboring shades of a color
MARGIN = 4.0  # minimum distance in lightness of a shade from black and white
DULL = 0.85  # ratio of chroma between neighboring shades of a color


class Tag(NamedTuple):
    """Words for a thing, place, time or mood."""

    text: str
    weight: float = 1.0  # importance in the film, above 0


class Proposal(NamedTuple):
    """A color that is proposed for a tag."""

    tag: str
    color: tuple[float, float, float]  # sRGB in [0, 1]
    weight: float  # above 0


class Proposals(NamedTuple):
    """The answer of a proposer."""

    colors: tuple[Proposal, ...]
    details: Mapping[str, object]  # description of the proposer, as plain JSON values
    unknown: tuple[str, ...] = ()  # words without a known color


def choose(proposals: Sequence[Proposal], seed: int = 0, temperature: float = 0.0) -> np.ndarray:
    """Return five different colors `[5, 3]`, sRGB in [0, 1].

    The first has the highest weight. Each of the others has the highest
    sqrt(weight / (1 + colors picked of its tag)) * distance to those picked. If fewer than five
    proposals differ, lighter and darker shades of them are added.

    Args:
        proposals: at least one.
        seed: seed of the noise.
        temperature: weights are multiplied by exp(temperature * Gumbel noise), so the seed has no
            effect at 0.
    """
    noise = np.random.default_rng(seed).gumbel(size=len(proposals))
    weights = np.array([p.weight for p in proposals]) * np.exp(temperature * noise)
    lab = to_lab(np.array([p.color for p in proposals]))
    tags = [p.tag for p in proposals]
    picked = [int(weights.argmax())]
    while len(picked) < COLORS:
        gaps = np.linalg.norm(lab[:, None] - lab[picked], axis=-1).min(axis=1)
        shares = np.array([1 + sum(tags[i] == tag for i in picked) for tag in tags])
        scores = np.sqrt(weights / shares) * np.minimum(gaps, FAR) * (gaps >= ALIKE)
        if not scores.any():
            break
        picked.append(int(scores.argmax()))
    return to_srgb(_with_shades(lab[picked]))


def to_lab(colors: np.ndarray) -> np.ndarray:
    """Convert sRGB `[n, 3]` in [0, 1] to CIE L*a*b* (D65)."""
    return rgb2lab(np.asarray(colors, np.float64))


def to_srgb(lab: np.ndarray) -> np.ndarray:
    """Convert CIE L*a*b* `[n, 3]` to sRGB, clipped to [0, 1]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lab2rgb warns about clipped colors
        return np.clip(lab2rgb(lab), 0.0, 1.0)


def _with_shades(lab: np.ndarray) -> np.ndarray:
    """Add shades of `lab` `[n, 3]`, closest shades and first colors first, up to five colors."""
    steps = [sign * k for k in range(1, COLORS + 1) for sign in (-1, 1)]
    for step, base in itertools.product(steps, lab):
        if len(lab) == COLORS:
            break
        dull = DULL ** abs(step)
        shade = to_lab(to_srgb(base * (1.0, dull, dull) + (step * SHADE, 0.0, 0.0)))
        if MARGIN <= base[0] + step * SHADE <= 100.0 - MARGIN:
            if np.linalg.norm(lab - shade, axis=-1).min() >= ALIKE:
                lab = np.concatenate([lab, shade[None]])
    return lab
