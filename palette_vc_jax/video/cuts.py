"""Read the cuts of a film from the files of other programs."""

import csv
import re
from fractions import Fraction
from pathlib import Path

from palette_vc_jax import files

# An event of a CMX 3600 EDL: number, reel, track, kind, source in and out, record in and out.
_EVENT = re.compile(
    r"\d+\s+\S+\s+(?P<track>\S+)\s+(?P<kind>\S+)(?:\s+\d+)?"
    r"((?:\s+\d\d:\d\d:\d\d[:;]\d\d){2})(?P<record>(?:\s+\d\d:\d\d:\d\d[:;]\d\d){2})\s*"
)
_START = "Start Frame"  # column of a CSV list of scenes, counted from 1
FORMS = "a CSV list of scenes of PySceneDetect or an EDL (CMX 3600)"


def read_cuts(path: Path, rate: Fraction) -> list[int]:
    """Return the first frames of the shots after the first, ascending.

    In an EDL, the record times count, from the first event's on; a dissolve is a cut at its first
    frame.

    Args:
        path: a file of `FORMS`.
        rate: frames per second of the film, for an EDL.

    Raises:
        ValueError: if the file is missing or has another form.
    """
    try:
        text = files.read_text(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give {FORMS}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}; give {FORMS}.") from None
    lines = text.splitlines()
    starts = _scenes(lines) if any(_START in line for line in lines[:2]) else _events(lines, rate)
    if not starts:
        raise ValueError(f"{path}: names no shots; give {FORMS}.")
    return sorted({start - min(starts) for start in starts} - {0})


def _scenes(lines: list[str]) -> list[int]:
    """Return the start frames of a CSV file, whose first line may be a list of times."""
    header = next(number for number, line in enumerate(lines) if _START in line)
    rows = csv.DictReader(lines[header:], skipinitialspace=True)
    found = [(row.get(_START) or "").strip() for row in rows]
    return [int(text) for text in found if text.isdecimal()]


def _events(lines: list[str], rate: Fraction) -> list[int]:
    events = filter(None, (_EVENT.fullmatch(line.strip()) for line in lines))
    return [
        _frame(event["record"].split()[0], rate)
        for event in events
        if event["track"].upper().startswith(("V", "B"))  # not the events of sound
    ]


def _frame(time: str, rate: Fraction) -> int:
    """Return the frame of a time hh:mm:ss:ff; drop-frame times have a semicolon."""
    hours, minutes, seconds, frames = map(int, re.split("[:;]", time))
    base = round(rate)
    minutes += 60 * hours
    count = (60 * minutes + seconds) * base + frames
    if ";" in time:  # two frame numbers a minute are left out, four at 60 frames per second
        count -= base // 15 * (minutes - minutes // 10)
    return count
