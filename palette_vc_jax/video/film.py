"""Describe a source (a film, a folder of frames or one image) from its header and first frame.

The description holds everything that the writer must keep: size, timing, range, matrix and the
other color tags, sample aspect ratio, orientation, field order and audio.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, UnidentifiedImageError

from palette_vc_jax.files import check_regular
from palette_vc_jax.images import open_with_pillow

IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dpx"}
FOLDER_RATE = Fraction(24)  # frames per second of a folder of images, which stores no timing
HD_LINES = 720  # untagged films are BT.601 below this height, BT.709 at or above it

# FFmpeg uses the codes of ISO/IEC 23091-4 (H.273).
UNSPECIFIED = 2
MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}
DEFAULT_TAGS = {"bt601": (6, 6, 6), "bt709": (1, 1, 1), "bt2020": (9, 9, 14)}
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST = (2, 4), (3, 5)  # AVFieldOrder: coded and displayed order

# EXIF orientation -> (a, b, c, d): a stored pixel (x, y) is displayed at (a x + c y, b x + d y).
EXIF_ORIENTATIONS = {
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
UPRIGHT = (1, 0, 0, 1)


@dataclass(frozen=True)
class Film:
    """The properties of a source, without its frames."""

    path: Path
    kind: str  # 'video' | 'folder' | 'image'
    width: int  # as stored, before a film's display matrix; images are read upright
    height: int
    frames: int | None  # number of frames according to the container; None if unknown
    rate: Fraction  # average frames per second
    time_base: Fraction  # seconds per unit of a frame's time
    depth: int  # bits of luma, 8 to 16
    is_rgb: bool  # the source stores RGB, so luma is computed with `matrix` in full range
    full_range: bool
    matrix: str  # 'bt601' | 'bt709' | 'bt2020'
    pix_fmt: str = "yuv420p"
    tags: tuple[int, int, int] = (6, 6, 6)  # matrix, primaries, transfer to write, H.273 codes
    sample_aspect: Fraction = Fraction(1)
    display_matrix: tuple[int, ...] | None = None  # 9 values, as in MP4; None if upright
    field_order: str = "progressive"  # | 'top' | 'bottom': which field comes first
    audio: tuple[str, ...] = ()  # codec of each audio stream
    files: tuple[Path, ...] = ()  # the images, in order; empty for a video

    @property
    def orientation(self) -> tuple[int, int, int, int]:
        """Return the display matrix in quarter turns, in the form of `EXIF_ORIENTATIONS`."""
        if self.display_matrix is None:
            return UPRIGHT
        a, b, _, c, d = self.display_matrix[:5]
        if abs(a) >= abs(b):
            return int(np.sign(a)), 0, 0, int(np.sign(d))
        return 0, int(np.sign(b)), int(np.sign(c)), 0


@dataclass(frozen=True)
class Frame:
    """The luma of one frame of a film."""

    index: int
    pts: int  # presentation time in units of the film's time base
    luma: np.ndarray  # [H, W] uint8 or uint16, the source's codes (for RGB: Y' in full range)


def open_film(path: str | Path) -> Film:
    """Describe a film, a folder of frames or one image.

    Decode one frame, because only a decoded frame has reliable format and color tags.

    Raises:
        ValueError: if the path is missing, is not a film or image, has no video stream, or is a
            folder without images.
    """
    path = Path(path)
    if path.is_dir():
        return _describe_images(path, "folder", list_images(path))
    if not path.exists():
        raise ValueError(
            f"{path}: no such file or folder; give a film, a folder of frames or an image."
        )
    if path.suffix.lower() in IMAGES:
        return _describe_images(path, "image", (path,))
    return _describe_video(path)


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return a folder's images as `find_images` does.

    Raises:
        ValueError: if there is no image, or one is not a regular file.
    """
    found = find_images(folder)
    if not found:
        kinds = " ".join(sorted(IMAGES))
        raise ValueError(f"{folder}: the folder holds no frames; add images ({kinds}).")
    for path in found:
        check_regular(path)
    return found


