"""Describe a source (a film, a folder of frames or one image) from its header and first frame.

The description holds everything that the writer must keep: size, timing, range, matrix and the
other color tags, sample aspect ratio, orientation, field order and audio.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from palette_vc_jax.files import check_regular
from palette_vc_jax.video.damage import check_mode
from palette_vc_jax.video.facts import display_matrix, luma_facts
from palette_vc_jax.video.fields import field_order
from palette_vc_jax.video.formats import IMAGES, OTHER_IMAGES, readable_formats, refuse_playlist
from palette_vc_jax.video.hdr import mastering
from palette_vc_jax.video.image_files import UPRIGHT, decode_image, image_orientation, list_images
from palette_vc_jax.video.timeline import Shifts, find_shifts, read_packets

FOLDER_RATE = Fraction(24)  # frames per second of a folder of images, which stores no timing


@dataclass(frozen=True)
class Excerpt:
    """The frames of a film that are read; numbers and times are those of the whole film."""

    start: int  # number of the first frame
    stop: int | None  # number of the first frame that is left out; None to read to the end
    origin: int  # time of the first frame, which becomes 0, in units of the film's time base
    end: int | None  # time of frame `stop`
    entry: tuple[int, int] | None = None  # time to seek to, and number of the frame found there


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
    mastering: str = ""  # mastering metadata of HDR, see `hdr.mastering`
    sample_aspect: Fraction = Fraction(1)
    display_matrix: tuple[int, ...] | None = None  # 9 values, as in MP4; None if upright
    field_order: str = "progressive"  # | 'top' | 'bottom': which field comes first
    audio: tuple[str, ...] = ()  # codec of each audio track that can be copied
    unknown_audio: tuple[int, ...] = ()  # numbers, from 1, of tracks whose codec FFmpeg lacks
    shifts: Shifts = field(default_factory=dict)  # corrections of times, see `timeline.py`
    damaged: str = "stop"  # what is done with damaged frames, see `damage.MODES`
    files: tuple[Path, ...] = ()  # the images, in order; empty for a video
    excerpt: Excerpt | None = None  # what is read; None for all of it

    @property
    def span(self) -> tuple[Fraction, Fraction | None]:
        """Return the times at which an excerpt begins and ends in the whole film, in seconds."""
        if self.excerpt is None:
            return Fraction(0), None
        end = self.excerpt.end
        return self.excerpt.origin * self.time_base, None if end is None else end * self.time_base

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


def open_film(
    path: str | Path,
    damaged: str = "stop",
    start: str | None = None,
    end: str | None = None,
    frames: int | None = None,
) -> Film:
    """Describe a film, a folder of frames or one image, or an excerpt of it.

    Decode one frame, because only a decoded frame has reliable format and color tags. Read the
    times of all packets of formats that can be joined byte by byte, such as MPEG-TS.

    Args:
        path: the film, folder or image.
        damaged: what reading does at a damaged frame: `stop` (refuse the film), `repeat` (yield
            the frame before it again) or `drop` (leave it out).
        start: where the excerpt begins, see `video.position`; None for the beginning.
        end: where the excerpt ends; a frame at this position is left out. None for the end.
        frames: length of the excerpt, instead of `end`.

    Raises:
        ValueError: if the path is missing, is not a film or image, has no video stream, or is a
            folder without images; or if the excerpt is empty or begins after the end.
    """
    film = _open_whole(Path(path), check_mode(damaged))
    if start is None and end is None and frames is None:
        return film
    from palette_vc_jax.video.excerpt import cut  # reads frames, so it imports this module

    return cut(film, start, end, frames)


def _open_whole(path: Path, damaged: str) -> Film:
    if path.suffix.lower() in OTHER_IMAGES:
        raise ValueError(f"{path}: {path.suffix} is not supported; convert it to PNG or TIFF.")
    if path.is_dir():
        return _describe_images(path, "folder", list_images(path), damaged)
    if not path.exists():
        raise ValueError(
            f"{path}: no such file or folder; give a film, a folder of frames or an image."
        )
    if path.suffix.lower() in IMAGES:
        return _describe_images(path, "image", (path,), damaged)
    return _describe_video(path, damaged)


def excerpt_of(film: Film) -> dict[str, float | str | None] | None:
    """Return where an excerpt lies in its film as plain JSON values, None for a whole film."""
    if film.excerpt is None:
        return None
    begin, end = film.span
    return {
        "first_frame": film.excerpt.start,
        "seconds": float(begin),
        "end_seconds": None if end is None else float(end),
    }


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a film's container and its main video stream, which is never a cover image.

    Raises:
        ValueError: if FFmpeg cannot read the film, also inside the `with` block.
    """
    check_regular(path)
    try:
        # Without the prefix, FFmpeg would read a name with a colon as a protocol.
        name, options = f"file:{path}", {"format_whitelist": readable_formats()}
        with av.open(name, metadata_errors="replace", container_options=options) as container:
            streams = [s for s in container.streams.video if not is_cover(s)]
            if not streams or container.format.name == "tty":
                raise ValueError(
                    f"{path}: no video stream; give a film, a folder of frames or an image."
                )
            streams = [s for s in streams if s.codec_context is not None]
            if not streams:
                raise ValueError(
                    f"{path}: FFmpeg has no decoder for its video; convert the film first."
                )
            best = container.streams.best("video")
            stream = best if best in streams else streams[0]
            # With threads by frame, FFmpeg reports an error with a later packet, or not at all.
            stream.thread_type = "SLICE"
            yield container, stream
    except FFmpegError as error:
        if isinstance(error, PermissionError) and not os.access(path, os.R_OK):
            raise
        refuse_playlist(path)
        raise ValueError(
            f"{path}: cannot be read as a film ({error.strerror}); it is damaged, "
            "truncated, a playlist or not a film. Use a complete copy."
        ) from error


