"""Decode a film's pictures in presentation order, with their times and marks of damage."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from palette_vc_jax.video.damage import WAY_OUT, is_intact_ffv1, with_gaps
from palette_vc_jax.video.film import Film
from palette_vc_jax.video.timeline import read_packets, shifted

REORDERED = 32  # pictures; decoders put no more of them into order
MAX_MISSING = 10_000  # pictures that are filled into one hole


class Picture(NamedTuple):
    """A picture of a film."""

    frame: VideoFrame | None  # None if it is lost
    pts: int | None  # presentation time in units of the film's time base
    damaged: bool = True


def decode(film: Film, container: InputContainer, stream: VideoStream) -> Iterator[Picture]:
    """Yield a film's pictures in presentation order; those that cannot be decoded come as lost.

    The pictures of an excerpt come from its entry on, see `Excerpt`.

    In MPEG-TS, damage is never an error, because a recorded broadcast may begin mid-picture.

    Args:
        film: the film; if its `damaged` is `stop`, damage is an error.
        container: its open container.
        stream: its video stream.

    Raises:
        ValueError: if the film is damaged.
    """
    strict = film.damaged == "stop" and container.format.name != "mpegts"
    entry = film.excerpt.entry if film.excerpt else None
    if entry:
        container.seek(entry[0], stream=stream)
    begun = not entry
    for picture in _decode(film, container, stream):
        # Pictures before the key frame depend on some that were not read.
        begun = begun or (picture.frame is not None and picture.frame.key_frame)
        if not begun:
            continue
        if picture.damaged and strict:
            raise refusal(film, picture.pts)
        yield picture


def _decode(film: Film, container: InputContainer, stream: VideoStream) -> Iterator[Picture]:
    """Yield the pictures of `decode`, damaged or not."""
    broadcast, begun = container.format.name == "mpegts", False
    times: _Stamps | _Slots = _Slots() if container.format.name == "avi" else _Stamps(film)
    suspects: set[int | None] = set()  # times of packets with damage that the decoder overlooks
    checked, broken = stream.codec_context.name == "ffv1", False
    for packet, gap in _packets(film, container, stream):
        if packet is not None:
            times.expect(packet, gap)
            if (packet.is_corrupt and not broadcast) or (
                checked and not is_intact_ffv1(bytes(packet))
            ):
                suspects.add(packet.pts)
        try:
            frames = stream.codec_context.decode(packet)
        except FFmpegError:
            # A broadcast may begin with pictures that depend on some before it.
            if packet is not None and (begun or not broadcast):
                times.lose(packet)
            continue
        begun = begun or bool(frames)
        for frame in frames:
            damaged = frame.is_corrupt or frame.pts in suspects
            # An FFV1 picture depends on all others since the last key frame.
            broken = damaged or broken and not frame.key_frame
            yield from times.take(frame, damaged or checked and broken)
    yield from times.rest()


def _packets(
    film: Film, container: InputContainer, stream: VideoStream
) -> Iterator[tuple[Packet | None, bool]]:
    """Yield a stream's packets and whether bytes before each are lost, then None for the end."""
    tolerant, gap = film.damaged != "stop", False
    if container.format.name.startswith("matroska"):
        packets = read_packets(container, container.streams.get(), tolerant)
        watched = with_gaps(film.path, shifted(container, packets, film.shifts))
    else:
        packets = read_packets(container, [stream], tolerant)
        watched = ((packet, False) for packet in shifted(container, packets, film.shifts))
    for packet, lost in watched:
        gap = gap or lost
        if packet.size and packet.stream.index == stream.index:
            yield packet, gap
            gap = False
    yield None, False


def refusal(film: Film, pts: int | None) -> ValueError:
    """Return the error about a damaged picture at a time in units of the film's time base."""
    place = "" if pts is None else f" at {float(pts * film.time_base):.2f} s"
    return ValueError(f"{film.path}: the film is truncated or damaged{place}. {WAY_OUT}")


class _Stamps:
    """Assign to each picture the time of its packet."""

    def __init__(self, film: Film) -> None:
        self._lost: list[int] = []  # a heap of times
        self._step = 1 / film.rate / film.time_base  # from picture to picture, in units of time
        self._hole = 0  # pictures among which one may be missing, because bytes before are lost
        self._last: int | None = None

    def expect(self, packet: Packet, gap: bool) -> None:
        if gap:
            self._hole = REORDERED

    def lose(self, packet: Packet) -> None:
        if packet.pts is not None:
            heapq.heappush(self._lost, packet.pts)

    def take(self, frame: VideoFrame, damaged: bool) -> Iterator[Picture]:
        if frame.pts is not None:
            self._fill(frame.pts)
            while self._lost and self._lost[0] < frame.pts:
                yield Picture(None, heapq.heappop(self._lost))
            self._last = frame.pts
        yield Picture(frame, frame.pts, damaged)

    def rest(self) -> Iterator[Picture]:
        while self._lost:
            yield Picture(None, heapq.heappop(self._lost))

    def _fill(self, time: int) -> None:
        """Add the pictures that are missing before a time, if lost bytes tell that some are."""
        self._hole = max(0, self._hole - 1)
        if not self._hole or self._last is None or self._lost:
            return
        missing = round((time - self._last) / self._step) - 1
        for number in range(1, min(missing, MAX_MISSING) + 1):
            heapq.heappush(self._lost, self._last + round(number * self._step))
        if missing > 0:
            self._hole = 0


class _Slots:
    """Assign the n-th time of the packets to the n-th picture.

    AVI has a time for each packet, but not the order in which pictures are shown. FFmpeg guesses
    it, and is late by as many frames as the decoder waits for.
    """

    def __init__(self) -> None:
        self._slots: list[int] = []  # a heap of times
        self._lost: set[int] = set()

    def expect(self, packet: Packet, gap: bool) -> None:
        slot = _slot(packet)
        if slot is not None:
            heapq.heappush(self._slots, slot)

    def lose(self, packet: Packet) -> None:
        self._lost.add(_slot(packet))

    def take(self, frame: VideoFrame, damaged: bool) -> Iterator[Picture]:
        while self._slots and self._slots[0] in self._lost:
            yield Picture(None, heapq.heappop(self._slots))
        yield Picture(frame, heapq.heappop(self._slots) if self._slots else None, damaged)

    def rest(self) -> Iterator[Picture]:
        for slot in sorted(self._lost.intersection(self._slots)):
            yield Picture(None, slot)


def _slot(packet: Packet) -> int | None:
    return packet.pts if packet.dts is None else packet.dts
