"""Encode colored frames: into a container with the source's audio, or into images."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from palette_vc_jax.video import color
from palette_vc_jax.video.encoding import MUXERS, OutputOptions, encoding_for, padded_size
from palette_vc_jax.video.fields import field_marker, mark_fields
from palette_vc_jax.video.film import Film, Frame, open_video, orient
from palette_vc_jax.video.matroska import PADDING, write_aspect
from palette_vc_jax.video.resize import subsample_chroma
from palette_vc_jax.video.timeline import start_shift
from palette_vc_jax.video.tracks import add_tracks, kept_tags, read_tracks

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # 4:4:4


class ImageSink:
    """Write each frame as an image of the film's depth in a new folder, or one image.

    Images have no display matrix, so their pixels are rotated upright.
    """

    def __init__(self, path: Path, film: Film, suffix: str, options: OutputOptions):
        self._path, self._film, self._suffix, self._count = path, film, suffix, 0
        codec = options.codec or "png"
        self._ending = suffix or ("." + codec.removesuffix("16"))
        deep = film.depth > 8 or codec.endswith("16")
        self._top = 65535 if deep and self._ending not in (".jpg", ".jpeg") else 255

    def write(self, frame: Frame, chroma: np.ndarray) -> None:
        film = self._film
        gray = color.gray(frame.luma, film)
        rgb = color.ycc_to_rgb(gray, color.limit_gamut(gray, chroma, film.matrix), film.matrix)
        kind = np.uint8 if self._top == 255 else np.uint16
        pixels = np.clip(np.rint(self._top * rgb), 0, self._top).astype(kind)
        pixels = np.ascontiguousarray(
            orient(pixels[..., ::-1], film.orientation)
        )  # OpenCV wants BGR
        name = self._path if self._suffix else self._path / f"{frame.index:06d}{self._ending}"
        _, data = cv2.imencode(self._ending, pixels, JPEG if "jp" in self._ending else [])
        name.write_bytes(data.tobytes())
        self._count += 1

    def finish(self) -> None:
        if not self._count:
            raise ValueError(f"{self._film.path}: no frame was written.")

    def abandon(self) -> None:
        pass


class FilmSink:
    """Encode frames into a container and copy the source's audio packets between them."""

    def __init__(self, path: Path, film: Film, options: OutputOptions):
        self._film = film
        self._encoding = encoding_for(path.suffix.lower(), film, options)
        self._size = padded_size(film, self._encoding)
        self._constant = MUXERS[path.suffix.lower()] == "yuv4mpegpipe"  # it holds a rate, no times
        self._path, self._count = path, 0
        self._marker = None
        if film.field_order != "progressive":
            sides = self._size[::-1]
            self._marker = field_marker(*sides, self._encoding.pix_fmt, film.field_order)
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            base = film.time_base
            # Without this flag, the muxers write random IDs and the date.
            flags = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
            flags |= self._encoding.muxer_options
            muxer = MUXERS[path.suffix.lower()]
            self._patched = muxer == "matroska" and film.sample_aspect != 1
            if self._patched:
                flags["write_crc32"] = "0"
            if muxer != "matroska" and base.numerator == 1:
                flags["video_track_timescale"] = str(base.denominator)
            self._container = stack.enter_context(
                av.open(f"file:{path}", "w", format=muxer, container_options=flags)
            )
            self._stream = self._add_video()
            self._audio: Iterator[Packet] = iter(())
            if film.kind == "video":
                source, video = stack.enter_context(open_video(film.path))
                self._copy_tags(source, video)
            if self._patched:
                name = self._stream.metadata.get("title", "")
                self._stream.metadata["title"] = name + PADDING
            if film.kind == "video":
                added = add_tracks(
                    film, source, self._container, path.suffix.lower(), options.audio
                )
                self._audio = read_tracks(film, source, video, added, options.audio)
            self._waiting = next(self._audio, None)
            self._closing = stack.pop_all()

    def write(self, frame: Frame, chroma: np.ndarray) -> None:
        self._mux_audio(float(frame.pts * self._film.time_base))
        self._encode(self._video_frame(frame, chroma))
        self._count += 1

    def finish(self) -> None:
        try:
            if not self._count:
                raise ValueError(f"{self._film.path}: no frame was written.")
            self._encode(None)
            self._mux_audio(float("inf"))
        finally:  # with `with`, `open_video` would report a full disk as an error of the source
            with self._muxing():
                self._closing.close()
        if self._patched:
            film = self._film
            write_aspect(self._path, film.sample_aspect, film.width, film.height)

    def abandon(self) -> None:
        self._closing.close()

    @property
    def _time_base(self) -> Fraction:
        return 1 / self._film.rate if self._constant else self._film.time_base

    def _add_video(self) -> VideoStream:
        film, encoding = self._film, self._encoding
        stream = self._container.add_stream(
            encoding.encoder, rate=film.rate, options=dict(encoding.options)
        )
        (stream.height, stream.width), stream.pix_fmt = self._size, encoding.pix_fmt
        if encoding.tag and self._path.suffix.lower() != ".mkv":
            stream.codec_context.codec_tag = encoding.tag
        context = stream.codec_context
        context.time_base = stream.time_base = self._time_base
        context.sample_aspect_ratio = film.sample_aspect
        context.color_range = 2 if encoding.full_range else 1
        context.colorspace, context.color_primaries, context.color_trc = film.tags
        if film.field_order != "progressive":
            context.field_order = 2 if film.field_order == "top" else 3
        if film.display_matrix is not None:
            stream.set_display_matrix(film.display_matrix)
        return stream

    def _copy_tags(self, source: InputContainer, video: VideoStream) -> None:
        self._container.metadata.update(kept_tags(source.metadata, self._film))
        self._stream.metadata.update(kept_tags(video.metadata, self._film))
        self._stream.disposition = int(video.disposition)
        self._container.set_chapters(list(_chapters(self._film, source, video)))

    def _video_frame(self, frame: Frame, chroma: np.ndarray) -> av.VideoFrame:
        film, encoding = self._film, self._encoding
        depth, full = encoding.depth, encoding.full_range
        interlaced = self._marker is not None
        luma, chroma = (_padded(plane, self._size) for plane in (frame.luma, chroma))
        chroma = subsample_chroma(chroma, encoding.rows, encoding.columns, interlaced)
        codes = color.chroma_codes(chroma, depth, full)
        image = av.VideoFrame(*self._size[::-1], encoding.pix_fmt)
        planes = (color.luma_codes(luma, film, depth, full), codes[..., 0], codes[..., 1])
        for plane, values in zip(image.planes, planes, strict=True):
            rows = np.frombuffer(plane, values.dtype)
            rows = rows.reshape(-1, plane.line_size // values.itemsize)
            rows[: values.shape[0], : values.shape[1]] = values
        if self._marker is not None:
            image = mark_fields(image, self._marker)
        image.pts = self._count if self._constant else frame.pts
        image.time_base = self._time_base
        image.color_range = 2 if full else 1
        image.colorspace, image.color_primaries, image.color_trc = film.tags
        return image

    def _encode(self, image: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(image):
            if self._count <= 2:  # libx265 returns a random dts for films of so few frames
                packet.dts = packet.pts
            if not packet.duration and self._film.rate * self._film.time_base > 1:
                packet.duration = 1  # else it rounds to 0, and MP4 hides the last frame
            with self._muxing():
                self._container.mux(packet)

    def _mux_audio(self, until: float) -> None:
        """Copy audio up to a time in seconds, so that the muxer buffers little."""
        while self._waiting is not None:
            packet = self._waiting
            if packet.dts is not None and float(packet.dts * packet.time_base) > until:
                return
            with self._muxing():
                self._container.mux(packet)
            self._waiting = next(self._audio, None)

    @contextlib.contextmanager
    def _muxing(self) -> Iterator[None]:
        """Raise ValueError for what the container cannot hold; a full disk stays an OSError."""
        try:
            yield
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise ValueError(
                f"{self._film.path}: {self._path.suffix} cannot hold its times or its audio "
                f"({error.strerror}); give an output that ends in .mkv."
            ) from error


def _padded(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Repeat the last row and column of a plane `[H, W, ...]` until it has a size."""
    missing = [(0, side - own) for side, own in zip(size, plane.shape[:2], strict=True)]
    if not any(after for _, after in missing):
        return plane
    return np.pad(plane, [*missing, *[(0, 0)] * (plane.ndim - 2)], mode="edge")


def _chapters(film: Film, source: InputContainer, video: VideoStream) -> Iterator[Any]:
    """Yield the chapters of a film, or those of an excerpt, with the output's times."""
    begin, end = film.span
    delay = start_shift(film.shifts, video) * film.time_base - begin
    for chapter in source.chapters():
        unit = chapter["time_base"]
        start, stop = (chapter[key] + round(delay / unit) for key in ("start", "end"))
        last = stop if end is None else round((end - begin) / unit)
        if film.excerpt and (stop <= 0 or start >= last):
            continue
        yield chapter | {"start": max(0, start), "end": min(stop, last)}
