"""Films as cameras, discs and receivers leave them, for tests: with sound, joined, damaged."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.films import make_frame

RATE = 25  # frames per second
SIZE = (48, 64)  # height and width
BLOCK = 1024  # samples of a packet of PCM


def write_recording(
    path: Path,
    frames: int = 50,
    codec: str = "mpeg2video",
    sound: str | None = None,
    muxer: str | None = None,
    start: float = 0.0,
    channels: str = "stereo",
    tracks: int = 1,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    rate: Fraction | int = RATE,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film whose pictures and sound are interleaved; return its path.

    Args:
        path: its extension chooses the container, unless `muxer` is given.
        frames: number of frames.
        codec: of the pictures.
        sound: codec of the sound; None for none.
        muxer: FFmpeg's name of the container.
        start: time of the first picture and sound in seconds.
        channels: layout of the sound.
        tracks: number of sound tracks.
        pix_fmt: pixel format of 8 bits.
        size: height and width.
        rate: frames per second.
        options: of the encoder of the pictures.
    """
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format=muxer) as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        (video.height, video.width), video.pix_fmt = size, pix_fmt
        audios = []
        if sound:
            audios = [
                container.add_stream(sound, rate=48000, layout=channels) for _ in range(tracks)
            ]
        container.start_encoding()  # opens the encoders, which then know their block sizes
        steps = [(Fraction(index) / rate, video, index) for index in range(frames)]
        for audio in audios:
            block = audio.codec_context.frame_size or BLOCK
            count = int(frames / rate * 48000 / block)
            steps += [(Fraction(i * block, 48000), audio, i * block) for i in range(count)]
        for _, stream, index in sorted(steps, key=lambda step: step[0]):
            if stream is video:
                frame = make_frame(_picture(index, size, rng), pix_fmt)
                frame.pts, frame.time_base = round(start * rate) + index, 1 / Fraction(rate)
            else:
                frame = _noise(stream, rng)
                frame.pts = round(start * 48000) + index
            container.mux(stream.encode(frame))
        for stream in (video, *audios):
            container.mux(stream.encode())
    return path


def _picture(index: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Make a picture whose mean tells its number, with a grain that fills packets."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = 40 * np.sin((columns + 3 * index) / 11) * np.cos(rows / 9)
    grain = rng.normal(0, 8, size)
    return np.clip(60 + 2 * (index % 60) + waves + grain, 16, 235).astype(np.uint8)


def _noise(stream: av.AudioStream, rng: np.random.Generator) -> av.AudioFrame:
    context = stream.codec_context
    layout, kind = context.layout, context.format
    samples = rng.integers(-9000, 9000, (layout.nb_channels, context.frame_size or BLOCK))
    name = kind.packed.name
    if name == "flt":
        samples = (samples / 32768).astype(np.float32)
    elif name == "s32":
        samples = samples.astype(np.int32) << 16
    elif name == "u8":
        samples = (128 + samples // 256).astype(np.uint8)
    else:
        samples = samples.astype(np.int16)
    if not kind.is_planar:
        samples = np.ascontiguousarray(samples.T.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(samples, format=kind.name, layout=layout.name)
    frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
    return frame


def join(path: Path, *parts: Path) -> Path:
    """Join files byte by byte, as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def flip(path: Path, place: float = 0.5, count: int = 40) -> Path:
    """Invert some bytes of a file in place, from a share of its length on."""
    data = bytearray(path.read_bytes())
    first = int(place * len(data))
    for index in range(first, first + count):
        data[index] ^= 0xFF
    path.write_bytes(data)
    return path
