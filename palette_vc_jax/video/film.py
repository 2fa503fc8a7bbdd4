"""Describe a source: a film, a folder of frames or one picture, without reading it whole.

Everything that the writer has to keep is found here once: size, timing, range, matrix and the
other color tags, sample aspect ratio, orientation, field order, sound.
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

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dpx"}
FOLDER_RATE = Fraction(24)  # frames a second of a folder, which says nothing about time
HD_LINES = 720  # untagged films are BT.601 below, BT.709 from here on

# Codes of ISO/IEC 23091-4 (H.273), as FFmpeg numbers them.
UNSPECIFIED = 2
MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}
DEFAULT_TAGS = {"bt601": (6, 6, 6), "bt709": (1, 1, 1), "bt2020": (9, 9, 14)}
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST = (2, 4), (3, 5)  # AVFieldOrder: coded and displayed order

# EXIF orientation -> (a, b, c, d): a stored pixel (x, y) is shown at (a x + c y, b x + d y).
EXIF_TURNS = {
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
    """What is known of a source without its frames."""

    path: Path
    kind: str  # 'video' | 'folder' | 'picture'
    width: int  # as stored, before a film's display matrix; pictures are read upright
    height: int
    frames: int | None  # the container's word; None when it does not say
    rate: Fraction  # frames a second, on average
    time_base: Fraction  # seconds per unit of a frame's time
    depth: int  # bits of luma, 8 to 16
    is_rgb: bool  # the source stores RGB: luma is computed with `matrix`, full range
    full_range: bool
    matrix: str  # 'bt601' | 'bt709' | 'bt2020'
    pix_fmt: str = "yuv420p"
    tags: tuple[int, int, int] = (6, 6, 6)  # matrix, primaries, transfer to write, H.273 codes
    sample_aspect: Fraction = Fraction(1)
    display_matrix: tuple[int, ...] | None = None  # 9 numbers as MP4 has them; None: upright
    field_order: str = "progressive"  # | 'top' | 'bottom': which field comes first
    audio: tuple[str, ...] = ()  # codec of each sound stream
    files: tuple[Path, ...] = ()  # the pictures, in order; empty for a video

    @property
    def turn(self) -> tuple[int, int, int, int]:
        """Give the display matrix' turn in quarters, as `EXIF_TURNS` writes it."""
        if self.display_matrix is None:
            return UPRIGHT
        a, b, _, c, d = self.display_matrix[:5]
        if abs(a) >= abs(b):
            return int(np.sign(a)), 0, 0, int(np.sign(d))
        return 0, int(np.sign(b)), int(np.sign(c)), 0


@dataclass(frozen=True)
class Frame:
    """One picture of a film."""

    index: int
    pts: int  # presentation time in units of the film's time base
    luma: np.ndarray  # [H, W] uint8 or uint16, the source's own codes (of RGB: Y', full range)


def open_film(path: str | Path) -> Film:
    """Describe a film, a folder of frames or one picture.

    Decodes one frame, since only a decoded frame tells its format and color tags for sure.

    Raises ValueError if the path is missing, is no film or picture, has no video stream, or is a
    folder without pictures.
    """
    path = Path(path)
    if path.is_dir():
        return _describe_pictures(path, "folder", list_pictures(path))
    if not path.exists():
        raise ValueError(
            f"{path}: no such file or folder; give a film, a folder of frames or a picture."
        )
    if path.suffix.lower() in PICTURES:
        return _describe_pictures(path, "picture", (path,))
    return _describe_video(path)


