"""Cut an excerpt out of a film: its frames, and the times at which it begins and ends.

An excerpt is read from a key frame shortly before it where that gives exactly the same pictures,
and from the beginning of the film elsewhere.
"""

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice

from av.packet import Packet
from av.video.frame import PictureType

from palette_vc_jax.video.damage import Damage
from palette_vc_jax.video.decode import REORDERED
from palette_vc_jax.video.film import Excerpt, Film, open_video
from palette_vc_jax.video.position import read_position
from palette_vc_jax.video.read import decode_video
from palette_vc_jax.video.timeline import shifted

SEEKABLE = ("mov", "matroska")  # containers with the exact time of each packet


def cut(film: Film, start: str | None, end: str | None, frames: int | None) -> Film:
    """Return an excerpt of a film, whose frames and times begin at 0.

    Warn if the film ends before the excerpt does.

    Args:
        film: a whole film, or a folder of frames.
        start: position of the first frame; a time stands for the frame that is shown then. None
            for the beginning.
        end: position of the first frame that is left out; None for the end of the film.
        frames: number of frames, instead of `end`.

    Raises:
        ValueError: if a position is not known, or the excerpt is empty or begins after the end.
    """
    first = read_position(start) if start is not None else 0
    last = read_position(end) if end is not None else None
    if film.kind == "image":
        raise ValueError(f"{film.path}: is one image; an excerpt needs a film or a folder.")
    if frames is not None and (end is not None or frames < 1):
        raise ValueError(f"frames={frames}: give 1 or more frames, and no end of the excerpt.")
    if film.kind == "folder":
        times, keys = list(range(len(film.files))), {}
    else:
        times, keys = _read_index(film, _until(first, last, frames))
        times = times or _decoded_times(film, _until(first, last, frames))
    start_at = _shown_at(first, times, film.time_base)
    if start_at >= len(times):
        raise ValueError(
            f"{film.path}: the excerpt begins at {start}, after the end of the film, which has "
            f"{len(times)} frames."
        )
    stop_at = len(times) if last is None else _begins_at(last, times, film.time_base)
    if frames is not None:
        stop_at = start_at + frames
    if stop_at <= start_at:
        raise ValueError(
            f"{film.path}: the excerpt from {start or 0} to {end} has no frames; give an end after "
            "the start."
        )
    count = min(stop_at, len(times)) - start_at
    if stop_at > start_at + count or (last is not None and _is_past(last, times, film)):
        asked = f"--end {end}" if frames is None else f"--frames {frames}"
        since = "its beginning" if start is None else start
        warnings.warn(
            f"{film.path}: {asked} is past the end of the film, which has {count} "
            f"{'frame' if count == 1 else 'frames'} from {since} on; these are colored.",
            stacklevel=3,
        )
    stop, finish = (stop_at, times[stop_at]) if stop_at < len(times) else (None, None)
    part = Excerpt(start_at, stop, times[start_at], finish)
    if film.kind == "folder":
        return replace(film, files=film.files[start_at:stop_at], frames=count, excerpt=part)
    return replace(film, frames=count, excerpt=replace(part, entry=_entry(film, part, times, keys)))


def _shown_at(position: int | Fraction, times: Sequence[int], unit: Fraction) -> int:
    """Return the number of the frame that is shown at a position, or one after all frames."""
    if isinstance(position, int):
        return position
    after = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 0)
    ticks = position / unit
    return len(times) if ticks >= after > times[-1] else max(0, bisect_right(times, ticks) - 1)


def _begins_at(position: int | Fraction, times: Sequence[int], unit: Fraction) -> int:
    """Return the number of the first frame that does not begin before a position."""
    return position if isinstance(position, int) else bisect_left(times, position / unit)


def _is_past(position: int | Fraction, times: Sequence[int], film: Film) -> bool:
    """Return whether a position is after the last frame; times may be off by one more frame."""
    if isinstance(position, int):
        return position > len(times)
    return position > times[-1] * film.time_base + 2 / film.rate


def _read_index(
    film: Film, enough: Callable[[Fraction], bool]
) -> tuple[list[int], dict[int, tuple[int, ...]]]:
    """Read the times of a video's packets, which are those of its frames if none is damaged.

    Args:
        film: the video.
        enough: from `_until`.

    Returns:
        the times of all frames that the excerpt needs, empty if the packets may not tell them; and
        for each key frame, by its time, the times as stored by which FFmpeg may find it.
    """
    times, keys = set(), {}
    ended, left = False, REORDERED
    stored: tuple[int | None, ...] = ()  # times of the packet before they are shifted

    def read() -> Iterator[Packet]:
        nonlocal stored
        for packet in container.demux(stream):
            if packet.size:
                stored = packet.pts, packet.dts
                yield packet

    with open_video(film.path) as (container, stream):
        if film.damaged != "stop" or not container.format.name.startswith(SEEKABLE):
            return [], {}
        for packet in shifted(container, read(), film.shifts):
            if packet.pts is None or packet.is_discard or packet.pts in times:
                return [], {}
            times.add(packet.pts)
            left = left - 1 if ended else REORDERED
            if left == 0:
                break
            ended = ended or enough(packet.pts * film.time_base)
            if packet.is_keyframe:
                keys[packet.pts] = tuple(place for place in stored if place is not None)
    return sorted(times), keys


def _decoded_times(film: Film, enough: Callable[[Fraction], bool]) -> list[int]:
    """Return the times of a video's frames, as far as an excerpt needs them, by decoding it."""
    times: list[int] = []
    damage: list[Damage] = []
    for _, pts, _ in decode_video(film, damage):
        times.append(pts)
        if enough(pts * film.time_base):
            break
    return times


def _until(
    first: int | Fraction, last: int | Fraction | None, frames: int | None
) -> Callable[[Fraction], bool]:
    """Return a function of the times of successive frames that is true after the excerpt's end."""
    count = after = 0  # frames, and those after the first of the excerpt

    def enough(seconds: Fraction) -> bool:
        nonlocal count, after
        count += 1
        begun = count > first + 1 if isinstance(first, int) else seconds > first
        after += begun
        if not begun or (last is None and frames is None):
            return False
        if frames is not None:
            return after > frames
        return count > last if isinstance(last, int) else seconds >= last

    return enough


def _entry(
    film: Film, part: Excerpt, times: Sequence[int], keys: dict[int, tuple[int, ...]]
) -> tuple[int, int] | None:
    """Return a time to seek to and the number of the key frame there, None to read from the start.

    It is used only if decoding from it gives the frames at their times up to the excerpt.
    """
    key = max((time for time in keys if time <= part.origin), default=None)
    if key is None or not part.start:
        return None
    number = bisect_left(times, key)
    trials = (replace(part, entry=(place, number)) for place in keys[key])
    good = (trial.entry for trial in trials if _is_exact(replace(film, excerpt=trial), times))
    return next(good, None)


def _is_exact(film: Film, times: Sequence[int]) -> bool:
    """Return whether an excerpt's entry leads to a key frame, and to the frames after it."""
    start, number = film.excerpt.start, film.excerpt.entry[1]
    try:
        found = list(islice(decode_video(film, []), start - number + 1))
    except ValueError:
        return False
    if [pts for _, pts, _ in found] != times[number : start + 1]:
        return False
    # Key frames of H.264 films with intra refresh are not whole.
    return found[0][2].frame is not None and found[0][2].frame.pict_type == PictureType.I
