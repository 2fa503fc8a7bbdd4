"""Copy the audio, subtitles and attachments of a film, with their languages and names."""

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
from av.stream import Stream

from palette_vc_jax.video.audio import add_encoder, encode, layout_of
from palette_vc_jax.video.encoding import MUXERS
from palette_vc_jax.video.film import Film, audio_tracks, open_video
from palette_vc_jax.video.position import later_timecode
from palette_vc_jax.video.timeline import has_free_times, read_packets, shifted, start_shift

TRIED_PACKETS = 4096  # packets of a film that `check_tracks` reads at most
SILENT = {".y4m"}  # containers of pictures alone
UNTYPED = "application/octet-stream"
DROPPED_TAGS = {"DURATION", "major_brand", "minor_version", "compatible_brands", "encoder"}


def check_tracks(output: Path, film: Film, audio: str = "copy") -> None:
    """Check that a container can hold a film's audio, by writing a header, packets and a trailer.

    Warn about tracks that are left out, because FFmpeg cannot identify them or the container
    cannot hold them.

    Args:
        output: path of the film to write; its extension selects the container.
        film: the source.
        audio: one of `audio.MODES`.

    Raises:
        ValueError: if the container cannot hold the audio.
    """
    if film.kind != "video":
        return
    suffix = output.suffix.lower()
    with open_video(film.path) as (source, _):
        for line in _left_out(film, source, suffix, audio):
            warnings.warn(f"{film.path}: {line}", stacklevel=3)
        if not film.audio or audio == "none" or suffix in SILENT:
            return
        container = av.open(io.BytesIO(), "w", format=MUXERS[suffix])
        try:
            _write_some(film, source, container, audio)
        except (ValueError, FFmpegError) as error:
            codecs, way_out = "/".join(film.audio), "give --audio aac or flac, or an output in .mkv"
            if audio != "copy":
                codecs, way_out = audio, "give another --audio, or an output that ends in .mkv"
            elif suffix == ".mkv":
                way_out = "give --audio aac or flac"
            raise ValueError(
                f"{output}: {suffix} cannot hold {codecs} audio; {way_out}."
            ) from error
        finally:
            with contextlib.suppress(ValueError, FFmpegError):
                container.close()


def _write_some(film: Film, source: InputContainer, container: OutputContainer, audio: str) -> None:
    """Write a header, a packet of each track that is copied, and a trailer."""
    copies = add_audio(film, source, container, audio)
    waiting = set(copies) if audio == "copy" else set()
    for packet in islice(source.demux(), TRIED_PACKETS if waiting else 0):
        if packet.size and packet.stream.index in waiting:
            waiting.discard(packet.stream.index)
            packet.stream = copies[packet.stream.index]
            container.mux(packet)
        if not waiting:
            break
    container.start_encoding()
    container.close()


def _left_out(film: Film, source: InputContainer, suffix: str, audio: str) -> Iterator[str]:
    """Yield a line about each kind of track that the output will not have."""
    if suffix in SILENT:
        if film.audio and audio != "none":
            yield f"{suffix} holds no audio, which is left out."
        return
    for number in () if audio == "none" else film.unknown_audio:
        yield (
            f"audio track {number} is left out, because FFmpeg does not know its codec; the other "
            "tracks are copied."
        )
    subtitles = list(source.streams.subtitles)
    lost = [stream for stream in subtitles if not _can_copy(source, stream, suffix)]
    names = [f"subtitles {_name(s)}" for s in lost]
    if suffix != ".mkv":
        names += [f"attachment {s.name}" for s in source.streams.attachments]
    if names:
        yield f"{suffix} cannot hold these tracks, which are left out: {', '.join(names)}."


def _name(stream: Stream) -> str:
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
    return f"{stream.index} ({stream.language or 'no language'}, {codec})"


def _can_copy(source: InputContainer, stream: Stream, suffix: str) -> bool:
    """Return whether a container can hold a subtitle track of a source, by writing a header."""
    if has_free_times(source) or stream.codec_context is None:
        return False
    try:
        container = av.open(io.BytesIO(), "w", format=MUXERS[suffix])
        container.add_stream_from_template(stream)
        container.start_encoding()
        container.close()
    except (ValueError, FFmpegError):
        return False
    return True


