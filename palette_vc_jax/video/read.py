"""Read the luma of a film, frame by frame, and nothing else.

The source's chroma never leaves this module: Y' formats have their luma plane copied, and RGB
formats have Y' computed.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from palette_vc_jax.video import film as films
from palette_vc_jax.video.color import rgb_to_luma
from palette_vc_jax.video.film import Film, Frame
from palette_vc_jax.video.length import check_length

# Position of luma in packed formats: (first sample, step) within a row.
PACKED = {"yuyv422": (0, 2), "yvyu422": (0, 2), "uyvy422": (1, 2), "ya8": (0, 2)}
# Packed formats and their planar equivalents; the conversion is lossless.
PLANAR = {
    "y210le": "yuv422p10le",
    "y212le": "yuv422p12le",
    "xv30le": "yuv444p10le",
    "v30xle": "yuv444p10le",
    "vuyx": "yuv444p",
    "vuya": "yuv444p",
    "ayuv": "yuv444p",
    "ya16be": "gray16le",
    "ya16le": "gray16le",
    "monow": "gray",
    "monob": "gray",
}


def read_frames(film: Film) -> Iterator[Frame]:
    """Yield a film's frames in presentation order, with a few in memory at a time.

    Times are strictly increasing: a frame whose time is missing is placed by its number, and one
    that is not after the frame before it is moved to the next unit of time.

    Raises:
        ValueError: if the film is truncated or damaged, or its frames differ in size or depth.
    """
    if film.kind != "video":
        yield from _read_images(film)
        return
    with films.open_video(film.path) as (container, stream):
        last, gap, count, end = None, 0, 0, Fraction(0)
        for decoded in _decode(film, container, stream):
            _check_format(decoded, film, f"frame {count}")
            pts = decoded.pts
            if pts is None:
                pts = round(count / film.rate / film.time_base)
            if last is not None and pts <= last:
                pts = last + 1
            yield Frame(count, pts, luma_of(decoded, film))
            gap = gap if last is None else pts - last
            last, count = pts, count + 1
            end = (pts + (decoded.duration or gap)) * film.time_base
        if film.frames is None or count < film.frames:
            one = max(gap * film.time_base, 1 / film.rate)
            check_length(film, container, stream, end, one)


def luma_of(frame: VideoFrame, film: Film) -> np.ndarray:
    """Return a decoded frame's luma codes `[H, W]`; for RGB, Y' in full range by `film.matrix`.

    Raises:
        ValueError: if the pixel format is not supported.
    """
    name = frame.format.name
    if films.stores_rgb(frame):
        return _luma_of_rgb(frame, film)
    if name in PLANAR:
        frame = frame.reformat(format=PLANAR[name])
    elif name in PACKED:
        first, step = PACKED[name]
        return _plane(frame, np.dtype(np.uint8), step * frame.width)[:, first::step].copy()
    elif not _has_luma_plane(frame):
        raise ValueError(
            f"{film.path}: pixel format {name} is not supported; convert the film to "
            "yuv420p, yuv422p10 or RGB first."
        )
    part = frame.format.components[0]
    if part.bits <= 8:
        return _plane(frame, np.dtype(np.uint8), frame.width).copy()
    order = ">" if frame.format.is_big_endian else "<"
    codes = _plane(frame, np.dtype(f"{order}u2"), frame.width).astype(np.uint16)
    # These formats store their values in the upper bits of 16.
    if name[0] == "p" and name[1:4].isdigit() or "msb" in name:
        codes >>= 16 - part.bits
    return codes


def _has_luma_plane(frame: VideoFrame) -> bool:
    parts = frame.format.components
    alone = all(part.plane != 0 for part in parts[1:])
    return alone and frame.format.name.startswith(("yuv", "gray", "nv", "p0", "p2", "p4"))


def _plane(frame: VideoFrame, dtype: np.dtype, width: int) -> np.ndarray:
    """Return a view of a frame's first plane without the padding of its rows."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: frame.height, :width]


def _luma_of_rgb(frame: VideoFrame, film: Film) -> np.ndarray:
    if frame.format.name not in ("rgb24", "gbrp", "gbrp10le", "gbrp12le", "gbrp14le", "gbrp16le"):
        frame = frame.reformat(format="rgb24" if film.depth == 8 else "rgb48le")
    luma = rgb_to_luma(frame.to_ndarray(), film.matrix)
    return np.rint(luma).astype(np.uint8 if film.depth == 8 else np.uint16)


def _decode(film: Film, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    tolerant = container.format.name == "mpegts"  # a recorded broadcast may begin mid-packet
    for packet in container.demux(stream):
        if packet.is_corrupt and not tolerant:
            raise ValueError(f"{film.path}: the film is truncated or damaged. Use a complete copy.")
        yield from packet.decode()


def _read_images(film: Film) -> Iterator[Frame]:
    for index, path in enumerate(film.files):
        decoded = films.decode_image(path)
        luma = None
        if films.luma_depth(decoded) == film.depth:
            luma = films.orient(luma_of(decoded, film), films.image_orientation(path))
        if luma is None or luma.shape != (film.height, film.width):
            raise ValueError(
                f"{path}: {decoded.width}x{decoded.height} pixels of {films.luma_depth(decoded)} "
                f"bits, but {film.files[0].name} has {film.width}x{film.height} of {film.depth}; "
                "all frames need the same size and depth."
            )
        yield Frame(index, index, np.ascontiguousarray(luma))


def _check_format(decoded: VideoFrame, film: Film, which: str) -> None:
    given = (decoded.width, decoded.height, films.luma_depth(decoded))
    if given != (film.width, film.height, film.depth):
        raise ValueError(
            f"{film.path}: {which} has {given[0]}x{given[1]} pixels of {given[2]} bits, the first "
            f"{film.width}x{film.height} of {film.depth}; split the film where its size changes."
        )