def audio_tracks(container: InputContainer) -> list[AudioStream]:
    """Return the audio streams that FFmpeg can identify, and so copy."""
    return [stream for stream in container.streams.audio if stream.codec_context is not None]


def is_cover(stream: VideoStream) -> bool:
    """Return whether a video stream is a cover image, as in music files."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


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


def _describe_video(path: Path, damaged: str) -> Film:
    with open_video(path) as (container, stream):
        broadcast = container.format.name == "mpegts"
        frame = _first_frame(container, stream, broadcast or damaged != "stop")
        if frame is None:
            raise ValueError(f"{path}: no frame could be read; use a complete copy.")
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        tracks = audio_tracks(container)
        unknown = [n for n, s in enumerate(container.streams.audio, 1) if s not in tracks]
        facts = luma_facts(frame, is_image=False) | {
            "width": frame.width,
            "height": frame.height,
            "frames": stream.frames or None,
            "rate": _rate(stream),
            "mastering": mastering(frame),
            "time_base": Fraction(stream.time_base),
            "sample_aspect": Fraction(aspect or 1),
            "display_matrix": display_matrix(frame),
            "field_order": field_order(frame, stream),
            "audio": tuple(s.codec_context.codec.canonical_name for s in tracks),
            "unknown_audio": tuple(unknown),
        }
    with open_video(path) as (container, stream):
        shifts = find_shifts(container, [stream, *audio_tracks(container)], damaged != "stop")
    return Film(path=path, kind="video", shifts=shifts, damaged=damaged, **facts)


def _rate(stream: VideoStream) -> Fraction:
    """Return a stream's average rate in frames per second."""
    average, guessed = stream.average_rate, stream.guessed_rate or stream.base_rate
    # For a short raw DV stream, FFmpeg's average is one frame per unit of time.
    if average and guessed and average == 1 / stream.time_base and average > 10 * guessed:
        average = None
    return Fraction(average or guessed or 25)


def _first_frame(
    container: InputContainer, stream: VideoStream, tolerant: bool
) -> VideoFrame | None:
    """Return a stream's first frame that can be decoded."""
    for packet in read_packets(container, [stream], tolerant):
        try:
            if frames := packet.decode():
                return frames[0]
        except FFmpegError:
            if not tolerant:
                raise
    return None


def _describe_images(path: Path, kind: str, files: tuple[Path, ...], damaged: str) -> Film:
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
        damaged=damaged,
        **luma_facts(frame, is_image=True),
    )
