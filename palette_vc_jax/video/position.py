"""Positions in a film: numbers of frames, and times."""

import re
from fractions import Fraction

FORMS = "a frame's number (120), seconds (4.8s) or minutes and seconds (1:04.8)"
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


def parse_position(text: str, rate: Fraction) -> int:
    """Return the number of the frame at a position, counted from 0.

    Args:
        text: one of `FORMS`; hours stand before minutes (1:02:04.8).
        rate: frames per second; a time is that of the film's average rate.

    Raises:
        ValueError: if `text` has another form.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text)
    found = _TIME.fullmatch(text.removesuffix("s"))
    if found is None or (":" not in text and not text.endswith("s")):
        raise ValueError(f"position {text!r} is not known; give {FORMS}.")
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return int((3600 * hours + 60 * minutes + seconds) * rate)
