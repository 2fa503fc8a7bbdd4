"""Correct the times of a film's packets, so that a film begins at 0 and its times only grow.

Four things are corrected, by adding a shift to the times of a stream's packets from some packet on:

- A recorded broadcast begins at any time. Its first picture or sound is moved to 0.
- MPEG's clock returns to 0 after 2^33 ticks, 26.5 hours.
- Recordings that were joined byte by byte, such as the VOBs of a DVD, begin anew at each seam. The
  part after a seam is moved to the end of the part before it.
- A damaged time far from its neighbors is moved between them.

All streams of a part get the same shift, so that sound stays in step with the pictures. FFmpeg's
own program has similar rules (`ts_discontinuity_process` in `ffmpeg_demux.c`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Stream

WRAP = {"mpeg": 2**33, "mpegts": 2**33}  # ticks after which a format's clock returns to 0
FORWARD = Fraction(10)  # seconds; a longer step forward is a seam
BACK = Fraction(1, 10)  # seconds; a longer step back is a seam
ERROR = Fraction(2)  # seconds; a shorter run between two that fit together is a damaged time

RETRIES = 100  # errors of a container after which the rest of a film is given up

# Stream index -> (number of a packet of the stream, ticks added to its times from there on).
Shifts = Mapping[int, tuple[tuple[int, int], ...]]


def read_packets(
    container: InputContainer, streams: Sequence[Stream], tolerant: bool = False
) -> Iterator[Packet]:
    """Yield the packets of some streams.

    Args:
        container: an open container.
        streams: streams of the container.
        tolerant: read on after errors, `RETRIES` times.

    Raises:
        FFmpegError: if the container is damaged.
    """
    for _ in range(RETRIES):
        try:
            yield from container.demux(streams)
            return
        except FFmpegError:
            if not tolerant:
                raise


def has_free_times(container: InputContainer) -> bool:
    """Return whether times may jump in a container's format, as in MPEG-TS, MPEG-PS and Ogg."""
    return bool(container.format.flags & Flags.ts_discont.value)


def find_shifts(
    container: InputContainer, streams: Sequence[Stream], tolerant: bool = False
) -> Shifts:
    """Return the shifts of a film's streams; read all packets if the format can have seams.

    Args:
        container: the film's container, open at its beginning.
        streams: the video and audio streams whose packets will be read.
        tolerant: see `read_packets`.
    """
    units = {stream.index: Fraction(stream.time_base) for stream in streams}
    if has_free_times(container):
        wrap = WRAP.get(container.format.name)
        tracks = {index: _Track(index, unit, wrap) for index, unit in units.items()}
        packets = read_packets(container, streams, tolerant)
        for order, packet in enumerate(packet for packet in packets if packet.size):
            tracks[packet.stream.index].add(packet, order)
        return _shifts_of(_parts([run for track in tracks.values() for run in _mended(track)]))
    starts = [s.start_time * units[s.index] for s in streams if s.start_time is not None]
    start = min(starts, default=Fraction(0))
    if start <= 0:
        return {}
    return {index: ((0, -round(start / unit)),) for index, unit in units.items()}


def shifted(
    container: InputContainer, packets: Iterable[Packet], shifts: Shifts
) -> Iterator[Packet]:
    """Yield packets with corrected times.

    Args:
        container: the container of the packets.
        packets: all packets of some streams, from the first one on.
        shifts: from `find_shifts`.
    """
    free = has_free_times(container)
    counts: dict[int, int] = {}
    last: dict[int, int] = {}  # stream -> dts of its last packet, as stored
    for packet in packets:
        index = packet.stream.index
        number = counts.get(index, 0)
        counts[index] = number + bool(packet.size)
        if free and packet.size:
            last[index] = _agree(packet, last.get(index))
        shift = _shift_at(shifts.get(index, ()), number)
        if shift and packet.pts is not None:
            packet.pts += shift
        if shift and packet.dts is not None:
            packet.dts += shift
        yield packet


def _agree(packet: Packet, last: int | None) -> int | None:
    """Correct a packet's pts or dts if they differ widely; return its dts.

    Args:
        packet: a packet; a wrong pts of a picture is removed, because the dts does not tell it.
        last: dts of the packet before; the time that is nearer to it is right.
    """
    if packet.pts is None or packet.dts is None:
        return last if packet.dts is None else packet.dts
    if abs(packet.pts - packet.dts) * packet.time_base > FORWARD:
        if abs(packet.pts - (last or 0)) < abs(packet.dts - (last or 0)):
            packet.dts = packet.pts
        else:
            packet.pts = packet.dts if packet.stream.type == "audio" else None
    return packet.dts


def _shift_at(shifts: tuple[tuple[int, int], ...], number: int) -> int:
    return next((ticks for first, ticks in reversed(shifts) if first <= number), 0)