def list_pictures(folder: Path) -> tuple[Path, ...]:
    """List a folder's pictures as `find_pictures` does.

    Raises ValueError if there is none.
    """
    found = find_pictures(folder)
    if not found:
        kinds = " ".join(sorted(PICTURES))
        raise ValueError(f"{folder}: the folder holds no frames; pictures ({kinds}) are needed.")
    for path in found:
        check_regular(path)
    return found


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """Return a folder's pictures in time order: frame 2 before 10. Hidden files are left out."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.name[0] != "."]
    return tuple(sorted(found, key=natural))


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Give a key to sort names by in which numbers count as numbers."""
    parts = re.split(r"(\d+)", path.stem.lower())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts], path.name


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a film's container and its main video stream; cover pictures do not count.

    Raises ValueError in one line for whatever FFmpeg cannot make sense of, also while in use.
    """
    check_regular(path)
    try:
        # The prefix keeps a colon in a name from being taken for a protocol.
        with av.open(f"file:{path}") as container:
            streams = [s for s in container.streams.video if not is_cover(s)]
            if not streams or container.format.name == "tty":
                raise ValueError(
                    f"{path}: no video stream; give a film, a folder of frames or a picture."
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
            "truncated or no film. Give a whole film."
        ) from error


def is_cover(stream: VideoStream) -> bool:
    """Tell whether a video stream is a cover picture, as music files have them."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def decode_picture(path: Path) -> VideoFrame:
    """Decode a picture file as it is stored.

    Raises ValueError if it is missing or no picture.
    """
    check_regular(path)
    try:
        # An open file, not its name: FFmpeg would take a % in the name for a frame number.
        with open(path, "rb") as file, av.open(file) as container:
            context = container.streams.video[0].codec_context
            if context is None:  # FFmpeg knows the format, but has no decoder, as for SVG
                raise StopIteration
            # Otherwise the rest of a picture that is cut short comes out grey.
            context.options = {"err_detect": "explode"}
            return next(container.decode(video=0))
    except (FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(
            f"{path}: cannot be read as a picture; it is damaged or of a kind that "
            "is not known. Give PNG, JPEG or TIFF."
        ) from error


def picture_turn(path: Path) -> tuple[int, int, int, int]:
    """Read a picture's EXIF orientation as a turn."""
    try:
        with open_with_pillow(path) as picture:
            return EXIF_TURNS.get(picture.getexif().get(0x0112, 1), UPRIGHT)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return UPRIGHT  # kinds that only FFmpeg reads have no EXIF


def turned(picture: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    """Turn a stored picture [H, W, ...] in quarters and mirror it, so that it is upright."""
    a, b, c, d = turn
    if a == 0:
        picture, a, d = np.swapaxes(picture, 0, 1), c, b
    return picture[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]


def luma_depth(frame: VideoFrame) -> int:
    """Give the bits of a frame's luma, 8 to 16; RGB that is no plain planar one counts 8 or 16."""
    name, bits = frame.format.name, max(c.bits for c in frame.format.components)
    if stores_rgb(frame) and not name.startswith("gbrp"):
        return 8 if bits <= 8 else 16
    return min(16, max(8, frame.format.components[0].bits))


def stores_rgb(frame: VideoFrame) -> bool:
    """Tell whether a frame holds RGB (or indices into an RGB palette) rather than Y'."""
    return frame.format.is_rgb or frame.format.has_palette or frame.format.is_bayer


def _describe_video(path: Path) -> Film:
    with open_video(path) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise ValueError(f"{path}: no frame could be read; give a whole film.")
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
            **_luma_facts(frame, is_picture=False),
        )


def _describe_pictures(path: Path, kind: str, files: tuple[Path, ...]) -> Film:
    frame = decode_picture(files[0])
    turn = picture_turn(files[0])
    width, height = frame.width, frame.height
    if turn[0] == 0:
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
        **_luma_facts(frame, is_picture=True),
    )


def _luma_facts(frame: VideoFrame, is_picture: bool) -> dict:
    """Find depth, range, matrix and tags of a decoded frame.

    Untagged: BT.601 under 720 lines and in pictures that store Y' (JPEG), else BT.709; `gray*`
    and `yuvj*` are full range, other Y' is not.
    """
    name, is_rgb = frame.format.name, stores_rgb(frame)
    code = int(frame.colorspace)
    if code in MATRICES and not is_rgb:
        matrix = MATRICES[code]
    elif is_picture and not is_rgb:
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
    is_grey = name.startswith(("gray", "ya", "mono"))
    full = is_rgb or name.startswith("yuvj") or given_range == FULL_RANGE
    return {
        "depth": luma_depth(frame),
        "is_rgb": is_rgb,
        "full_range": full or (is_grey and given_range == 0),
        "matrix": matrix,
        "tags": tuple(tags),
        "pix_fmt": name,
    }


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Read the matrix that turns a stored frame for display, 9 numbers as MP4 has them."""
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
