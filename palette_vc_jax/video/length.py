"""Find out whether a film is as long as its container says.

Films in containers without a length (MPEG-TS, MPEG-PS, Y4M, GIF, NUT) are not checked.
"""

from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from palette_vc_jax.video import film as films
from palette_vc_jax.video.film import Film
from palette_vc_jax.video.timeline import has_free_times, read_packets

# Containers with the exact length of each stream; others may be off by 2 % and half a second.
EXACT = ("matroska", "mov", "avi")
# Containers whose header holds one length, the maximum over video and audio.
JOINT = ("asf", "flv", "matroska")
FLV_SLACK = Fraction(1, 10)  # seconds, because FLV's audio packets have no durations

# The File Properties Object, 'Advanced Systems Format Specification', section 3.2.
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_SIZE, ASF_FLAGS, ASF_END = 40, 88, 92  # offsets in the object
ASF_BROADCAST = 1  # flag: the sizes are not valid
ASF_HEAD = 2**16  # bytes of the file that are searched for the object


def shortfall(
    film: Film, container: InputContainer, stream: VideoStream, end: Fraction, frame: Fraction
) -> str:
    """Return what a film lacks of the length that its container says, empty if nothing.

    Times are compared rather than frame counts, because edit lists hide some frames.

    Args:
        film: the film.
        container: its open container.
        stream: its video stream.
        end: end of the last frame that was read, in seconds as the container counts them.
        frame: duration of a frame in seconds.
    """
    name = container.format.name
    if has_free_times(container):
        return ""
    if name.startswith("asf") and (lack := _missing_bytes(film.path)):
        return lack
    promised, joint = _promised_seconds(film, container, stream)
    slack = promised / 50 + Fraction(1, 2)
    if name == "flv":
        slack = promised / 500 + 2 * frame + FLV_SLACK
    elif name.startswith(EXACT) and not joint:
        slack = promised / 500 + 2 * frame
    if end < promised - slack and joint:  # the audio may be longer than the video
        end = max(end, _audio_end(film))
    if end < promised - slack:
        return f"only {float(end):.1f} of {float(promised):.1f} seconds can be read"
    return ""


def _promised_seconds(
    film: Film, container: InputContainer, stream: VideoStream
) -> tuple[Fraction, bool]:
    """Return the end of the video in seconds according to the container, 0 if unknown.

    The second value is whether that time includes the audio.
    """
    name = container.format.name
    joint = bool(film.audio) and name.startswith(JOINT)
    if name == "avi" and stream.frames:
        # FFmpeg scales the duration of a truncated AVI to its size, so count frames instead.
        return stream.frames / film.rate, False
    if stream.duration:
        seconds = (stream.duration + (stream.start_time or 0)) * Fraction(stream.time_base)
        return seconds, joint
    seconds = _parse_time(stream.metadata.get("DURATION", ""))  # Matroska's tag of each stream
    if seconds:
        return seconds, False
    if container.duration and (joint or not film.audio):
        start = 0 if name in ("flv", "nut") else container.start_time or 0  # these count from 0
        return Fraction(container.duration + start, 1_000_000), joint
    return Fraction(0), False


def _parse_time(text: str) -> Fraction:
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)


def _audio_end(film: Film) -> Fraction:
    """Return the end of a film's audio in seconds; read the file once without decoding."""
    end = Fraction(0)
    with films.open_video(film.path) as (container, _):
        tolerant = film.damaged != "stop"
        for packet in read_packets(container, container.streams.audio, tolerant):
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return end


def _missing_bytes(path: Path) -> str:
    """Return what an ASF or WMV file lacks of the size that its header says, empty if nothing.

    FFmpeg ignores the header's duration for such a file, so times do not show it.
    """
    with path.open("rb") as file:
        head = file.read(ASF_HEAD)
    found = head.find(ASF_PROPERTIES)
    if found < 0 or len(head) < found + ASF_END:
        return ""
    flags = int.from_bytes(head[found + ASF_FLAGS : found + ASF_END], "little")
    promised = int.from_bytes(head[found + ASF_SIZE : found + ASF_SIZE + 8], "little")
    length = path.stat().st_size
    if length < promised and not flags & ASF_BROADCAST:
        return f"only {length} of {promised} bytes are there"
    return ""
