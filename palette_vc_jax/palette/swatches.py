"""Read the colors of other programs' palette files: .ase, .aco, .gpl and .hex.

Sources: Adobe Photoshop File Formats Specification, section 'Color Swatches' (.aco); the layout of
Adobe Swatch Exchange as its readers describe it (.ase: big-endian blocks of a type, a length, a
name in UTF-16, a color model and floats); GIMP's `gimppalette-load.c` (.gpl: lines of R G B name);
Lospec (.hex: one rrggbb a line).
"""

import colorsys
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from palette_vc_jax.files import check_regular
from palette_vc_jax.palette.palette import COLORS
from palette_vc_jax.palette.proposals import to_lab, to_srgb

MAX_BYTES = 2**20  # of a file; real ones have a few KB
ASE_COLOR = 1  # the type of a block that holds a color; others begin and end groups
ASE_MODELS = {b"RGB ": "rgb", b"CMYK": "cmyk", b"LAB ": "lab", b"GRAY": "gray"}
NUMBERS = {"rgb": 3, "cmyk": 4, "lab": 3, "gray": 1}  # values of each model


def read_colors(path: Path) -> np.ndarray:
    """Return the colors of a file in its order, sRGB `[n, 3]` in [0, 1], without duplicates.

    CMYK is converted without a profile.

    Raises:
        ValueError: if the file is missing, damaged or too large, or holds no color.
    """
    check_regular(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such palette file.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: more than {MAX_BYTES} bytes; no palette is so large.")
    try:
        colors = np.array(READERS[path.suffix.lower()](path.read_bytes()), np.float64)
        if not len(colors) or not np.isfinite(colors).all():
            raise ValueError("no colors")
    except (ValueError, struct.error) as error:
        raise ValueError(
            f"{path}: not a palette that can be read ({error}); export it again."
        ) from None
    codes = np.rint(255.0 * np.clip(colors, 0.0, 1.0))
    first = np.unique(codes, axis=0, return_index=True)[1]
    return codes[np.sort(first)] / 255.0


def take_five(colors: np.ndarray) -> np.ndarray:
    """Return at most five of different sRGB colors `[n, 3]`: the first, and those that differ most.

    Each has the greatest distance in CIE L*a*b* from those taken before it.
    """
    if len(colors) <= COLORS:
        return colors
    lab, taken = to_lab(colors), [0]
    while len(taken) < COLORS:
        gaps = np.linalg.norm(lab[:, None] - lab[taken], axis=-1).min(axis=1)
        taken.append(int(gaps.argmax()))
    return colors[taken]


def _read_ase(data: bytes) -> list[tuple[float, ...]]:
    if data[:4] != b"ASEF":
        raise ValueError("no Adobe Swatch Exchange")
    colors, place = [], 12
    for _ in range(struct.unpack_from(">I", data, 8)[0]):
        kind, length = struct.unpack_from(">HI", data, place)
        place += 6
        if place + length > len(data):
            raise ValueError("it is cut off")
        if kind == ASE_COLOR:
            name = 2 + 2 * struct.unpack_from(">H", data, place)[0]  # bytes
            model = ASE_MODELS.get(data[place + name : place + name + 4].upper())
            if model is None:
                raise ValueError("a color of an unknown model")
            values = struct.unpack_from(f">{NUMBERS[model]}f", data, place + name + 4)
            if model == "lab":
                values = (100.0 * values[0], *values[1:])
            colors.append(_to_rgb(model, values))
        place += length
    return colors


def _read_aco(data: bytes) -> list[tuple[float, ...]]:
    version, count = struct.unpack_from(">HH", data)
    if version not in (1, 2):
        raise ValueError("no Photoshop swatches")
    colors, place = [], 4
    for _ in range(count):
        space, *values = struct.unpack_from(">H4H", data, place)
        if space not in ACO_SPACES:
            raise ValueError(f"a color of the unknown space {space}")
        colors.append(ACO_SPACES[space](*values))
        place += 10
        if version == 2:  # a name in UTF-16
            place += 4 + 2 * struct.unpack_from(">I", data, place)[0]
    return colors


def _read_gpl(data: bytes) -> list[tuple[float, ...]]:
    lines = data.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("GIMP Palette"):
        raise ValueError("no GIMP palette")
    found = (re.match(r"\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})(?:\s|$)", line) for line in lines[1:])
    return [tuple(int(code) / 255.0 for code in match.groups()) for match in found if match]


def _read_hex(data: bytes) -> list[tuple[float, ...]]:
    words = data.decode("utf-8-sig", "replace").split()
    if wrong := [word for word in words if not re.fullmatch(r"#?[0-9a-fA-F]{6}", word)]:
        raise ValueError(f"{ascii(wrong[0][:20])} is not rrggbb")
    return [tuple(code / 255.0 for code in bytes.fromhex(word[-6:])) for word in words]


def _to_rgb(model: str, values: tuple[float, ...]) -> tuple[float, ...]:
    if model == "lab":
        if not all(-1000.0 < value < 1000.0 for value in values):
            raise ValueError("a color out of range")
        return tuple(to_srgb(np.array([values]))[0])
    if model == "cmyk":
        cyan, magenta, yellow, black = values
        return tuple((1.0 - ink) * (1.0 - black) for ink in (cyan, magenta, yellow))
    return values * 3 if model == "gray" else values


def _signed(code: int) -> float:
    return float(code - 2**16 if code >= 2**15 else code)


def _ratio(codes: tuple[int, ...], whole: float) -> tuple[float, ...]:
    return tuple(code / whole for code in codes)


# Photoshop's color spaces -> sRGB of four codes of 16 bits.
ACO_SPACES: dict[int, Callable[..., tuple[float, ...]]] = {
    0: lambda r, g, b, _: _ratio((r, g, b), 65535.0),
    1: lambda h, s, v, _: colorsys.hsv_to_rgb(*_ratio((h, s, v), 65535.0)),
    2: lambda *inks: _to_rgb("cmyk", tuple(1.0 - ink / 65535.0 for ink in inks)),
    7: lambda L, a, b, _: _to_rgb("lab", (L / 100.0, _signed(a) / 100.0, _signed(b) / 100.0)),
    8: lambda gray, *_: (gray / 10000.0,) * 3,
    9: lambda *inks: _to_rgb("cmyk", _ratio(inks, 10000.0)),
}
READERS = {".ase": _read_ase, ".aco": _read_aco, ".gpl": _read_gpl, ".hex": _read_hex}
