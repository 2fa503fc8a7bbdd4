"""Tiny films for tests, made with PyAV: codecs, ranges, times, turns, sound and damage as asked."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SOUND_RATE = 48000


def lumas(
    frames: int = 8, height: int = 48, width: int = 64, depth: int = 8, full_range: bool = False
) -> list[np.ndarray]:
    """Make luma codes of a soft pattern with an edge that moves, using the whole range."""
    rows, columns = np.mgrid[:height, :width]
    pictures = []
    for index in range(frames):
        gray = 0.5 + 0.3 * np.sin(columns / 9 + index / 3) * np.cos(rows / 7)
        gray[columns > width // 2 + index] -= 0.2
        gray[0, 0], gray[-1, -1] = 0.0, 1.0
        scale = 2.0 ** (depth - 8)
        codes = gray * (2.0**depth - 1) if full_range else scale * (16 + 219 * gray)
        kind = np.uint8 if depth == 8 else np.uint16
        pictures.append(np.rint(np.clip(codes, 0, 2**depth - 1)).astype(kind))
    return pictures


def write_film(
    path: Path,
    pictures: list[np.ndarray],
    pix_fmt: str = "yuv420p",
    codec: str = "ffv1",
    chroma: str | int = "colored",
    rate: Fraction = Fraction(24),
    times: list[int] | None = None,
    time_base: Fraction | None = None,
    tags: tuple[int, int, int, int] | None = None,
    turn: int = 0,
    aspect: Fraction | None = None,
    sound: str | None = None,
    fields: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film from luma codes; return its path.

    Args:
        path: its extension chooses the container.
        pictures: luma codes [H, W]; RGB [H, W, 3] uint8 for `pix_fmt` rgb24 and the like.
        pix_fmt: a planar Y'CbCr or gray format, or an RGB one that PyAV takes.
        codec: lossless unless a test wants otherwise; `libx264` gets qp 0.
        chroma: `colored` for a pattern, or the code that fills both planes.
        rate: frames a second.
        times: presentation times in units of `time_base`; default one frame each.
        time_base: seconds; default 1 / rate.
        tags: range, matrix, primaries, transfer; None writes none.
        turn: degrees of rotation for display.
        aspect: of a pixel.
        sound: codec of a tone as long as the film.
        fields: AVFieldOrder of an interlaced film.
        options: of the encoder.
    """
    time_base = time_base or 1 / rate
    options = options or ({"qp": "0"} if codec == "libx264" else {})
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        context = stream.codec_context
        if tags:
            context.color_range, context.colorspace = tags[:2]
            context.color_primaries, context.color_trc = tags[2:]
        if aspect:
            context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)
        if fields:
            context.field_order = fields
        tone = container.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        for index, picture in enumerate(pictures):
            frame = make_frame(picture, pix_fmt, chroma, index)
            frame.pts = index if times is None else times[index]
            frame.time_base = time_base
            if tags:
                frame.color_range, frame.colorspace = tags[:2]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            add_tone(container, tone, float(len(pictures) / rate))
    return path


def write_pictures(folder: Path, pictures: list[np.ndarray], name: str = "f{}.png") -> Path:
    """Write pictures ([H, W] gray or [H, W, 3] RGB, uint8 or uint16) as a folder of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        stored = picture[..., ::-1] if picture.ndim == 3 else picture
        assert cv2.imwrite(str(folder / name.format(index)), stored)
    return folder


def truncate(path: Path, share: float = 0.5) -> Path:
    """Cut a file off after a share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def sound_packets(path: Path) -> list[bytes]:
    """Read the packets of a film's first sound stream."""
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def sound_times(path: Path) -> list[float]:
    """Read the times of a film's first sound stream's packets, in seconds."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [float(p.pts * p.time_base) for p in packets if p.size]


def make_frame(
    picture: np.ndarray, pix_fmt: str, chroma: str | int = "colored", index: int = 0
) -> av.VideoFrame:
    """Make one frame; arguments as in `write_film`, `index` seeds the chroma."""
    if picture.ndim == 3:
        return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    frame = av.VideoFrame(picture.shape[1], picture.shape[0], pix_fmt)
    noise = np.random.default_rng(index)
    for number, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, picture.dtype)
        rows = rows.reshape(-1, plane.line_size // picture.itemsize)
        if number == 0:
            rows[: picture.shape[0], : picture.shape[1]] = picture
        elif chroma == "colored":
            top = 2 ** frame.format.components[0].bits
            rows[:] = noise.integers(top // 4, 3 * top // 4, rows.shape)
        else:
            rows[:] = chroma
    return frame


def add_tone(
    container: av.container.OutputContainer, stream: av.audio.AudioStream | str, seconds: float
) -> None:
    """Encode a tone into a sound stream, or into a new one of the codec named."""
    if isinstance(stream, str):
        stream = container.add_stream(stream, rate=SOUND_RATE, layout="mono")
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE)
    layout = stream.codec_context.format.name
    if layout.startswith("u8"):
        samples = (128 + 127 * tone).astype(np.uint8)
    elif layout.startswith("s16"):
        samples = (32767 * tone).astype(np.int16)
    else:
        samples = tone.astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples[None], format=layout, layout="mono")
    frame.sample_rate, frame.pts = SOUND_RATE, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def chroma(path: Path) -> np.ndarray:
    """Return the chroma codes of a film of 8 bits in 4:4:4, uint8 `[T, H, W, 2]`."""
    with av.open(str(path)) as container:
        planes = [frame.to_ndarray(format="yuv444p")[1:] for frame in container.decode(video=0)]
    return np.moveaxis(np.stack(planes), 1, -1)
