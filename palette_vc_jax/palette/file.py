"""Read and write palettes as JSON that can be edited by hand, and as swatch images."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from palette_vc_jax import atomic, files
from palette_vc_jax.palette import swatches
from palette_vc_jax.palette.palette import Palette, to_hex
from palette_vc_jax.palette.text import parse_colors

SWATCH = 96  # width and height of one color in pixels
GAP = 8  # white pixels between palettes


def save_palette(palette: Palette, path: str | Path) -> None:
    """Write a palette as `{"colors": ["#rrggbb", ...], "source": ...}`, dark to light.

    The palette's details follow, such as the tags and the model of a palette from words.
    """
    values = {"colors": palette.hex(), "source": palette.source, **palette.details}
    atomic.write_text(Path(path), json.dumps(values, indent=2) + "\n")


def load_palette(path: str | Path) -> Palette:
    """Read a palette's JSON, in which `colors` holds 1 to 5 colors as `parse_colors` takes them.

    The palette's `source` is the file's name; the file's `source` is kept as `made_from`, and all
    other entries are kept unchanged. Files of other programs are read by `swatches.read_colors`.

    Raises:
        ValueError: if the file is missing or is not a palette.
    """
    files.check_regular(path)
    if Path(path).suffix.lower() in swatches.READERS:
        return fit_five(swatches.read_colors(Path(path)), f"file:{Path(path).name}", path)
    try:
        values = files.read_json(path)
        colors = values["colors"]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such palette file.") from None
    except (OSError, ValueError, KeyError, TypeError):
        colors = None
    if not isinstance(colors, list) or not all(isinstance(color, str) for color in colors):
        raise ValueError(f'{path}: not a palette; write {{"colors": ["#rrggbb", ...]}}.')
    try:
        palette = parse_colors(",".join(colors), f"file:{Path(path).name}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    details = {key: value for key, value in values.items() if key not in ("colors", "source")}
    if "source" in values:
        details.setdefault("made_from", values["source"])
    return replace(palette, details=details)


def fit_five(colors: np.ndarray, source: str, name: str | Path) -> Palette:
    """Return a palette of different sRGB colors `[n, 3]`; warn if it takes five of more."""
    five = swatches.take_five(colors)
    if len(colors) == len(five):
        return Palette.of(five, source)
    warnings.warn(
        f"{name}: {len(colors)} colors; the first and four that differ most are used: "
        f"{','.join(to_hex(five))}.",
        stacklevel=2,
    )
    return Palette.of(five, source, {"colors_given": len(colors)})


def save_swatch(palette: Palette, path: str | Path) -> None:
    """Write the colors as squares in a row, dark to light."""
    save_sheet([palette], path)


def save_sheet(palettes: Sequence[Palette], path: str | Path) -> None:
    """Write palettes as rows of squares, numbered if there are several."""
    rows = [_row(palette) for palette in palettes]
    if len(rows) > 1:
        gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
        rows = [part for row in rows for part in (row, gap)][:-1]
    sheet = Image.fromarray(np.concatenate(rows))
    if len(palettes) > 1:
        wide = Image.new("RGB", (sheet.width + SWATCH // 2, sheet.height), "white")
        wide.paste(sheet, (SWATCH // 2, 0))
        draw, font = ImageDraw.Draw(wide), ImageFont.load_default(SWATCH // 4)
        for index in range(len(palettes)):
            middle = SWATCH // 4, index * (SWATCH + GAP) + SWATCH // 2
            draw.text(middle, str(index + 1), fill="black", font=font, anchor="mm")
        sheet = wide
    with atomic.file(Path(path)) as partial:
        sheet.save(partial, "PNG")


def _row(palette: Palette) -> np.ndarray:
    row = np.rint(255.0 * palette.colors).astype(np.uint8)[None]
    return row.repeat(SWATCH, 0).repeat(SWATCH, 1)