def find_images(folder: Path) -> tuple[Path, ...]:
    """Return a folder's images in time order (frame 2 before 10), without hidden files."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.name[0] != "."]
    return tuple(sorted(found, key=natural))


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key of a file name that compares digits as numbers."""
    parts = re.split(r"(\d+)", path.stem.lower())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts], path.name


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a film's container and its main video stream, which is never a cover image.

    Raises:
        ValueError: if FFmpeg cannot read the film, also inside the `with` block.
    """
    check_regular(path)
    try:
        # Without the prefix, FFmpeg would read a name with a colon as a protocol.
        with av.open(f"file:{path}") as container:
            streams = [s for s in container.streams.video if not is_cover(s)]
            if not streams or container.format.name == "tty":
                raise ValueError(
                    f"{path}: no video stream; give a film, a folder of frames or an image."
                )
            best = container.streams.best("video")
            stream = best if best in streams else streams[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except FFmpegError as error:
        if isinstance(error, PermissionError):
            raise
        raise ValueError(
            f"{path}: cannot be read as a film ({error.strerror}); it is damaged, "
            "truncated or not a film. Use a complete copy."
        ) from error


def is_cover(stream: VideoStream) -> bool:
    """Return whether a video stream is a cover image, as in music files."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def decode_image(path: Path) -> VideoFrame:
    """Decode an image file without applying its orientation.

    Raises:
        ValueError: if the file is missing or is not an image.
    """
    check_regular(path)
    try:
        # Pass an open file, because FFmpeg would read a % in the name as a frame number.
        with open(path, "rb") as file, av.open(file) as container:
            context = container.streams.video[0].codec_context
            if context is None:  # FFmpeg knows the format but has no decoder, as for SVG
                raise StopIteration
            # Without this, FFmpeg fills the missing part of a truncated image with gray.
            context.options = {"err_detect": "explode"}
            return next(container.decode(video=0))
    except (FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(
            f"{path}: cannot be read as an image; it is damaged or of an unknown format. "
            "Give PNG, JPEG or TIFF."
        ) from error


def image_orientation(path: Path) -> tuple[int, int, int, int]:
    """Return an image's EXIF orientation in the form of `EXIF_ORIENTATIONS`."""
    try:
        with open_with_pillow(path) as image:
            return EXIF_ORIENTATIONS.get(image.getexif().get(0x0112, 1), UPRIGHT)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return UPRIGHT  # formats that only FFmpeg reads have no EXIF data


def upright_size(film: Film) -> tuple[int, int]:
    """Return the height and width of a film's frames as they are displayed."""
    sides = film.height, film.width
    return sides if film.orientation[0] else sides[::-1]


def orient(image: np.ndarray, orientation: tuple[int, int, int, int]) -> np.ndarray:
    """Rotate and mirror a stored image `[H, W, ...]` so that it is upright."""
    a, b, c, d = orientation
    if a == 0:
        image, a, d = np.swapaxes(image, 0, 1), c, b
    return image[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]


def luma_depth(frame: VideoFrame) -> int:
    """Return the bits of a frame's luma, 8 to 16; for RGB other than planar GBR, 8 or 16."""
    name, bits = frame.format.name, max(c.bits for c in frame.format.components)
    if stores_rgb(frame) and not name.startswith("gbrp"):
        return 8 if bits <= 8 else 16
    return min(16, max(8, frame.format.components[0].bits))


def stores_rgb(frame: VideoFrame) -> bool:
    """Return whether a frame holds RGB (or indices into an RGB palette) rather than Y'."""
    return frame.format.is_rgb or frame.format.has_palette or frame.format.is_bayer


def _describe_video(path: Path) -> Film:
    with open_video(path) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise ValueError(f"{path}: no frame could be read; use a complete copy.")
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        return Film(
            path=path,
            kind="video",
            width=frame.width,
            height=frame.height,
            frames=stream.frames or None,
            rate=Fraction(rate),
            time_base=Fraction(stream.time_base),
            sample_aspect=Fraction(aspect or 1),
            display_matrix=_display_matrix(frame),
            field_order=_field_order(frame, stream),
            audio=tuple(s.codec_context.codec.canonical_name for s in container.streams.audio),
            **_luma_facts(frame, is_image=False),
        )


def _describe_images(path: Path, kind: str, files: tuple[Path, ...]) -> Film:
    frame = decode_image(files[0])
    orientation = image_orientation(files[0])
    width, height = frame.width, frame.height
    if orientation[0] == 0:
        width, height = height, width
    return Film(
        path=path,
        kind=kind,
        width=width,
        height=height,
        frames=len(files),
        rate=FOLDER_RATE,
        time_base=1 / FOLDER_RATE,
        files=files,
        **_luma_facts(frame, is_image=True),
    )


def _luma_facts(frame: VideoFrame, is_image: bool) -> dict:
    """Return the depth, range, matrix and tags of a decoded frame as fields of `Film`.

    Untagged frames are BT.601 below 720 lines and in images that store Y' (JPEG), else BT.709.
    Untagged `gray*` and all `yuvj*` are full range, other untagged Y' is not.
    """
    name, is_rgb = frame.format.name, stores_rgb(frame)
    code = int(frame.colorspace)
    if code in MATRICES and not is_rgb:
        matrix = MATRICES[code]
    elif is_image and not is_rgb:
        matrix = "bt601"
    else:
        matrix = "bt601" if frame.height < HD_LINES else "bt709"
    tags = list(DEFAULT_TAGS[matrix])
    if (matrix, code) == ("bt601", 5):
        tags[0] = 5
    given = (code, int(frame.color_primaries), int(frame.color_trc))
    for index in (1, 2):
        if given[index] not in (0, UNSPECIFIED):
            tags[index] = given[index]
    given_range = int(frame.color_range)
    is_gray = name.startswith(("gray", "ya", "mono"))
    full = is_rgb or name.startswith("yuvj") or given_range == FULL_RANGE
    return {
        "depth": luma_depth(frame),
        "is_rgb": is_rgb,
        "full_range": full or (is_gray and given_range == 0),
        "matrix": matrix,
        "tags": tuple(tags),
        "pix_fmt": name,
    }


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Return the display matrix of a frame, 9 values as in MP4, or None if it is upright."""
    for data in frame.side_data:
        if data.type == av.sidedata.sidedata.Type.DISPLAYMATRIX:
            matrix = tuple(int(n) for n in np.frombuffer(bytes(data), np.int32))
            plain = (matrix[0] > 0, matrix[1], matrix[3], matrix[4] > 0) == (True, 0, 0, True)
            return None if plain else matrix
    return None


def _field_order(frame: VideoFrame, stream: VideoStream) -> str:
    order = int(stream.codec_context.field_order)
    if order in BOTTOM_FIELD_FIRST:
        return "bottom"
    return "top" if order in TOP_FIELD_FIRST or frame.interlaced_frame else "progressive"
