"""Encode the audio of a film again, for players and containers that cannot hold it as it is."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

# What is done with audio: copy its packets, encode it again with a codec, or leave it out.
MODES = ("copy", "aac", "flac", "none")
AAC_BITS = 96_000  # per second and channel
AAC_RATE = 96_000  # samples per second, the maximum of AAC
ROUNDING = Fraction(1, 200)  # seconds; a smaller gap between frames is a rounded time
# The usual layout of a number of channels, for tracks that only count them: AVI, Matroska and MXF
# do, and MP4 cannot store PCM without a named layout.
LAYOUTS = {
    1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1",
}  # fmt: skip


def layout_of(track: AudioStream) -> str:
    """Return the name of a track's layout, the usual one if the track only counts its channels."""
    layout = track.codec_context.layout
    unnamed = layout.name.endswith("channels") and layout.nb_channels in LAYOUTS
    return LAYOUTS[layout.nb_channels] if unnamed else layout.name


def add_encoder(container: OutputContainer, track: AudioStream, codec: str) -> AudioStream:
    """Add a stream to a container that encodes a track with a codec of `MODES`.

    Raises:
        ValueError: if the container cannot hold the codec.
    """
    rate = track.codec_context.sample_rate
    layout = layout_of(track)
    if codec == "aac":
        channels = track.codec_context.layout.nb_channels
        rate = min(rate, AAC_RATE)
        return container.add_stream("aac", rate, layout=layout, bit_rate=channels * AAC_BITS)
    # FLAC stores 16 or 24 bits.
    wide = track.codec_context.format.bits > 16
    return container.add_stream("flac", rate, layout=layout, format="s32" if wide else "s16")


def encode(
    packets: Iterable[Packet], encoders: dict[int, AudioStream], tolerant: bool
) -> Iterator[Packet]:
    """Decode and encode the packets of some tracks; yield the packets of others as they are.

    Args:
        packets: packets of a source.
        encoders: streams of `add_encoder`, by the index of their track.
        tolerant: leave out packets that cannot be decoded.

    Raises:
        FFmpegError: if a packet cannot be decoded.
    """
    tracks, ends = {}, {}
    for packet in packets:
        encoder = encoders.get(packet.stream.index)
        if encoder is None:
            yield packet
            continue
        tracks[packet.stream.index] = packet.stream
        try:
            frames = packet.decode()
        except FFmpegError:
            if not tolerant:
                raise
            continue
        for frame in frames:
            ends[packet.stream.index] = _place(frame, ends.get(packet.stream.index))
            yield from encoder.encode(frame)
    for index, track in tracks.items():
        for frame in track.codec_context.decode(None):
            ends[index] = _place(frame, ends.get(index))
            yield from encoders[index].encode(frame)
        yield from encoders[index].encode(None)


def _place(frame: AudioFrame, end: int | None) -> int:
    """Set a frame's time in samples, without the rounding of containers; return its end.

    Args:
        frame: a decoded frame.
        end: end of the frame before it.
    """
    rate = frame.sample_rate
    start = end or 0
    if frame.pts is not None:
        given = round(frame.pts * frame.time_base * rate)
        if end is None or abs(given - end) > ROUNDING * rate:
            start = given
    frame.pts, frame.time_base = start, Fraction(1, rate)
    return start + frame.samples
