"""Copy the audio of a film packet by packet, without decoding it."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from palette_vc_jax.video.encoding import MUXERS
from palette_vc_jax.video.film import Film, audio_tracks, open_video
from palette_vc_jax.video.position import later_timecode
from palette_vc_jax.video.timeline import read_packets, shifted

# The usual layout of a number of channels, for tracks that only count them: AVI, Matroska and MXF
# do, and MP4 cannot store PCM without a named layout.
LAYOUTS = {
    1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1",
}  # fmt: skip
TRIED_PACKETS = 4096  # packets of a film that `check_audio` reads at most
DROPPED_TAGS = {"DURATION", "major_brand", "minor_version", "compatible_brands", "encoder"}


def check_audio(output: Path, film: Film) -> None:
    """Check that a container can hold a film's audio, by writing a header, packets and a trailer.

    Warn about tracks that cannot be copied to any container, because FFmpeg cannot identify them.

    Args:
        output: path of the film to write; its extension selects the container.
        film: the source.

    Raises:
        ValueError: if the container cannot hold the audio.
    """
    for number in film.unknown_audio:
        warnings.warn(
            f"{film.path}: audio track {number} is left out, because FFmpeg does not know its "
            "codec; the other tracks are copied.",
            stacklevel=3,
        )
    if not film.audio:
        return
    suffix = output.suffix.lower()
    with open_video(film.path) as (source, _):
        container = av.open(io.BytesIO(), "w", format=MUXERS[suffix])
        try:
            copies = add_tracks(film, source, container)
            waiting = set(copies)
            for packet in islice(source.demux(), TRIED_PACKETS):
                if packet.size and packet.stream.index in waiting:
                    waiting.discard(packet.stream.index)
                    packet.stream = copies[packet.stream.index]
                    container.mux(packet)
                if not waiting:
                    break
            container.start_encoding()
            container.close()
        except (ValueError, FFmpegError) as error:
            way_out = "give an output that ends in .mkv"
            if suffix == ".mkv":
                way_out = "convert the audio to FLAC or AAC first"
            raise ValueError(
                f"{output}: {suffix} cannot hold the source's {'/'.join(film.audio)} audio, which "
                f"is copied without encoding; {way_out}."
            ) from error
        finally:
            with contextlib.suppress(ValueError, FFmpegError):
                container.close()


def add_tracks(
    film: Film, source: InputContainer, container: OutputContainer
) -> dict[int, AudioStream]:
    """Add copies of a source's audio tracks to a container; return them by the source's index."""
    copies: dict[int, AudioStream] = {}
    for track in audio_tracks(source):
        copy = container.add_stream_from_template(track)
        copy.metadata.update(kept_tags(track.metadata, film))
        layout = track.codec_context.layout
        if layout.name.endswith("channels") and layout.nb_channels in LAYOUTS:
            copy.codec_context.layout = LAYOUTS[layout.nb_channels]
        copies[track.index] = copy
    return copies


def copy_packets(
    film: Film, source: InputContainer, copies: dict[int, AudioStream]
) -> Iterator[Packet]:
    """Yield a source's audio packets for the tracks of `add_tracks`, with corrected times.

    Times grow, as containers need: a packet that is not after the one before is moved to its end.
    Of an excerpt, the packets that begin in it are copied.

    Raises:
        ValueError: if the audio is damaged and the film's `damaged` is `stop`.
    """
    tracks = audio_tracks(source)
    if not tracks:
        return
    shown: dict[int, int] = {}  # track -> pts of its last packet
    last: dict[int, tuple[int, int]] = {}  # track -> dts and end of its last packet
    ended: set[int] = set()  # tracks that are past the end of the excerpt
    try:
        packets = read_packets(source, tracks, film.damaged != "stop")
        for packet in shifted(source, packets, film.shifts):
            if not packet.size:  # an empty packet ends a stream and only flushes decoders
                continue
            index = packet.stream.index
            # Matroska has no durations, and MP4 hides a last packet without duration.
            if not packet.duration and packet.pts is not None:
                packet.duration = max(0, packet.pts - shown.get(index, packet.pts))
            if packet.dts is not None:
                before, end = last.get(index, (packet.dts - 1, 0))
                if packet.dts <= before:
                    packet.pts = packet.dts = end
                last[index] = packet.dts, packet.dts + max(1, packet.duration or 0)
            if packet.pts is not None:
                shown[index] = packet.pts
            if packet.pts is not None and film.excerpt:
                seconds = packet.pts * packet.time_base
                begin, end = film.span
                if end is not None and seconds >= end:
                    ended.add(index)
                    if len(ended) == len(tracks):
                        return
                if seconds < begin or index in ended:
                    continue
                ticks = round(begin / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, (packet.dts or packet.pts) - ticks
            packet.stream = copies[index]
            yield packet
    except FFmpegError as error:
        raise ValueError(
            f"{source.name}: the audio is damaged ({error.strerror}); give a complete copy, a film "
            "without audio, or --damaged repeat."
        ) from error


def kept_tags(metadata: dict[str, str], film: Film) -> dict[str, str]:
    """Return metadata without tags that describe the source's file only.

    The timecode of an excerpt is that of its first frame.
    """
    kept = {key: value for key, value in metadata.items() if key not in DROPPED_TAGS}
    if film.excerpt and "timecode" in kept:
        later = later_timecode(kept.pop("timecode"), film.excerpt.start, film.rate)
        kept |= {"timecode": later} if later else {}
    return {k: v for k, v in kept.items() if not k.startswith(("_STATISTICS", "BPS", "NUMBER_OF"))}
