"""Convert between luma codes, Y'CbCr and RGB, and limit colors to the gamut at fixed luma.

Y' is in [0, 1], Cb and Cr are in [-0.5, 0.5], and RGB is non-linear (as in sRGB files and video
signals) in [0, 1]. Only this module handles the range of a file's codes.
"""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np

from palette_vc_jax.pixels import BT601
from palette_vc_jax.video.film import Film, Frame

# Kr and Kb of ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance).
WEIGHTS = {"bt601": (BT601[0], BT601[2]), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


@cache
def luma_weights(matrix: str) -> np.ndarray:
    """Return the weights `[3]` of R, G and B in Y'.

    Raises:
        ValueError: if the matrix is unknown.
    """
    if matrix not in WEIGHTS:
        raise ValueError(f"matrix {matrix!r} is not known; use one of {', '.join(WEIGHTS)}.")
    red, blue = WEIGHTS[matrix]
    return np.array([red, 1.0 - red - blue, blue], np.float32)


@cache
def _to_chroma(matrix: str) -> np.ndarray:
    """Return the matrix `[2, 3]` from RGB to (B - Y') / (2 - 2 Kb) and (R - Y') / (2 - 2 Kr)."""
    weights = luma_weights(matrix).astype(np.float64)
    rows = np.eye(3)[[2, 0]] - weights
    return (rows / (2.0 * (1.0 - weights[[2, 0]]))[:, None]).astype(np.float32)


@cache
def _from_chroma(matrix: str) -> np.ndarray:
    """Return the matrix `[3, 2]` from Cb and Cr to RGB minus Y', the inverse of `_to_chroma`."""
    red, green, blue = luma_weights(matrix).astype(np.float64)
    to_red, to_blue = 2.0 * (1.0 - red), 2.0 * (1.0 - blue)
    rows = [(0.0, to_red), (-to_blue * blue / green, -to_red * red / green), (to_blue, 0.0)]
    return np.array(rows, np.float32)


def rgb_to_luma(rgb: np.ndarray, matrix: str) -> np.ndarray:
    """Convert RGB `[..., 3]` to Y' `[...]`, float32, in the input's scale."""
    return _transform(rgb, luma_weights(matrix)[None])[..., 0]


def rgb_to_chroma(rgb: np.ndarray, matrix: str) -> np.ndarray:
    """Convert RGB `[..., 3]` in [0, 1] to (Cb, Cr) `[..., 2]` in [-0.5, 0.5], float32."""
    return _transform(rgb, _to_chroma(matrix))


def ycc_to_rgb(gray: np.ndarray, chroma: np.ndarray, matrix: str) -> np.ndarray:
    """Convert Y' `[...]` and (Cb, Cr) `[..., 2]` to RGB `[..., 3]`, float32.

    Values outside [0, 1] are kept; see `limit_gamut`.
    """
    return _transform(chroma, _from_chroma(matrix)) + np.asarray(gray, np.float32)[..., None]


def limit_gamut(gray: np.ndarray, chroma: np.ndarray, matrix: str) -> np.ndarray:
    """Scale chroma toward neutral at fixed Y', pixel by pixel, until RGB is in [0, 1].

    Hue and colors inside the gamut do not change. Shapes are those of `ycc_to_rgb`.
    """
    gray = np.clip(np.asarray(gray, np.float32), 0.0, 1.0)
    chroma = np.asarray(chroma, np.float32)
    offsets = _transform(chroma, _from_chroma(matrix))
    red, green, blue = offsets[..., 0], offsets[..., 1], offsets[..., 2]
    above = np.maximum(np.maximum(red, green), blue)
    below = -np.minimum(np.minimum(red, green), blue)
    tiny = np.float32(1e-9)
    scale = np.minimum((1.0 - gray) / np.maximum(above, tiny), gray / np.maximum(below, tiny))
    return chroma * np.minimum(scale, 1.0)[..., None]


def scale_chroma(rgb: np.ndarray, factor: float, matrix: str) -> np.ndarray:
    """Return RGB `[..., 3]` with its chroma times `factor`, limited to the gamut at its luma."""
    if factor == 1.0:
        return rgb
    gray = rgb_to_luma(rgb, matrix)
    chroma = limit_gamut(gray, np.float32(factor) * rgb_to_chroma(rgb, matrix), matrix)
    return ycc_to_rgb(gray, chroma, matrix)


def code_range(depth: int, full_range: bool) -> tuple[float, float]:
    """Return the code of black and the number of codes from black to white (BT.2100-2 table 9)."""
    if full_range:
        return 0.0, 2.0**depth - 1.0
    return 16.0 * 2.0 ** (depth - 8), 219.0 * 2.0 ** (depth - 8)


def gray(luma: np.ndarray, film: Film) -> np.ndarray:
    """Convert a film's luma codes `[H, W]` to Y', float32 in [0, 1].

    Codes below black and above white, which TV range allows, are clipped; the film keeps them.
    """
    black, span = code_range(film.depth, film.full_range)
    values = luma.astype(np.float32)
    values -= black
    values *= np.float32(1.0 / span)
    return np.clip(values, 0.0, 1.0, out=values)


def luma_codes(luma: np.ndarray, film: Film, depth: int, full_range: bool) -> np.ndarray:
    """Convert a film's luma codes to another depth and range; return them as is if both match."""
    if (depth, full_range) == (film.depth, film.full_range):
        return luma
    black, span = code_range(film.depth, film.full_range)
    new_black, new_span = code_range(depth, full_range)
    values = (luma.astype(np.float32) - black) * np.float32(new_span / span) + new_black
    return _codes(values, depth)


def chroma_codes(chroma: np.ndarray, depth: int, full_range: bool) -> np.ndarray:
    """Convert (Cb, Cr) in [-0.5, 0.5] to codes (BT.2100-2 table 9), uint8 or uint16."""
    span = 2.0**depth - 1.0 if full_range else 224.0 * 2.0 ** (depth - 8)
    return _codes(np.float32(span) * chroma + np.float32(2.0 ** (depth - 1)), depth)


def with_luma(frame: Frame, gray: np.ndarray, film: Film) -> Frame:
    """Return a copy of a frame with luma Y' `[H, W]` in [0, 1], written in the film's codes."""
    black, span = code_range(film.depth, film.full_range)
    return replace(frame, luma=_codes(np.float32(span) * gray + np.float32(black), film.depth))


def _codes(values: np.ndarray, depth: int) -> np.ndarray:
    kind = np.uint8 if depth == 8 else np.uint16
    return np.clip(np.rint(values), 0, 2**depth - 1).astype(kind)


def _transform(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Multiply the last axis by `rows` `[n, m]`: `[..., m]` -> `[..., n]`, float32."""
    values = np.ascontiguousarray(values, np.float32)
    flat = cv2.transform(values.reshape(1, -1, values.shape[-1]), rows)
    return flat.reshape(*values.shape[:-1], rows.shape[0])
