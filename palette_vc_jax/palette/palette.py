"""Five sRGB colors in luma order, and the vector that the network reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from palette_vc_jax.pixels import luma

COLORS = 5


@dataclass(frozen=True, eq=False)
class Palette:
    """Five colors, dark to light.

    colors: float32 `[5, 3]`, sRGB in [0, 1], sorted by BT.601 luma, ties by red, green, blue: one
        set of colors is one vector, whatever its source.
    source: where they came from, such as `image:still.png`.
    details: what else is worth keeping of that, as plain JSON values.
    """

    colors: np.ndarray
    source: str
    details: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls, colors: np.ndarray, source: str, details: Mapping[str, object] | None = None
    ) -> "Palette":
        """Make a palette of 1 to 5 sRGB colors `[n, 3]` in [0, 1].

        Fewer than five are sorted, then repeated from the darkest on until there are five
        (a b c -> a b c a b), then sorted again.

        Raises ValueError for no color, more than five, or values outside [0, 1].
        """
        colors = np.asarray(colors, np.float32).reshape(-1, 3)
        if not 1 <= len(colors) <= COLORS:
            raise ValueError(f"a palette of {len(colors)} colors; 1 to {COLORS} are needed.")
        if not (np.isfinite(colors).all() and colors.min() >= 0.0 and colors.max() <= 1.0):
            raise ValueError("palette colors must lie in [0, 1] in red, green and blue.")
        colors = _sorted(colors)
        return cls(_sorted(colors[np.arange(COLORS) % len(colors)]), source, dict(details or {}))

    def vector(self) -> np.ndarray:
        """Give the colors as the network reads them: float32 `[15]` in [-1, 1]."""
        return (2.0 * self.colors - 1.0).reshape(-1)

    def hex(self) -> list[str]:
        """Give the colors as `#rrggbb`, rounded to 8 bits."""
        return to_hex(self.colors)


def to_hex(colors: np.ndarray) -> list[str]:
    """Write sRGB colors `[n, 3]` in [0, 1] as `#rrggbb`, rounded to 8 bits."""
    codes = np.rint(np.asarray(colors) * 255.0).astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*code) for code in codes]


def _sorted(colors: np.ndarray) -> np.ndarray:
    # lexsort's last key counts first.
    lumas = luma(colors, np.float64)
    return colors[np.lexsort((colors[:, 2], colors[:, 1], colors[:, 0], lumas))]
