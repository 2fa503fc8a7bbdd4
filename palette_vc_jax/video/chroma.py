"""Read a film in color: its luma codes, and its chroma at the size of the luma.

Coloring never reads chroma; this is for films that have their colors already.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from av.video.frame import VideoFrame

from palette_vc_jax.video import color
from palette_vc_jax.video.damage import Damage
from palette_vc_jax.video.facts import stores_rgb
from palette_vc_jax.video.film import Film
from palette_vc_jax.video.read import PLANAR, Frame, luma_of, read_pictures

# Formats whose planes or pixels interleave chroma, and their planar equivalents.
SEPARATED = PLANAR | {
    "yuyv422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyvy422": "yuv422p",
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "p016le": "yuv420p16le",
    "p216le": "yuv422p16le",
}


def read_colored(
    film: Film, damage: list[Damage] | None = None
) -> Iterator[tuple[Frame, np.ndarray]]:
    """Yield frames as `read_frames` does, each with its (Cb, Cr) `[H, W, 2]` in [-0.5, 0.5].

    Raises:
        ValueError: as `read_frames`, or if the chroma of the format cannot be read.
    """
    kind = np.uint8 if film.depth == 8 else np.uint16
    for index, pts, picture in read_pictures(film, damage, _luma_and_chroma):
        yield Frame(index, pts, picture[..., 0].astype(kind)), picture[..., 1:]


def _luma_and_chroma(frame: VideoFrame, film: Film) -> np.ndarray:
    """Return luma codes, Cb and Cr, float32 `[H, W, 3]`, which holds codes of 16 bits exactly."""
    luma = luma_of(frame, film).astype(np.float32)
    return np.concatenate([luma[..., None], chroma_of(frame, film)], axis=-1)


def chroma_of(frame: VideoFrame, film: Film) -> np.ndarray:
    """Return (Cb, Cr) of a decoded frame, float32 `[H, W, 2]` in [-0.5, 0.5]; 0 for gray formats.

    Raises:
        ValueError: if the chroma of the pixel format cannot be read.
    """
    if stores_rgb(frame):
        kind, top = ("rgb24", 255.0) if film.depth == 8 else ("rgb48le", 65535.0)
        rgb = frame.to_ndarray(format=kind).astype(np.float32) / np.float32(top)
        return color.rgb_to_chroma(rgb, film.matrix)
    name = frame.format.name
    if name in SEPARATED:
        frame = frame.reformat(format=SEPARATED[name])
    parts = frame.format.components
    if len(parts) < 3:
        return np.zeros((frame.height, frame.width, 2), np.float32)
    if [part.plane for part in parts[:3]] != [0, 1, 2]:
        raise ValueError(
            f"{film.path}: the chroma of pixel format {name} cannot be read; convert the film to "
            "yuv444p, yuv422p10le or RGB first."
        )
    interlaced = film.field_order != "progressive"
    planes = [_plane(frame, number) for number in (1, 2)]
    size = frame.height, frame.width
    span = 2.0 ** parts[1].bits - 1.0 if film.full_range else 224.0 * 2.0 ** (parts[1].bits - 8)
    codes = upsample(np.stack(planes, axis=-1), *size, interlaced)
    return (codes - np.float32(2.0 ** (parts[1].bits - 1))) / np.float32(span)


def _plane(frame: VideoFrame, number: int) -> np.ndarray:
    part, plane = frame.format.components[number], frame.planes[number]
    order = ">" if frame.format.is_big_endian else "<"
    dtype = np.dtype(np.uint8 if part.bits <= 8 else f"{order}u2")
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: plane.height, : plane.width].astype(np.float32)


def upsample(chroma: np.ndarray, height: int, width: int, interlaced: bool = False) -> np.ndarray:
    """Enlarge chroma `[h, w, 2]` to the size of the luma, linearly.

    The siting is that of `resize.subsample_chroma`: columns coincide with every other luma column,
    and rows are between two luma rows; the fields of an interlaced frame are enlarged separately.
    """
    rows, columns = chroma.shape[:2]
    if interlaced and rows < height and height % 4 == 0:
        large = np.empty((height, width, chroma.shape[2]), np.float32)
        for field in (0, 1):
            large[field::2] = upsample(chroma[field::2], height // 2, width)
        return large
    if (rows, columns) == (height, width):
        return chroma
    step = -(-width // columns)
    x, y = np.meshgrid(
        np.arange(width, dtype=np.float32) / step,
        (np.arange(height, dtype=np.float32) + 0.5) * (rows / height) - 0.5,
    )
    return cv2.remap(
        np.ascontiguousarray(chroma), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
