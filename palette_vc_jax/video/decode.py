"""Decode a film's pictures in presentation order, with their times and marks of damage."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from palette_vc_jax.video.damage import WAY_OUT, is_intact_ffv1
from palette_vc_jax.video.film import Film
from palette_vc_jax.video.timeline import read_packets, shifted


class Picture(NamedTuple):
    """A picture of a film."""

    frame: VideoFrame | None  # None if it is lost
    pts: int | None  # presentation time in units of the film's time base
    damaged: bool = True


def decode(film: Film, container: InputContainer, stream: VideoStream) -> Iterator[Picture]:
    """Yield a film's pictures in presentation order; those that cannot be decoded come as lost.

    In MPEG-TS, damage is never an error, because a recorded broadcast may begin mid-picture.

    Args:
        film: the film; if its `damaged` is `stop`, damage is an error.
        container: its open container.
        stream: its video stream.

    Raises:
        ValueError: if the film is damaged.
    """
    broadcast = container.format.name == "mpegts"
    stop, strict = film.damaged == "stop", film.damaged == "stop" and not broadcast
    if not stop:
        stream.thread_type = "SLICE"  # with threads by frame, a later packet reports an error
    times: _Stamps | _Slots = _Slots() if container.format.name == "avi" else _Stamps()
    suspects: set[int | None] = set()  # times of packets with damage that the decoder overlooks
    checked, broken = stream.codec_context.name == "ffv1", False
    begun = False
    packets = read_packets(container, [stream], not stop)
    for packet in _with_flush(shifted(container, packets, film.shifts)):
        if packet is not None:
            times.expect(packet)
            if (packet.is_corrupt and not broadcast) or (
                checked and not is_intact_ffv1(bytes(packet))
            ):
                suspects.add(packet.pts)
                if strict:
                    raise refusal(film, packet.pts)
        try:
            frames = stream.codec_context.decode(packet)
        except FFmpegError as error:
            if strict:
                raise refusal(film, None if packet is None else packet.pts) from error
            if packet is not None and (begun or not broadcast):
                times.lose(packet)
            continue
        begun = begun or bool(frames)
        for frame in frames:
            damaged = frame.is_corrupt or frame.pts in suspects
            # An FFV1 picture depends on all others since the last key frame.
            broken = damaged or broken and not frame.key_frame
            if damaged and strict:
                raise refusal(film, frame.pts)
            yield from times.take(frame, damaged or checked and broken)
    yield from times.rest()


def refusal(film: Film, pts: int | None) -> ValueError:
    """Return the error about a damaged picture at a time in units of the film's time base."""
    place = "" if pts is None else f" at {float(pts * film.time_base):.2f} s"
    return ValueError(f"{film.path}: the film is truncated or damaged{place}. {WAY_OUT}")


def _with_flush(packets: Iterator[Packet]) -> Iterator[Packet | None]:
    """Yield the packets that hold data, and None at the end, which empties the decoder."""
    yield from (packet for packet in packets if packet.size)
    yield None


class _Stamps:
    """Give each picture the time that its packet carries."""

    def __init__(self) -> None:
        self._lost: list[int] = []  # a heap of times

    def expect(self, packet: Packet) -> None:
        pass

    def lose(self, packet: Packet) -> None:
        if packet.pts is not None:
            heapq.heappush(self._lost, packet.pts)

    def take(self, frame: VideoFrame, damaged: bool) -> Iterator[Picture]:
        while self._lost and frame.pts is not None and self._lost[0] < frame.pts:
            yield Picture(None, heapq.heappop(self._lost))
        yield Picture(frame, frame.pts, damaged)

    def rest(self) -> Iterator[Picture]:
        while self._lost:
            yield Picture(None, heapq.heappop(self._lost))


class _Slots:
    """Give the n-th picture the n-th time of the packets.

    AVI has a time for each packet, but not the order in which pictures are shown. FFmpeg guesses
    it, and is late by as many frames as the decoder waits for.
    """

    def __init__(self) -> None:
        self._slots: list[int] = []  # a heap of times
        self._lost: set[int] = set()

    def expect(self, packet: Packet) -> None:
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
