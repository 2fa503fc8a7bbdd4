"""Write a sample aspect ratio into a Matroska file, which PyAV's muxer leaves out.

Matroska keeps the display size in the track's `Video` element. The writer reserves room for it by
padding the track's name; `write_aspect` then replaces the padding with the display size, so that
no byte outside the track's entry moves. Element IDs are those of RFC 9559, section 5.1.
"""

from fractions import Fraction
from pathlib import Path

PADDING = " " * 31 + "\x7f"  # appended to the name of the track
HEAD_BYTES = 2**20  # bytes that hold the tracks, which precede the frames

SEGMENT, TRACKS, TRACK_ENTRY = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
NAME, VIDEO, VOID = b"\x53\x6e", b"\xe0", b"\xec"
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
DISPLAY = {DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT}
ASPECT_RATIO = 3  # the unit in which width and height are only a ratio


def write_aspect(path: Path, aspect: Fraction, width: int, height: int) -> None:
    """Replace the padding of the first padded track's name with a display size, in place.

    Args:
        path: a Matroska file without checksums, with a track whose name ends in `PADDING`.
        aspect: width over height of a pixel.
        width: stored width in pixels.
        height: stored height in pixels.

    Raises:
        ValueError: if there is no such track.
    """
    with open(path, "r+b") as file:
        data = file.read(HEAD_BYTES)
        start, stop = _descend(data, (SEGMENT, TRACKS))
        for element_id, begin, end in _elements(data, start, stop):
            entry = data[begin:end]
            if element_id == TRACK_ENTRY and PADDING.encode() in entry:
                file.seek(begin)
                file.write(_rewritten(entry, _display(aspect, width, height)))
                return
    raise ValueError(f"{path}: no track was prepared for an aspect ratio; write the file again.")


def _display(aspect: Fraction, width: int, height: int) -> bytes:
    """Encode a display size: in pixels if that is exact, else as a ratio."""
    shown = width * aspect
    if shown.denominator == 1:
        sizes, unit = (int(shown), height), b""
    else:
        ratio = shown / height
        sizes = (ratio.numerator, ratio.denominator)
        unit = _element(DISPLAY_UNIT, bytes([ASPECT_RATIO]))
    values = [size.to_bytes(4, "big").lstrip(b"\0") for size in sizes]
    return _element(DISPLAY_WIDTH, values[0]) + _element(DISPLAY_HEIGHT, values[1]) + unit


def _rewritten(entry: bytes, display: bytes) -> bytes:
    """Return a track's entry with `display` in place of the padding, at the same length."""
    parts = b""
    for element_id, begin, end in _elements(entry, 0, len(entry)):
        body = entry[begin:end]
        if element_id == VIDEO:  # the muxer wrote that the display size is unknown
            kept = [e for e in _elements(body, 0, len(body)) if e[0] not in DISPLAY]
            body = b"".join(_element(n, body[a:b]) for n, a, b in kept) + display
        elif element_id == NAME:
            body = body.removesuffix(PADDING.encode())
            if not body:
                continue
        parts += _element(element_id, body)
    left = len(entry) - len(parts) - 2
    return parts + VOID + bytes([0x80 | left]) + bytes(left)


def _element(element_id: bytes, body: bytes) -> bytes:
    length = 1 if len(body) < 2**7 - 1 else 2 if len(body) < 2**14 - 1 else 4
    size = len(body) | 1 << (7 * length)
    return element_id + size.to_bytes(length, "big") + body


def _descend(data: bytes, path: tuple[bytes, ...]) -> tuple[int, int]:
    """Return the (start, stop) of the body of the element at `path`, a path of IDs."""
    start, stop = 0, len(data)
    for element_id in path:
        found = [(a, b) for id_, a, b in _elements(data, start, stop) if id_ == element_id]
        if not found:
            raise ValueError("not a Matroska file with its tracks before its frames.")
        start, stop = found[0]
    return start, stop


def _elements(data: bytes, start: int, stop: int) -> list[tuple[bytes, int, int]]:
    """Return the elements in a range as (ID, begin of body, end of body)."""
    found = []
    while start < stop:
        head = start + _length(data[start])
        size_end = head + _length(data[head])
        mask = (1 << (7 * (size_end - head))) - 1
        size = int.from_bytes(data[head:size_end], "big") & mask
        end = len(data) if size == mask else size_end + size  # all ones mean an unknown size
        found.append((data[start:head], size_end, min(end, len(data))))
        if end >= len(data):
            break
        start = end
    return found


def _length(first: int) -> int:
    """Return the byte length of a variable-length integer from its first byte."""
    return 9 - first.bit_length()
