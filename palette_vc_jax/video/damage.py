"""Find damaged pictures of a film, and say what became of them."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from av.packet import Packet

# What is done with a damaged picture: refuse the film, show the picture before it again, or
# leave it out.
MODES = ("stop", "repeat", "drop")
WAY_OUT = "Use a complete copy, or give --damaged repeat or drop."

# The trailer of a slice, RFC 9043 section 4.9: its size, and in version 3 with `ec` a checksum.
SIZE_BYTES, CHECKED_TRAILER, TRAILER = 3, 8, 3
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


# Elements of Matroska that may lie between blocks, RFC 9559: Void, Cues, Tags, SeekHead,
# Attachments, Chapters, Info, Tracks.
BETWEEN = tuple(
    bytes.fromhex(element)
    for element in "ec 1c53bb6b 1254c367 114d9b74 1941a469 1043a770 1549a966 1654ae6b".split()
)
GAP = 1024  # bytes; more between two blocks are damage, unless they begin with one of `BETWEEN`


class Damage(NamedTuple):
    """A damaged picture of a film, or the missing end of it."""

    frame: int  # number of the frame in the source, from 0, with those that are lost counted
    seconds: float  # time of the frame
    what: str  # repeated | dropped | kept (as the decoder repaired it) | missing (the film's end)
    note: str = ""


def check_mode(mode: str) -> str:
    """Return a mode of `MODES`; raise ValueError for another word."""
    if mode not in MODES:
        raise ValueError(f"damaged={mode!r} is not known; use one of {', '.join(MODES)}.")
    return mode


def summary(path: Path, damage: Sequence[Damage]) -> str:
    """Return one line about a film's damage, empty if there is none."""
    if not damage:
        return ""
    parts = []
    for what in ("repeated", "dropped", "kept"):
        found = [item for item in damage if item.what == what]
        if found:
            parts.append(f"{len(found)} {what} (the first at {found[0].seconds:.2f} s)")
    text = f"damaged frames: {', '.join(parts)}" if parts else ""
    ends = [item.note for item in damage if item.what == "missing"]
    return f"{path}: {'; '.join(filter(None, [text, *ends]))}."


def as_json(damage: Sequence[Damage]) -> list[dict[str, Any]]:
    """Return the damage as plain JSON values."""
    return [{key: value for key, value in item._asdict().items() if value != ""} for item in damage]


def is_intact_ffv1(packet: bytes) -> bool:
    """Return whether the checksums of an FFV1 frame's slices agree; FFmpeg only logs them.

    True for frames without checksums (versions 0 and 1, or `ec` 0).
    """
    found = _slices(packet, CHECKED_TRAILER)
    if found is None:
        return True
    # The CRC of RFC 9043 begins at 0 and takes the highest bit first; zlib's takes the lowest.
    return all(
        zlib.crc32(packet[start:stop].translate(REVERSED), 0xFFFFFFFF) == 0xFFFFFFFF
        for start, stop in found
    )


def with_gaps(path: Path, packets: Iterable[Packet]) -> Iterator[tuple[Packet, bool]]:
    """Yield a Matroska file's packets, and whether bytes before each could not be read.

    FFmpeg skips a damaged block or cluster without an error.

    Args:
        path: the file.
        packets: the packets of all its streams.
    """
    place, end = -1, 0  # of the last block, whose packets have the same place if there are several
    with path.open("rb") as file:
        for packet in packets:
            gap = False
            if packet.size and packet.pos is not None:
                if packet.pos != place:
                    gap = 0 < end < packet.pos - GAP
                    if gap:
                        file.seek(end)
                        gap = not file.read(4).startswith(BETWEEN)
                    place, end = packet.pos, packet.pos
                end += packet.size
            yield packet, gap


def _slices(packet: bytes, trailer: int) -> list[tuple[int, int]] | None:
    """Return the (start, stop) of a frame's slices, or None if their sizes do not add up to it."""
    stop, found = len(packet), []
    while stop:
        place = stop - trailer
        start = place - int.from_bytes(packet[place : place + SIZE_BYTES], "big")
        if place < 0 or start < 0:
            return None
        found.append((start, stop))
        stop = start
    return found
