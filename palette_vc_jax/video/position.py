"""Positions in a film: numbers of frames, and times."""

import re
from fractions import Fraction

FORMS = "a frame's number (120), seconds (4.8s) or minutes and seconds (1:04.8)"
_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


def parse_position(text: str, rate: Fraction) -> int:
    """Return the number of the frame at a position, counted from 0.

    Args:
        text: one of `FORMS`; hours stand before minutes (1:02:04.8).
        rate: frames per second; a time is that of the film's average rate.

    Raises:
        ValueError: if `text` has another form.
    """
    position = read_position(text)
    return position if isinstance(position, int) else int(position * rate)


def read_position(text: str) -> int | Fraction:
    """Return a position as the number of a frame (int) or as seconds (Fraction).

    Raises:
        ValueError: if `text` has none of `FORMS`.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text)
    found = _TIME.fullmatch(text.removesuffix("s"))
    if found is None or (":" not in text and not text.endswith("s")):
        raise ValueError(f"position {text!r} is not known; give {FORMS}.")
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def later_timecode(text: str, frames: int, rate: Fraction) -> str | None:
    """Return the SMPTE timecode that is some frames after another, None if it has no such form.

    Args:
        text: a timecode such as 01:00:00:00; a semicolon before the frame marks drop frame.
        frames: number of frames.
        rate: frames per second.
    """
    found = _TIMECODE.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds, mark, frame = found.groups()
    base = round(rate)
    minute = 60 * int(hours) + int(minutes)
    # Drop frame leaves out the first numbers of each minute but the tenth (SMPTE ST 12-1).
    dropped = 0 if mark == ":" else 2 * (base // 30)
    number = (60 * minute + int(seconds)) * base + int(frame) + frames
    number -= dropped * (minute - minute // 10)
    tens, rest = divmod(number, 600 * base - 9 * dropped)
    if rest >= 60 * base:
        number += dropped * (1 + (rest - 60 * base) // (60 * base - dropped))
    number += 9 * dropped * tens
    seconds, frame = divmod(number, base)
    hour = seconds // 3600 % 24
    return f"{hour:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frame:02}"