def start_shift(shifts: Shifts, stream: Stream) -> int:
    """Return the ticks that are added to the times of a stream's first packets."""
    return shifts[stream.index][0][1] if shifts.get(stream.index) else 0


@dataclass
class _Run:
    """Packets of one stream whose times follow one another; times are in seconds."""

    stream: int
    unit: Fraction  # seconds per tick
    order: int  # number of the first packet among those of all streams
    start: Fraction
    end: Fraction
    shifts: list[tuple[int, int]]  # see `Shifts`; those that undo wraps of the clock


@dataclass
class _Track:
    """The runs of one stream, and what its next packet is compared with."""

    stream: int
    unit: Fraction
    wrap: int | None
    runs: list[_Run] = field(default_factory=list)
    count: int = 0  # packets
    stored: int | None = None  # dts of the last packet as it is stored
    expected: int = 0  # time of the next packet in ticks
    step: int = 0  # ticks between the last two packets
    delay: int | None = None  # the shortest time from dts to pts, if any differ, in ticks
    undo: int = 0  # ticks added for wraps of the clock

    def add(self, packet: Packet, order: int) -> None:
        """Add the next packet of the stream."""
        number, self.count = self.count, self.count + 1
        self.stored = _agree(packet, self.stored)
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None:
            return
        if self.wrap and self.runs:
            turns = (time + self.undo - self.expected + self.wrap // 2) // self.wrap
            self.undo -= turns * self.wrap
        time += self.undo
        if packet.pts is None:  # a picture is shown a little after it is decoded
            shown = time + (self.delay or 0)
        else:
            shown = packet.pts + self.undo
            if shown > time:
                self.delay = min(self.delay or shown - time, shown - time)
        away = (time - self.expected) * self.unit
        if not self.runs or not -BACK <= away <= FORWARD:
            start, shift = shown * self.unit, (number, self.undo)
            self.runs.append(_Run(self.stream, self.unit, order, start, start, [shift]))
        elif not packet.duration:
            self.step = max(1, time - self.expected + self.step)
        run = self.runs[-1]
        if run.shifts[-1][1] != self.undo:
            run.shifts.append((number, self.undo))
        self.step = packet.duration or self.step
        self.expected = time + self.step
        run.start = min(run.start, shown * self.unit)
        run.end = max(run.end, (shown + self.step) * self.unit)


def _mended(track: _Track) -> list[_Run]:
    """Return a stream's runs; a short run between two that fit together is moved between them."""
    runs: list[_Run] = []
    waiting = track.runs[::-1]
    while waiting:
        run = waiting.pop()
        after = waiting[-1] if waiting else None
        length = run.end - run.start
        if runs and after and length <= ERROR:
            before = runs[-1]
            if abs(after.start - before.end - length) <= ERROR:
                ticks = round((before.end - run.start) / run.unit)
                before.shifts += [(number, undo + ticks) for number, undo in run.shifts]
                before.shifts += waiting.pop().shifts
                before.end = max(before.end, after.end)
                continue
        runs.append(run)
    return runs


def _parts(runs: list[_Run]) -> list[dict[int, _Run]]:
    """Group the runs of all streams into the parts of the film, by their order and their times.

    The stream with the most runs divides the film, and each run of the others joins the part that
    begins near it, or is a part of its own. A stream's first run may begin late in its part.
    """
    counts = Counter(run.stream for run in runs)
    main = max(counts, key=lambda index: counts[index], default=None)
    parts = [{run.stream: run} for run in runs if run.stream == main]
    seen: set[int] = set()
    for run in sorted(runs, key=lambda run: run.order):
        if run.stream == main:
            continue
        free = [part for part in parts if run.stream not in part]
        near = [
            part for part in free if abs(next(iter(part.values())).start - run.start) <= FORWARD
        ]
        if not near and run.stream not in seen:
            near = [part for part in free if _order(part) <= run.order][-1:]
        seen.add(run.stream)
        if near:
            min(near, key=lambda part: abs(_order(part) - run.order))[run.stream] = run
        else:
            parts = sorted([*parts, {run.stream: run}], key=_order)
    return parts


def _order(part: dict[int, _Run]) -> int:
    return next(iter(part.values())).order


def _shifts_of(parts: list[dict[int, _Run]]) -> Shifts:
    """Place each part after those before it, as early as possible without overlap in a stream."""
    shifts: dict[int, list[tuple[int, int]]] = {}
    ends: dict[int, Fraction] = {}  # in corrected seconds
    for part in parts:
        overlaps = [ends[index] - run.start for index, run in part.items() if index in ends]
        move = max(overlaps, default=-min(run.start for run in part.values()))
        for index, run in part.items():
            ticks = round(move / run.unit)
            found = [(number, undo + ticks) for number, undo in run.shifts]
            shifts.setdefault(index, []).extend(found)
            ends[index] = run.end + move
    return {index: tuple(found) for index, found in shifts.items()}
