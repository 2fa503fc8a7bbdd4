"""Read the luma of a film, frame by frame, and nothing else.

Coloring reads films with this module alone, so it never sees the source's chroma: Y' formats have
their luma plane copied, and RGB formats have Y' computed.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from palette_vc_jax.video import film as films
from palette_vc_jax.video.color import rgb_to_luma
from palette_vc_jax.video.damage import WAY_OUT, Damage
from palette_vc_jax.video.decode import Picture, decode
from palette_vc_jax.video.facts import luma_depth, stores_rgb
from palette_vc_jax.video.film import Film, Frame
from palette_vc_jax.video.length import shortfall
from palette_vc_jax.video.timeline import start_shift

Pixels = Callable[[VideoFrame, Film], np.ndarray]  # what is read of a decoded frame
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


def read_frames(film: Film, damage: list[Damage] | None = None) -> Iterator[Frame]:
    """Yield a film's frames in presentation order, with a few in memory at a time.

    Times are strictly increasing: a frame whose time is missing is placed by the frame rate, and
    one that is not after the frame before it follows it by half a frame.

    Args:
        film: from `open_film`; its `damaged` says what is done with damaged frames.
        damage: gets an entry for each damaged frame, and for a missing end of the film.

    Raises:
        ValueError: if the film is truncated or damaged and its `damaged` is `stop`, or if its
            frames differ in size or depth.
    """
    for index, pts, luma in read_pictures(film, damage, luma_of):
        yield Frame(index, pts, luma)


def read_pictures(
    film: Film, damage: list[Damage] | None, pixels: Pixels
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield number, time and pixels of a film's frames, as `read_frames` does.

    Args:
        film: see `read_frames`.
        damage: see `read_frames`.
        pixels: returns what is read of a decoded frame, `[H, W, ...]`.
    """
    damage = [] if damage is None else damage
    if film.kind == "video":
        pictures = _read_video(film, damage, pixels)
    else:
        pictures = _read_images(film, pixels)
    good, shown = None, 0  # the pixels of the last frame without damage, and the frames yielded
    for number, (pts, picture, damaged) in enumerate(pictures):
        if damaged:
            picture, what = _repair(film.damaged, picture, good)
            damage.append(Damage(number, float(pts * film.time_base), what))
        else:
            good = picture
        if picture is not None:
            yield shown, pts, picture
            shown += 1


def _repair(
    mode: str, luma: np.ndarray | None, good: np.ndarray | None
) -> tuple[np.ndarray | None, str]:
    """Return what is shown in place of a damaged frame, if anything, and the word for it.

    Args:
        mode: the film's `damaged`.
        luma: what the decoder made of the frame, if anything.
        good: the last frame without damage, if any.
    """
    if mode == "repeat" and good is not None:
        return good, "repeated"
    if mode == "drop" or luma is None:
        return None, "dropped"
    return luma, "kept"


def _read_video(
    film: Film, damage: list[Damage], pixels: Pixels
) -> Iterator[tuple[int, np.ndarray | None, bool]]:
    """Yield time, pixels (None if lost) and whether it is damaged, for each picture of a film."""
    start, origin = (film.excerpt.start, film.excerpt.origin) if film.excerpt else (0, 0)
    given = film.width, film.height, film.depth
    for number, pts, picture in decode_video(film, damage):
        if number < start:
            continue
        frame = picture.frame
        if frame is not None and picture.damaged and _format(frame) != given:
            frame = None
        if frame is not None:
            _check_format(frame, film, f"frame {number}")
        yield pts - origin, None if frame is None else pixels(frame, film), picture.damaged


def decode_video(film: Film, damage: list[Damage]) -> Iterator[tuple[int, int, Picture]]:
    """Yield the number, the time and the picture of each frame of a video, as `read_frames`.

    An excerpt's pictures come from its entry on; numbers and times are those of the whole video.
    """
    part = film.excerpt
    first = part.entry[1] if part and part.entry else 0
    with films.open_video(film.path) as (container, stream):
        last, gap, end = None, 0, Fraction(0)
        count = anchor = first  # frames, and the number of the last one whose time is known
        known = 0  # its time
        for count, picture in enumerate(decode(film, container, stream), start=first + 1):
            if part and part.stop is not None and count > part.stop:
                return
            pts = picture.pts
            if pts is None:
                pts = known + round((count - 1 - anchor) / film.rate / film.time_base)
            else:
                anchor, known = count - 1, pts
            if last is not None and pts <= last:
                pts = last + max(1, round(1 / film.rate / film.time_base / 2))
            yield count - 1, pts, picture
            gap = gap if last is None else pts - last
            length = picture.frame.duration if picture.frame is not None else 0
            last, end = pts, (pts + (length or gap)) * film.time_base
        if not stream.frames or count < stream.frames:
            raw = end - start_shift(film.shifts, stream) * film.time_base
            one = max(gap * film.time_base, 1 / film.rate)
            lack = shortfall(film, container, stream, raw, one)
            _report(film, lack, count - (part.start if part else 0), end, damage)


def _report(film: Film, lack: str, count: int, end: Fraction, damage: list[Damage]) -> None:
    """Report a film that is shorter than its container says: as an error, or as damage."""
    if lack and film.damaged == "stop":
        raise ValueError(f"{film.path}: {lack}; the film is truncated or damaged. {WAY_OUT}")
    if lack:
        damage.append(Damage(count, float(end), "missing", lack))


def luma_of(frame: VideoFrame, film: Film) -> np.ndarray:
    """Return a decoded frame's luma codes `[H, W]`; for RGB, Y' in full range by `film.matrix`.

    Raises:
        ValueError: if the pixel format is not supported.
    """
    name = frame.format.name
    if stores_rgb(frame):
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


def _read_images(film: Film, pixels: Pixels) -> Iterator[tuple[int, np.ndarray | None, bool]]:
    """Yield the same as `_read_video` for a folder of images or one image."""
    for index, path in enumerate(film.files):
        try:
            decoded = films.decode_image(path)
        except ValueError:
            if film.damaged == "stop":
                raise
            yield index, None, True
            continue
        picture = None
        if luma_depth(decoded) == film.depth:
            picture = films.orient(pixels(decoded, film), films.image_orientation(path))
        if picture is None or picture.shape[:2] != (film.height, film.width):
            raise ValueError(
                f"{path}: {decoded.width}x{decoded.height} pixels of {luma_depth(decoded)} "
                f"bits, but {film.files[0].name} has {film.width}x{film.height} of {film.depth}; "
                "all frames need the same size and depth."
            )
        yield index, np.ascontiguousarray(picture), False


def _format(frame: VideoFrame) -> tuple[int, int, int]:
    return frame.width, frame.height, luma_depth(frame)


def _check_format(frame: VideoFrame, film: Film, which: str) -> None:
    given = _format(frame)
    if given != (film.width, film.height, film.depth):
        raise ValueError(
            f"{film.path}: {which} has {given[0]}x{given[1]} pixels of {given[2]} bits, the first "
            f"{film.width}x{film.height} of {film.depth}; split the film where its size changes."
        )
