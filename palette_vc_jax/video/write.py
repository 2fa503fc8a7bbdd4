"""Write a colored film: the source's luma, the model's chroma, the source's audio and timing.

The extension selects the codec: `.mkv` is lossless FFV1 with the source's luma bit for bit and
4:4:4 chroma, `.mp4` is H.264, `.mov` is ProRes, a folder holds PNG frames, and `.png` and `.jpg`
are single images. Matroska rounds times to milliseconds; the others keep the source's times.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from palette_vc_jax import atomic
from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, Frame, open_video, orient
from palette_vc_jax.video.matroska import PADDING, write_aspect
from palette_vc_jax.video.resize import subsample_chroma

MUXERS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}
# A fixed quantizer keeps 45 dB on Y even for noise; a constant rate factor would remove grain.
X264_QP = {8: 13, 10: 21}  # by depth; H.264 has 12 more quantizer steps at 10 bits
# With the profile's default number of bits per block, grain falls to 30 dB.
PRORES = {"vendor": "apl0", "bits_per_mb": "4000"}
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # 4:4:4
DROPPED_TAGS = {"DURATION", "major_brand", "minor_version", "compatible_brands", "encoder"}


@dataclass(frozen=True)
class Encoding:
    """Codec, pixel format and chroma subsampling of an output file."""

    codec: str
    options: dict[str, str]
    pix_fmt: str
    depth: int
    full_range: bool
    rows: int  # vertical chroma subsampling, 1 or 2
    columns: int  # horizontal chroma subsampling, 1 or 2


def encoding_for(suffix: str, film: Film) -> Encoding:
    """Return the encoding of a film for a file extension; films of odd size get 4:4:4 chroma."""
    odd = film.width % 2 or film.height % 2
    if suffix == ".mkv":
        return Encoding(
            "ffv1",
            {"level": "3", "slicecrc": "1"},
            _planar("444", film.depth),
            film.depth,
            film.full_range,
            1,
            1,
        )
    if suffix == ".mov":  # ProRes stores 10 bits in TV range only
        sampling, columns = ("444", 1) if odd else ("422", 2)
        options = PRORES | {"profile": "4444" if odd else "hq"}
        return Encoding("prores_ks", options, _planar(sampling, 10), 10, False, 1, columns)
    depth, step = (8 if film.depth == 8 else 10), (1 if odd else 2)
    options = {"qp": str(X264_QP[depth]), "preset": "fast"}
    if film.field_order != "progressive":
        options["x264-params"] = "tff=1" if film.field_order == "top" else "bff=1"
    pix_fmt = _planar("444" if odd else "420", depth)
    return Encoding("libx264", options, pix_fmt, depth, film.full_range, step, step)


def check_output(output: str | Path, film: Film) -> None:
    """Check that a film can be written to `output`, before any work is done.

    Raises:
        ValueError: if the parent folder is missing or not writable; if the extension is unknown
            or does not fit the source; if the output is the source, is among its frames, is not a
            regular file or is a folder with files; or if the container cannot hold the audio.
    """
    as_folder, output = _is_folder(output), Path(output)
    suffix = output.suffix.lower()
    if not output.absolute().parent.is_dir():
        raise ValueError(f"{output}: the folder {output.parent} does not exist; create it first.")
    # If the output is a link, check both the folder of the link and the folder of its target.
    parents = [
        os.path.realpath(output.absolute().parent),
        os.path.dirname(os.path.realpath(output)),
    ]
    for parent in parents:
        if not os.access(parent, os.W_OK):
            raise ValueError(f"{output}: {parent} is not writable; give another folder.")
    if output.exists() and film.path.exists() and output.samefile(film.path):
        raise ValueError(f"{output}: this is the source; give the output another name.")
    if film.kind == "folder" and os.path.realpath(film.path) in parents:
        raise ValueError(
            f"{output}: is in the folder of the source's frames, where a later run would read "
            "written images as frames; give another folder."
        )
    if not output.is_dir():
        atomic.check_targets([output])
    if as_folder:
        if output.is_file():
            raise ValueError(
                f"{output}: a file has this name; give another name, or add .mp4 or .mkv."
            )
        if output.is_dir() and any(output.iterdir()):
            raise ValueError(f"{output}: the folder is not empty; give a new or an empty one.")
    elif suffix in IMAGE_SUFFIXES:
        if film.kind != "image":
            raise ValueError(
                f"{output}: {film.path} is a film, and {suffix} holds one image; "
                "give .mp4, .mkv, .mov or a folder."
            )
    elif suffix in MUXERS:
        _check_audio(output, film)
    else:
        allowed = " ".join([*MUXERS, *sorted(IMAGE_SUFFIXES)])
        raise ValueError(
            f"{output}: extension {suffix} is not known; use one of {allowed}, or none for a "
            "folder of PNG frames."
        )


class FilmWriter:
    """Write a film to a temporary name and move it to `output` when it is complete.

    Use as a context manager. Leaving it without an error finishes the audio and the container and
    moves the result to `output`; leaving it with an error, or by Ctrl-C, removes the partial file.

    Args:
        output: a file or folder, see the module's docstring; checked by `check_output` at once.
        film: the source; its audio, metadata and chapters are copied without encoding.
    """

    def __init__(self, output: str | Path, film: Film):
        check_output(output, film)
        self.output, self.film = Path(output), film
        self._suffix = "" if _is_folder(output) else self.output.suffix.lower()
        self._sink: _FilmSink | _ImageSink | None = None
        self._placing = contextlib.ExitStack()  # moves the partial output into place

    def __enter__(self) -> "FilmWriter":
        begin = atomic.file if self._suffix else atomic.folder
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(begin(self.output))
            if self._suffix in MUXERS:
                self._sink = _FilmSink(partial, self.film)
            else:
                self._sink = _ImageSink(partial, self.film, self._suffix)
            self._placing = stack.pop_all()
        return self

    def write(self, frame: Frame, chroma: np.ndarray) -> None:
        """Write the next frame from its luma codes and chroma.

        Args:
            frame: the frame, whose luma is written unchanged where the format allows.
            chroma: (Cb, Cr) `[H, W, 2]` in [-0.5, 0.5].

        Raises:
            ValueError: if a size differs from the film's.
            OSError: if the disk is full.
        """
        size = (self.film.height, self.film.width)
        if frame.luma.shape != size or chroma.shape != (*size, 2):
            raise ValueError(
                f"frame {frame.index} has luma {frame.luma.shape} and chroma {chroma.shape}; "
                f"the film's size needs {size} and {(*size, 2)}."
            )
        self._sink.write(frame, chroma)

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            with contextlib.suppress(Exception):  # the first error is the one to report
                self._sink.abandon()
            self._placing.__exit__(kind, error, trace)
            return
        with self._placing:
            self._sink.finish()


class _ImageSink:
    """Write each frame as a PNG of the film's depth in a new folder, or one image.

    Images have no display matrix, so their pixels are rotated upright.
    """

    def __init__(self, path: Path, film: Film, suffix: str):
        self._path, self._film, self._suffix, self._count = path, film, suffix, 0

    def write(self, frame: Frame, chroma: np.ndarray) -> None:
        film = self._film
        gray = color.gray(frame.luma, film)
        rgb = color.ycc_to_rgb(gray, color.limit_gamut(gray, chroma, film.matrix), film.matrix)
        top, kind = (255, np.uint8) if film.depth == 8 else (65535, np.uint16)
        jpeg = self._suffix in (".jpg", ".jpeg")
        if jpeg:
            top, kind = 255, np.uint8
        pixels = np.clip(np.rint(top * rgb), 0, top).astype(kind)
        pixels = np.ascontiguousarray(
            orient(pixels[..., ::-1], film.orientation)
        )  # OpenCV wants BGR
        name = self._path if self._suffix else self._path / f"{frame.index:06d}.png"
        _, data = cv2.imencode(".jpg" if jpeg else ".png", pixels, JPEG if jpeg else [])
        name.write_bytes(data.tobytes())
        self._count += 1

    def finish(self) -> None:
        if not self._count:
            raise ValueError(f"{self._film.path}: no frame was written.")

    def abandon(self) -> None:
        pass


class _FilmSink:
    """Encode frames into a container and copy the source's audio packets between them."""

    def __init__(self, path: Path, film: Film):
        self._film, self._encoding = film, encoding_for(path.suffix.lower(), film)
        self._path, self._count = path, 0
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            base = film.time_base
            # Without this flag, the muxers write random IDs and the date.
            options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
            muxer = MUXERS[path.suffix.lower()]
            self._patched = muxer == "matroska" and film.sample_aspect != 1
            if self._patched:
                options["write_crc32"] = "0"
            if muxer != "matroska" and base.numerator == 1:
                options["video_track_timescale"] = str(base.denominator)
            self._container = stack.enter_context(
                av.open(f"file:{path}", "w", format=muxer, container_options=options)
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
                self._audio = _copy_audio(source, self._container)
            self._waiting = next(self._audio, None)
            self._closing = stack.pop_all()

    def write(self, frame: Frame, chroma: np.ndarray) -> None:
        self._mux_audio(float(frame.pts * self._film.time_base))
        self._container.mux(self._stream.encode(self._video_frame(frame, chroma)))
        self._count += 1

    def finish(self) -> None:
        try:
            if not self._count:
                raise ValueError(f"{self._film.path}: no frame was written.")
            self._container.mux(self._stream.encode())
            self._mux_audio(float("inf"))
        finally:  # with `with`, `open_video` would report a full disk as an error of the source
            self._closing.close()
        if self._patched:
            film = self._film
            write_aspect(self._path, film.sample_aspect, film.width, film.height)

    def abandon(self) -> None:
        self._closing.close()

    def _add_video(self) -> av.video.stream.VideoStream:
        film, encoding = self._film, self._encoding
        stream = self._container.add_stream(
            encoding.codec, rate=film.rate, options=dict(encoding.options)
        )
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, encoding.pix_fmt
        context = stream.codec_context
        context.time_base = stream.time_base = film.time_base
        context.sample_aspect_ratio = film.sample_aspect
        context.color_range = 2 if encoding.full_range else 1
        context.colorspace, context.color_primaries, context.color_trc = film.tags
        if film.field_order != "progressive":
            context.field_order = 2 if film.field_order == "top" else 3
        if film.display_matrix is not None:
            stream.set_display_matrix(film.display_matrix)
        return stream

    def _copy_tags(self, source: InputContainer, video: av.video.stream.VideoStream) -> None:
        self._container.metadata.update(_tags(source.metadata))
        self._stream.metadata.update(_tags(video.metadata))
        self._container.set_chapters(source.chapters())

    def _video_frame(self, frame: Frame, chroma: np.ndarray) -> av.VideoFrame:
        film, encoding = self._film, self._encoding
        depth, full = encoding.depth, encoding.full_range
        interlaced = film.field_order != "progressive"
        chroma = subsample_chroma(chroma, encoding.rows, encoding.columns, interlaced)
        codes = color.chroma_codes(chroma, depth, full)
        image = av.VideoFrame(film.width, film.height, encoding.pix_fmt)
        planes = (color.luma_codes(frame.luma, film, depth, full), codes[..., 0], codes[..., 1])
        for plane, values in zip(image.planes, planes, strict=True):
            rows = np.frombuffer(plane, values.dtype)
            rows = rows.reshape(-1, plane.line_size // values.itemsize)
            rows[: values.shape[0], : values.shape[1]] = values
        image.pts, image.time_base = frame.pts, film.time_base
        image.color_range = 2 if full else 1
        image.colorspace, image.color_primaries, image.color_trc = film.tags
        return image

    def _mux_audio(self, until: float) -> None:
        """Copy audio up to a time in seconds, so that the muxer buffers little."""
        while self._waiting is not None:
            packet = self._waiting
            if packet.dts is not None and float(packet.dts * packet.time_base) > until:
                return
            self._container.mux(packet)
            self._waiting = next(self._audio, None)


def _copy_audio(source: InputContainer, container: OutputContainer) -> Iterator[Packet]:
    """Add the source's audio streams to a container and yield their packets for it."""
    streams: dict[int, AudioStream] = {}
    for stream in source.streams.audio:
        copy = container.add_stream_from_template(stream)
        copy.metadata.update(_tags(stream.metadata))
        streams[stream.index] = copy

    def packets() -> Iterator[Packet]:
        last: dict[int, int] = {}
        try:
            for packet in source.demux(*source.streams.audio) if streams else ():
                if not packet.size:  # an empty packet ends a stream and only flushes decoders
                    continue
                index = packet.stream.index
                # Matroska has no durations, and MP4 hides a last packet without duration.
                if not packet.duration and packet.pts is not None:
                    packet.duration = max(0, packet.pts - last.get(index, packet.pts))
                if packet.pts is not None:
                    last[index] = packet.pts
                packet.stream = streams[index]
                yield packet
        except FFmpegError as error:
            raise ValueError(
                f"{source.name}: the audio is damaged ({error.strerror}); give a "
                "complete copy, or a film without audio."
            ) from error

    return packets()


def _check_audio(output: Path, film: Film) -> None:
    """Raise ValueError if the container cannot hold the source's audio; tries its header."""
    if not film.audio:
        return
    suffix = output.suffix.lower()
    way_out = "convert the audio to FLAC or AAC first"
    if suffix != ".mkv":
        way_out = "give an output that ends in .mkv"
    with open_video(film.path) as (source, _):
        container = av.open(io.BytesIO(), "w", format=MUXERS[suffix])
        try:
            _copy_audio(source, container)
            container.start_encoding()
        except (ValueError, FFmpegError) as error:
            raise ValueError(
                f"{output}: {suffix} cannot hold the source's {'/'.join(film.audio)} audio, which "
                f"is copied without encoding; {way_out}."
            ) from error
        finally:
            with contextlib.suppress(ValueError, FFmpegError):
                container.close()


def _is_folder(output: str | Path) -> bool:
    return str(output).endswith("/") or Path(output).is_dir() or not Path(output).suffix


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    """Return the metadata without tags that describe the source's file only."""
    kept = {key: value for key, value in metadata.items() if key not in DROPPED_TAGS}
    return {k: v for k, v in kept.items() if not k.startswith(("_STATISTICS", "BPS", "NUMBER_OF"))}


def _planar(sampling: str, depth: int) -> str:
    return f"yuv{sampling}p" + ("" if depth == 8 else f"{depth}le")