def add_tracks(
    film: Film, source: InputContainer, container: OutputContainer, suffix: str, audio: str
) -> dict[int, Stream]:
    """Add a source's audio, subtitles and attachments to a container, with their names.

    Returns:
        the streams of audio and subtitles by the source's index.
    """
    if suffix in SILENT:
        return {}
    added: dict[int, Stream] = dict(add_audio(film, source, container, audio))
    for stream in source.streams.subtitles:
        if _can_copy(source, stream, suffix):
            added[stream.index] = container.add_stream_from_template(stream)
            _keep_facts(film, stream, added[stream.index])
    if suffix == ".mkv":
        for file in source.streams.attachments:
            container.add_attachment(file.name, file.mimetype or UNTYPED, file.data)
    return added


def add_audio(
    film: Film, source: InputContainer, container: OutputContainer, audio: str
) -> dict[int, AudioStream]:
    """Add a source's audio tracks to a container, to copy or to encode them."""
    added: dict[int, AudioStream] = {}
    for track in audio_tracks(source) if audio != "none" else ():
        if audio == "copy":
            added[track.index] = container.add_stream_from_template(track)
            if layout_of(track) != track.codec_context.layout.name:
                added[track.index].codec_context.layout = layout_of(track)
        else:
            added[track.index] = add_encoder(container, track, audio)
        _keep_facts(film, track, added[track.index])
    return added


def _keep_facts(film: Film, source: Stream, copy: Stream) -> None:
    """Copy language, title and disposition (default, forced, comment, ...) of a track."""
    copy.metadata.update(kept_tags(source.metadata, film))
    copy.disposition = int(source.disposition)


def read_tracks(
    film: Film, source: InputContainer, video: Stream, added: dict[int, Stream], audio: str
) -> Iterator[Packet]:
    """Yield packets for the streams of `add_tracks`, copied or encoded, with corrected times.

    Raises:
        ValueError: if the audio is damaged and the film's `damaged` is `stop`.
    """
    heard = [track.index for track in audio_tracks(source) if track.index in added]
    encoders = {} if audio == "copy" else {index: added[index] for index in heard}
    tolerant = film.damaged != "stop"
    try:
        packets = _corrected(film, source, video, added)
        for packet in encode(packets, encoders, tolerant) if encoders else packets:
            if packet.stream.container is source:
                packet.stream = added[packet.stream.index]
            yield packet
    except FFmpegError as error:
        raise ValueError(
            f"{source.name}: the audio is damaged ({error.strerror}); give a complete copy, a film "
            "without audio, or --damaged repeat."
        ) from error


def _corrected(
    film: Film, source: InputContainer, video: Stream, added: dict[int, Stream]
) -> Iterator[Packet]:
    """Yield a source's packets of audio and subtitles with the times of the output.

    Times grow, as containers need: a packet that is not after the one before is moved to its end.
    Of an excerpt, the packets that begin in it are copied.
    """
    tracks = [source.streams[index] for index in added]
    if not tracks:
        return
    shifts = dict(film.shifts)
    delay = start_shift(film.shifts, video) * video.time_base
    for track in tracks:
        if track.type == "subtitle":
            shifts[track.index] = ((0, round(delay / track.time_base)),)
    shown: dict[int, int] = {}  # track -> pts of its last packet
    last: dict[int, tuple[int, int]] = {}  # track -> dts and end of its last packet
    heard = {track.index for track in tracks if track.type == "audio"}  # not at their end yet
    packets = read_packets(source, tracks, film.damaged != "stop")
    for packet in shifted(source, packets, shifts):
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
        where = _place(film, packet)
        if where > 0 and index in heard:
            heard.discard(index)
            if not heard:
                return
        if where == 0:
            yield packet


def _place(film: Film, packet: Packet) -> int:
    """Move a packet's time to that of an excerpt; return -1 if it is before it, 1 if after."""
    if film.excerpt is None or packet.pts is None:
        return 0
    begin, end = film.span
    seconds = packet.pts * packet.time_base
    if end is not None and seconds >= end:
        return 1
    ticks = round(begin / packet.time_base)
    packet.pts, packet.dts = packet.pts - ticks, (packet.dts or packet.pts) - ticks
    return -1 if seconds < begin else 0


def kept_tags(metadata: dict[str, str], film: Film) -> dict[str, str]:
    """Return metadata without tags that describe the source's file only.

    The timecode of an excerpt is that of its first frame.
    """
    kept = {key: value for key, value in metadata.items() if key not in DROPPED_TAGS}
    if film.excerpt and "timecode" in kept:
        later = later_timecode(kept.pop("timecode"), film.excerpt.start, film.rate)
        kept |= {"timecode": later} if later else {}
    return {k: v for k, v in kept.items() if not k.startswith(("_STATISTICS", "BPS", "NUMBER_OF"))}
