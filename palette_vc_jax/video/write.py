"""Write a colored film: the source's luma, the model's chroma, the source's audio and timing.

The extension selects the codec, see `encoding.py`; a folder holds PNG frames, and `.png` and `.jpg`
are single images. Matroska rounds times to milliseconds; the others keep the source's times.
"""

import contextlib
import os
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.format import VideoFormat

from palette_vc_jax import atomic
from palette_vc_jax.video import hdr
from palette_vc_jax.video.encoding import (
    DEFAULT_OUTPUT,
    MUXERS,
    PICTURES,
    OutputOptions,
    check_encoding,
    codec_for,
)
from palette_vc_jax.video.film import Film, Frame
from palette_vc_jax.video.image_files import count_images
from palette_vc_jax.video.sinks import FilmSink, ImageSink
from palette_vc_jax.video.tracks import check_tracks

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
MAX_FRAMES = Fraction(3, 2)  # of a frame's average duration; a longer gap is a variable rate
MAX_TICKS = 2**31 - 2  # units of time of a frame's duration in MP4 and MOV


def check_output(output: str | Path, film: Film, options: OutputOptions = DEFAULT_OUTPUT) -> None:
    """Check that a film can be written to `output`, before any work is done.

    Raises:
        ValueError: if the parent folder is missing or not writable; if the extension is unknown
            or does not fit the source; if the output is the source, is among its frames, is not a
            regular file or is a folder with files; or if the container cannot hold the audio.
    """
    atomic.check_name(Path(output))
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
        _check_images(output, options, PICTURES)
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
        _check_images(output, options, ())
    elif suffix in MUXERS:
        check_encoding(suffix, film, options)
        check_tracks(output, film, options.audio)
    else:
        allowed = " ".join([*MUXERS, *sorted(IMAGE_SUFFIXES)])
        raise ValueError(
            f"{output}: extension {suffix} is not known; use one of {allowed}, or none for a "
            "folder of PNG frames."
        )
    if film.tags[2] in hdr.NAMES:
        hevc = suffix in MUXERS and codec_for(suffix, film, options) == "hevc"
        lost = film.mastering and (not hevc or options.playable or film.depth == 8)
        keeper = "only films of more than 8 bits keep it" if film.depth == 8 else "HEVC keeps it"
        more = f" Its mastering metadata is lost; {keeper}." if lost else ""
        warnings.warn(
            f"{film.path}: HDR ({hdr.NAMES[film.tags[2]]}); the model sees it as SDR, and the "
            f"output keeps the luma and the transfer function of the source.{more}",
            stacklevel=2,
        )
    if film.files and (count := count_images(film.files[0])) > 1:
        warnings.warn(
            f"{film.files[0]}: only the first of its {count} images is read; split it into a "
            "folder of images.",
            stacklevel=2,
        )
    if any(part.is_alpha for part in VideoFormat(film.pix_fmt).components):
        warnings.warn(f"{film.path}: its transparency is left out.", stacklevel=2)


def _check_images(output: Path, options: OutputOptions, codecs: Sequence[str]) -> None:
    """Check the options of an output of images, whose codec is one of `codecs`."""
    if options.quality is not None or options.playable:
        raise ValueError(f"{output}: --quality and --playable are for films, not for images.")
    if options.codec is not None and options.codec not in codecs:
        way_out = f"use one of {', '.join(codecs)}" if codecs else "leave --codec out"
        raise ValueError(f"{output}: codec {options.codec!r} is not one of images; {way_out}.")


def check_times(output: str | Path, film: Film, longest_gap: Fraction) -> None:
    """Check that a container can hold a film's times; MP4 and MOV have 31 bits for a duration.

    Warn about a variable frame rate in Y4M, which holds none.

    Args:
        output: as for `check_output`.
        film: the source.
        longest_gap: the longest time from a frame to the next, in seconds.

    Raises:
        ValueError: if a gap is too long.
    """
    suffix = "" if _is_folder(output) else Path(output).suffix.lower()
    if MUXERS.get(suffix) == "yuv4mpegpipe" and longest_gap * film.rate > MAX_FRAMES:
        warnings.warn(
            f"{film.path}: {suffix} holds a constant frame rate, and this film's varies; the "
            "frames get other times.",
            stacklevel=2,
        )
    longest = MAX_TICKS * film.time_base
    if MUXERS.get(suffix) in ("mp4", "mov") and longest_gap > longest:
        raise ValueError(
            f"{film.path}: {float(longest_gap):.0f} seconds lie between two frames, and {suffix} "
            f"holds at most {float(longest):.0f} for this film; give an output that ends in .mkv."
        )


class FilmWriter:
    """Write a film to a temporary name and move it to `output` when it is complete.

    Use as a context manager. Leaving it without an error finishes the audio and the container and
    moves the result to `output`; leaving it with an error, or by Ctrl-C, removes the partial file.

    Args:
        output: a file or folder, see the module's docstring; checked by `check_output` at once.
        film: the source; its metadata, chapters, audio and subtitles are copied.
        options: how the film is written.
    """

    def __init__(self, output: str | Path, film: Film, options: OutputOptions = DEFAULT_OUTPUT):
        check_output(output, film, options)
        self.output, self.film, self._options = Path(output), film, options
        self._suffix = "" if _is_folder(output) else self.output.suffix.lower()
        self._sink: FilmSink | ImageSink | None = None
        self._placing = contextlib.ExitStack()  # moves the partial output into place

    def __enter__(self) -> "FilmWriter":
        begin = atomic.file if self._suffix else atomic.folder
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(begin(self.output))
            if self._suffix in MUXERS:
                self._sink = FilmSink(partial, self.film, self._options)
            else:
                self._sink = ImageSink(partial, self.film, self._suffix, self._options)
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


def _is_folder(output: str | Path) -> bool:
    return str(output).endswith("/") or Path(output).is_dir() or not Path(output).suffix
