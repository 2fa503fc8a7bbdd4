"""Five sRGB colors in luma order, and their vector for the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from palette_vc_jax import DEMO
from palette_vc_jax.pixels import luma

COLORS = 5


@dataclass(frozen=True, eq=False)
class Palette:
    """Five colors, dark to light.

    Args:
        colors: float32 `[5, 3]`, sRGB in [0, 1], sorted by BT.601 luma, then red, green and blue,
            so that a set of colors has one vector, whatever its source.
        source: origin of the colors, such as `image:still.png`.
        details: further information about the origin, as plain JSON values.
    """

    colors: np.ndarray
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, colors: np.ndarray, source: str, details: Mapping[str, Any] | None = None
    ) -> "Palette":
        """Make a palette of 1 to 5 sRGB colors `[n, 3]` in [0, 1].

        Fewer than five colors are sorted, repeated from the darkest on until there are five
        (a b c -> a b c a b), and sorted again.

        Raises:
            ValueError: if there are no colors or more than five, or values outside [0, 1].
        """
        colors = np.asarray(colors, np.float32).reshape(-1, 3)
        if not 1 <= len(colors) <= COLORS:
            raise ValueError(f"a palette of {len(colors)} colors; give 1 to {COLORS}.")
        if not (np.isfinite(colors).all() and colors.min() >= 0.0 and colors.max() <= 1.0):
            raise ValueError("palette colors must have red, green and blue in [0, 1].")
        colors = _sorted(colors)
        return cls(_sorted(colors[np.arange(COLORS) % len(colors)]), source, dict(details or {}))

    @classmethod
    def from_colors(cls, colors: str | Sequence[str] | np.ndarray) -> "Palette":
        """Make a palette of 1 to 5 colors, as `of` does.

        Args:
            colors: text such as `"#27323f, tomato"`, a list of such names, or sRGB `[n, 3]` in
                [0, 1].

        Raises:
            ValueError: if a color is not valid; the message names it.
        """
        from palette_vc_jax.palette.text import parse_colors

        if isinstance(colors, str):
            return parse_colors(colors)
        if all(isinstance(color, str) for color in colors):
            return parse_colors(",".join(colors))
        return cls.of(np.asarray(colors), "colors")

    @classmethod
    def from_image(cls, image: str | Path | np.ndarray, seed: int = 0) -> "Palette":
        """Make a palette of an image's main colors by K-means.

        Args:
            image: a file, or pixels `[H, W, 3]` uint8 sRGB.
            seed: seed of the clustering.

        Raises:
            ValueError: if the file is missing or is not an image.
        """
        from palette_vc_jax.images import read_image
        from palette_vc_jax.palette.image import from_image

        if isinstance(image, np.ndarray):
            return from_image(image, "image", seed)
        return from_image(read_image(image), f"image:{Path(image).name}", seed)

    @classmethod
    def from_file(cls, path: str | Path) -> "Palette":
        """Read a palette file, such as the one that is written with a film.

        Raises:
            ValueError: if the file is missing or is not a palette.
        """
        from palette_vc_jax.palette.file import load_palette

        return load_palette(path)

    @classmethod
    def from_words(cls, text: str, lexicon: str | Path | None = None) -> "Palette":
        """Make a palette of the usual colors of the things in `text`, from the built-in table.

        Args:
            text: names of things, such as `"autumn, a red tram"`.
            lexicon: file whose entries replace or extend the built-in table.

        Raises:
            ValueError: if none of the words has a known color, or `lexicon` is not valid.
        """
        from palette_vc_jax.palette.words import from_words, proposer

        return from_words(text, proposer(extension=lexicon))

    @classmethod
    def from_mixture(cls, path: str | Path | None = None, seed: int = 0) -> "Palette":
        """Draw five colors from the mixture in a file, by default the demo model's.

        Raises:
            ValueError: if the file is missing or is not a mixture.
        """
        from palette_vc_jax.palette import gmm

        return gmm.sample(gmm.load(path or DEMO / "mixture.json"), seed)

    @classmethod
    def from_spec(cls, spec: str, seed: int = 0) -> "Palette | None":
        """Make a palette from a value of `--palette`, such as `image:still.png`; None for `none`.

        Raises:
            ValueError: if `spec` is not valid.
        """
        from palette_vc_jax.palette.spec import parse_spec

        return parse_spec(spec, seed=seed)

    def vector(self) -> np.ndarray:
        """Return the colors as the network's input, float32 `[15]` in [-1, 1]."""
        return (2.0 * self.colors - 1.0).reshape(-1)

    def hex(self) -> list[str]:
        """Return the colors as `#rrggbb`, rounded to 8 bits."""
        return to_hex(self.colors)


def to_hex(colors: ArrayLike) -> list[str]:
    """Return sRGB colors `[n, 3]` in [0, 1] as `#rrggbb`, rounded to 8 bits."""
    codes = np.rint(np.asarray(colors) * 255.0).astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*code) for code in codes]


def _sorted(colors: np.ndarray) -> np.ndarray:
    # The last key of lexsort is the primary one.
    lumas = luma(colors, np.float64)
    return colors[np.lexsort((colors[:, 2], colors[:, 1], colors[:, 0], lumas))]
