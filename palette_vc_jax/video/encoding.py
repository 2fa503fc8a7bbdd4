"""Choose the codec of an output film from its extension and the user's options.

Without options, `.mkv` is lossless FFV1 with the source's luma bit for bit and 4:4:4 chroma, `.mp4`
is H.264, or HEVC for HDR, and `.mov` is ProRes.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import av
from av.codec import Codec
from av.error import FFmpegError

from palette_vc_jax.video import hdr
from palette_vc_jax.video.film import Film

MUXERS = {
    ".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".y4m": "yuv4mpegpipe",
}  # fmt: skip
DEFAULT_CODECS = {"matroska": "ffv1", "mp4": "h264", "mov": "prores", "yuv4mpegpipe": "raw"}
ENCODERS = {  # codec -> FFmpeg's encoder
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
    "prores": "prores_ks",
    "raw": "rawvideo",
}
HELD = {  # codecs that a container holds
    "matroska": ("h264", "hevc", "av1", "ffv1", "prores"),
    "yuv4mpegpipe": ("raw",),
    "mp4": ("h264", "hevc", "av1"),
    "mov": ("h264", "hevc", "prores"),
}
PICTURES = ("png", "png16", "tiff", "tiff16")  # codecs of a folder
MAX_QUALITY = {"h264": 51, "hevc": 51, "av1": 63}  # constant rate factors
# A fixed quantizer keeps 45 dB on Y even for noise; a constant rate factor would remove grain.
QUANTIZERS = {  # by depth; H.264 has 12 more quantizer steps at 10 bits
    "h264": {8: 13, 10: 21},
    "hevc": {8: 11, 10: 11},
    "av1": {8: 6, 10: 5},
}
PLAYABLE_QUALITY = {"h264": 17.0, "hevc": 18.0, "av1": 20.0}  # smooth to play, unlike the above
# With the profile's default number of bits per block, grain falls to 30 dB.
PRORES = {"vendor": "apl0", "bits_per_mb": "4000"}


@dataclass(frozen=True)
class OutputOptions:
    """How a film is written, apart from the container that its extension selects."""

    audio: str = "copy"  # one of `audio.MODES`
    codec: str | None = None  # of `ENCODERS`, or of `PICTURES` for a folder; None for the default
    quality: float | None = None  # constant rate factor, 0 is best; None for 45 dB on Y
    playable: bool = False  # 8 bits, 4:2:0, limited range and even sides, as players need


DEFAULT_OUTPUT = OutputOptions()


@dataclass(frozen=True)
class Encoding:
    """Encoder, pixel format and chroma subsampling of an output file."""

    encoder: str
    options: dict[str, str]
    pix_fmt: str
    depth: int
    full_range: bool
    rows: int  # vertical chroma subsampling, 1 or 2
    columns: int  # horizontal chroma subsampling, 1 or 2
    tag: str | None = None  # the codec's name in MP4 and MOV, if it is not FFmpeg's choice
    muxer_options: dict[str, str] = field(default_factory=dict)
    even: bool = False  # the last row and column are repeated if their number is odd


def check_encoding(suffix: str, film: Film, options: OutputOptions) -> None:
    """Check that a film can be encoded, by encoding a frame if it is not with the default codec.

    Raises:
        ValueError: as `encoding_for`, or if the encoder refuses the film's size or format.
    """
    encoding = encoding_for(suffix, film, options)
    if options.codec is None:
        return
    height, width = padded_size(film, encoding)
    try:
        with av.open(io.BytesIO(), "w", format=MUXERS[suffix]) as container:
            stream = container.add_stream(encoding.encoder, film.rate, dict(encoding.options))
            stream.width, stream.height, stream.pix_fmt = width, height, encoding.pix_fmt
            container.start_encoding()
            stream.encode(av.VideoFrame(width, height, encoding.pix_fmt))
            stream.encode()
    except (FFmpegError, ValueError) as error:
        raise ValueError(
            f"{encoding.encoder} cannot encode {width}x{height} pixels in {encoding.pix_fmt}; give "
            "another --codec, or --playable."
        ) from error


def encoding_for(suffix: str, film: Film, options: OutputOptions = DEFAULT_OUTPUT) -> Encoding:
    """Return the encoding of a film for a file extension; films of odd size get 4:4:4 chroma.

    Raises:
        ValueError: if the container does not hold the codec, FFmpeg has no encoder for it, or
            the quality is not possible.
    """
    codec = codec_for(suffix, film, options)
    _check_quality(codec, options)
    if film.field_order != "progressive" and codec in ("hevc", "av1"):
        raise ValueError(
            f"{film.path}: {codec} does not store interlaced frames; deinterlace the film first, "
            "or use h264, prores or ffv1."
        )
    try:
        Codec(ENCODERS[codec], "w")
    except ValueError:
        raise ValueError(
            f"this FFmpeg has no encoder {ENCODERS[codec]} for {codec}; give another --codec."
        ) from None
    return replace(_BUILDERS[codec](film, options), encoder=ENCODERS[codec])


def padded_size(film: Film, encoding: Encoding) -> tuple[int, int]:
    """Return the height and width of an encoded film."""
    extra = 1 if encoding.even else 0
    return film.height + extra * (film.height % 2), film.width + extra * (film.width % 2)


def codec_for(suffix: str, film: Film, options: OutputOptions = DEFAULT_OUTPUT) -> str:
    """Return the codec of a film for a file extension.

    The default for HDR in MP4 is HEVC, because few players read HDR in H.264.

    Raises:
        ValueError: if the container does not hold the codec, or few players read it.
    """
    muxer = MUXERS[suffix]
    if options.playable and muxer in ("matroska", "yuv4mpegpipe"):
        raise ValueError(f"--playable: few players read {suffix}; give .mp4 or .mov.")
    usual = "h264" if options.playable else DEFAULT_CODECS[muxer]
    hdr_film = film.tags[2] in hdr.NAMES and film.field_order == "progressive"
    if muxer == "mp4" and hdr_film and not options.playable:
        usual = "hevc"
    codec = options.codec or usual
    if codec not in ENCODERS and codec not in PICTURES:
        known = ", ".join([*ENCODERS, *PICTURES])
        raise ValueError(f"codec {codec!r} is not known; use one of {known}.")
    if codec not in HELD[muxer]:
        others = [end for end, name in MUXERS.items() if codec in HELD[name]]
        way_out = f"give an output in {' or '.join(others)}" if others else "give a folder"
        raise ValueError(f"{suffix} does not hold {codec}; {way_out}.")
    if options.playable and codec in ("ffv1", "prores"):
        raise ValueError(f"--playable: few players read {codec}; use h264, hevc or av1.")
    return codec


def _check_quality(codec: str, options: OutputOptions) -> None:
    if options.quality is None:
        return
    if codec not in MAX_QUALITY:
        raise ValueError(f"--quality: {codec} has none; use it with h264, hevc or av1.")
    if not 0 <= options.quality <= MAX_QUALITY[codec]:
        raise ValueError(
            f"quality {options.quality:g}; {codec} takes 0 (best) to {MAX_QUALITY[codec]}."
        )


def _ffv1(film: Film, options: OutputOptions) -> Encoding:
    flags = {"level": "3", "slicecrc": "1"}
    return Encoding("", flags, _planar("444", film.depth), film.depth, film.full_range, 1, 1)


def _raw(film: Film, options: OutputOptions) -> Encoding:
    depth = film.depth if film.depth <= 10 else 12 if film.depth <= 12 else 16
    more = {} if depth == 8 else {"strict": "-1"}  # more than 8 bits are an extension of Y4M
    pix_fmt = _planar("444", depth)
    return Encoding("", {}, pix_fmt, depth, film.full_range, 1, 1, None, more)


def _prores(film: Film, options: OutputOptions) -> Encoding:
    odd = film.width % 2 or film.height % 2  # ProRes stores 10 bits in TV range only
    sampling, columns = ("444", 1) if odd else ("422", 2)
    flags = PRORES | {"profile": "4444" if odd else "hq"}
    if film.field_order != "progressive":
        flags["flags"] = "+ildct"
    return Encoding("", flags, _planar(sampling, 10), 10, False, 1, columns)


def _h264(film: Film, options: OutputOptions) -> Encoding:
    encoding = _lossy(film, options)
    quality = _rate_factor("h264", options)
    rate = {"qp": str(QUANTIZERS["h264"][encoding.depth])} if quality is None else {"crf": quality}
    flags = rate | {"preset": "fast"}
    if film.field_order != "progressive":
        flags["x264-params"] = "tff=1" if film.field_order == "top" else "bff=1"
    return replace(encoding, options=flags)


def _hevc(film: Film, options: OutputOptions) -> Encoding:
    encoding = _lossy(film, options)
    quality = _rate_factor("hevc", options)
    params = ["log-level=error"]
    if quality is None:
        params.append(f"qp={QUANTIZERS['hevc'][encoding.depth]}")
    if film.mastering and encoding.depth > 8:
        params.append(film.mastering)
    flags = {"preset": "fast", "x265-params": ":".join(params)}
    flags |= {} if quality is None else {"crf": quality}
    # QuickTime reads HEVC only under this name.
    return replace(encoding, options=flags, tag="hvc1")


def _av1(film: Film, options: OutputOptions) -> Encoding:
    os.environ.setdefault("SVT_LOG", "1")  # else the encoder prints its settings
    encoding = _lossy(film, options)
    quality = _rate_factor("av1", options) or str(QUANTIZERS["av1"][encoding.depth])
    return replace(encoding, options={"crf": quality, "preset": "8"})


_BUILDERS: dict[str, Callable[[Film, OutputOptions], Encoding]] = {
    "ffv1": _ffv1,
    "prores": _prores,
    "h264": _h264,
    "hevc": _hevc,
    "av1": _av1,
    "raw": _raw,
}


def _lossy(film: Film, options: OutputOptions) -> Encoding:
    """Return the encoding of a lossy codec without its options."""
    if options.playable:
        faststart = {"movflags": "+faststart"}  # so that a browser can play it while it loads
        return Encoding("", {}, "yuv420p", 8, False, 2, 2, None, faststart, even=True)
    odd = film.width % 2 or film.height % 2
    depth, step = (8 if film.depth == 8 else 10), (1 if odd else 2)
    return Encoding(
        "", {}, _planar("444" if odd else "420", depth), depth, film.full_range, step, step
    )


def _rate_factor(codec: str, options: OutputOptions) -> str | None:
    """Return the constant rate factor to use, None for the quantizer."""
    if options.quality is None and not options.playable:
        return None
    quality = PLAYABLE_QUALITY[codec] if options.quality is None else options.quality
    return f"{quality:g}"


def _planar(sampling: str, depth: int) -> str:
    return f"yuv{sampling}p" + ("" if depth == 8 else f"{depth}le")
