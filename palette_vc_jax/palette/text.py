"""Parse colors in text: `#rrggbb`, `#rgb` and CSS names."""

import re

import numpy as np
from PIL import ImageColor

from palette_vc_jax.palette.palette import COLORS, Palette

# Colors as links of coolors.co have them, with or without the address, and without the number
# sign, which an unquoted shell takes for the beginning of a comment.
LINK = re.compile(
    r"(?:(?:https?://)?(?:www\.)?coolors\.co/(?:palette/)?)?"
    r"([0-9a-f]{6}(?:[-, ] ?[0-9a-f]{6}){0,99})/?(?:\?\S*)?",
    re.IGNORECASE,
)
QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "`": "`"}
HEX = re.compile(r"#([0-9a-f]{3}|[0-9a-f]{6})")


def unquote(text: str) -> str:
    """Remove spaces and one pair of quotes around a text, which some shells hand on."""
    text = text.strip()
    if len(text) >= 2 and QUOTES.get(text[0]) == text[-1]:
        return text[1:-1].strip()
    return text


def parse_link(text: str) -> np.ndarray | None:
    """Return the different colors of `rrggbb-rrggbb-...`, with commas too, or of a coolors.co link.

    They are sRGB `[n, 3]` in [0, 1]. None for a text of another form.
    """
    match = LINK.fullmatch(text.strip())
    if match is None:
        return None
    words = dict.fromkeys(re.split("[-, ]+", match[1].lower()))
    return np.array([list(bytes.fromhex(word)) for word in words]) / 255.0


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
