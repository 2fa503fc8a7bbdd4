"""Parse colors in text: `#rrggbb`, `#rgb` and CSS names."""

import re

import numpy as np
from PIL import ImageColor

from palette_vc_jax.palette.palette import COLORS, Palette

HEX = re.compile(r"#([0-9a-f]{3}|[0-9a-f]{6})")


def parse_colors(text: str, source: str | None = None) -> Palette:
    """Return the palette of 1 to 5 colors separated by commas.

    Raises:
        ValueError: if a color is not valid; the message names it.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if len(names) > COLORS:
        raise ValueError(f"a palette of {len(names)} colors; give 1 to {COLORS}.")
    for name in names:
        if not HEX.fullmatch(name) and name not in ImageColor.colormap:
            raise ValueError(
                f"{name!r} is not a color; write #rrggbb, #rgb or a CSS name such as tomato."
            )
    colors = np.array([ImageColor.getrgb(name)[:3] for name in names]) / 255.0
    return Palette.of(colors, source or f"colors:{','.join(names)}")
