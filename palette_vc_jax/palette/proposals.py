"""Colors proposed for what is named, and the five of them that make a palette.

Five are picked one by one, each far from those picked before (Gonzalez, 'Clustering to minimize
the maximum intercluster distance', 1985), with weights: a mean of proposals, as K-means would
give, turns red and green into a brown that nobody proposed.
"""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from skimage.color import lab2rgb, rgb2lab

from palette_vc_jax.palette.palette import COLORS

FAR = 40.0  # in CIE L*a*b*; colors farther apart do not count as more different
ALIKE = 7.0  # colors nearer than this are one
SHADE = 18.0  # of lightness, between a color and the next of its shades
LEAST = 4.0  # lightness of a shade, and its distance from white
DULL = 0.85  # factor of chroma from a color to the next of its shades


class Tag(NamedTuple):
    """A thing, place, time or mood in words."""

    text: str
    weight: float = 1.0  # above 0; how much of the film it is


class Proposal(NamedTuple):
    """A color that a tag should have."""

    tag: str
    color: tuple[float, float, float]  # sRGB in [0, 1]
    weight: float  # above 0


class Proposals(NamedTuple):
    """What a proposer answers."""

    colors: tuple[Proposal, ...]
    details: Mapping[str, object]  # which proposer, as plain JSON values
    unknown: tuple[str, ...] = ()  # words that it made nothing of


def choose(proposals: Sequence[Proposal], seed: int = 0, temperature: float = 0.0) -> np.ndarray:
    """Pick five colors `[5, 3]`, sRGB in [0, 1], that differ.

    The first is the one of greatest weight; each of the others has the greatest
    sqrt(weight / (1 + colors picked of its tag)) * distance to those picked. Where the proposals
    do not hold five that differ, lighter and darker shades of those picked fill up.

    Args:
        proposals: one or more.
        seed, temperature: weights are multiplied by exp(temperature * Gumbel noise of `seed`);
            at 0 the seed is without effect.
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
    """Turn sRGB `[n, 3]` in [0, 1] to CIE L*a*b* (D65)."""
    return rgb2lab(np.asarray(colors, np.float64))


def to_srgb(lab: np.ndarray) -> np.ndarray:
    """Turn CIE L*a*b* `[n, 3]` to sRGB, clipped to [0, 1]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of colors that are clipped
        return np.clip(lab2rgb(lab), 0.0, 1.0)


def _with_shades(lab: np.ndarray) -> np.ndarray:
    """Add shades of `lab` `[n, 3]`, those of the first before the others', until there are five."""
    steps = [sign * k for k in range(1, COLORS + 1) for sign in (-1, 1)]
    for step, base in itertools.product(steps, lab):
        if len(lab) == COLORS:
            break
        dull = DULL ** abs(step)
        shade = to_lab(to_srgb(base * (1.0, dull, dull) + (step * SHADE, 0.0, 0.0)))
        if LEAST <= base[0] + step * SHADE <= 100.0 - LEAST:
            if np.linalg.norm(lab - shade, axis=-1).min() >= ALIKE:
                lab = np.concatenate([lab, shade[None]])
    return lab
