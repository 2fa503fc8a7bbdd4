"""Read and write plans that people edit: the shots of a film, and how each is colored.

    {
      "version": 1,
      "film": "in.mkv",
      "frames": 250,
      "shots": [
        {
          "start": 0, "end": 120, "start_time": "0:00:00.000", "end_time": "0:00:04.800",
          "palette": ["#0b1d3a", "#1d4e89", "#3a7ca5", "#81b1d5", "#d9e8f5"],
          "reference": "gray", "seed": 0, "strength": 1.0,
          "keep_gray": false, "merge_with_next": false
        },
        ...

`start` and `end` are frames, or positions such as "0:04.8"; the times beside them are for people.
`neutral_dark` and `neutral_bright` may stand beside `frames`, as the flags of these names.
A palette is a list of colors or any text that `--palette` takes; `auto` is that of the shot. Values
that a shot does not name are those of the command's flags. A shot may have `regions`, a list of
{"mask": ..., "palette": ...}, and `keyframes`, a list of "POSITION=IMAGE".
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

# The standard library has a decoder in Python too, which says where an object begins.
from json.decoder import JSONDecoder, JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import numpy as np

from palette_vc_jax import atomic, files
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.spec import spec_beside, spec_within
from palette_vc_jax.palette.text import HEX
from palette_vc_jax.sampling.keyframes import Keyframe
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.regions import Region
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.video.film import Film
from palette_vc_jax.video.position import parse_position

VERSION = 1
# Keys of settings of the whole film, which are named as those of `ColorizeSettings`.
FILM_KEYS = ("neutral_dark", "neutral_bright")
HEAD_KEYS = ("version", "film", "frames")
# Key of a shot -> types of its JSON value.
KEYS: dict[str, tuple[type, ...]] = {
    "start": (int, str),
    "end": (int, str),
    "start_time": (str,),
    "end_time": (str,),
    "palette": (list, str, type(None)),
    "reference": (str,),
    "seed": (int,),
    "strength": (int, float),
    "keep_gray": (bool,),
    "merge_with_next": (bool,),
    "regions": (list,),
    "keyframes": (list,),
}


@dataclass(frozen=True)
class PlannedShot:
    """One shot of a plan file; None where the file names no value."""

    start: int
    end: int
    place: str  # names the shot and its line in the file, for messages
    palette: str | None = None  # as `--palette`
    reference: str | None = None  # as `--reference`
    seed: int | None = None
    strength: float = 1.0  # 0 if the shot stays gray
    regions: tuple[tuple[str, str], ...] = ()  # mask and palette, as in `--region`
    keyframes: tuple[str, ...] = ()  # as `--keyframe`

    def check_frame(self, frame: int, text: str) -> None:
        """Raise ValueError if a region or a keyframe, named by `text`, is not in this shot."""
        if not self.start <= frame < self.end:
            raise ValueError(
                f"{text}: belongs to frame {frame}, which is not in this shot; give a position "
                f"from @{self.start} to @{self.end - 1}, or move it to its shot."
            )

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Name the shot in each ValueError that is raised inside the `with` block."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error


def read_plan(path: Path, rate: Fraction) -> list[PlannedShot]:
    """Read a plan file; shots with `merge_with_next` are one with those that follow them.

    Args:
        path: the file.
        rate: frames per second of the film.

    Raises:
        ValueError: naming the shot and its line, if the file is not a plan.
    """
    values = _read(path)
    shots: list[PlannedShot] = []
    merging = False
    for number, value in enumerate(values["shots"], 1):
        place = f"{path}: shot {number}"
        if not isinstance(value, _Object):
            raise ValueError(f"{place}: {value!r}; give an object with start and end.")
        place += f" (line {value.line})"
        shot = _shot(value, place, rate, shots[-1].end if shots else 0)
        if merging:
            shot = merged(shots.pop(), shot)
        shots.append(shot)
        merging = value.get("merge_with_next", False)
    if not shots:
        raise ValueError(f"{path}: no shots; --write_plan writes a plan of a film.")
    if merging:
        raise ValueError(f"{shots[-1].place}: merge_with_next, and no shot follows.")
    return shots


def located(shots: Sequence[PlannedShot], folder: Path) -> list[PlannedShot]:
    """Return the shots of a plan in `folder`, with the paths of their palettes and references.

    Masks and keyframes are located where they are read, because their names are recorded.
    """
    return [
        replace(
            shot,
            palette=shot.palette and spec_beside(shot.palette, folder),
            reference=shot.reference and spec_beside(shot.reference, folder),
            regions=tuple((mask, spec_beside(spec, folder)) for mask, spec in shot.regions),
        )
        for shot in shots
    ]


def read_film_settings(path: Path) -> dict[str, float]:
    """Read the settings of the whole film (`FILM_KEYS`) that a plan file names.

    Raises:
        ValueError: if the file is not a plan, or a value is not a number.
    """
    values = _read(path)
    found = {key: values[key] for key in FILM_KEYS if key in values}
    for key, value in found.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{path}: {key} is {value!r}; give a number.")
    return found


def _read(path: Path) -> dict[str, Any]:
    """Read the JSON object of a plan file, whose objects know their lines."""
    try:
        values = json.loads(files.read_text(path), cls=_Lines)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such plan file; --write_plan writes one.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}).") from None
    if not isinstance(values, dict) or not isinstance(values.get("shots"), list):
        raise ValueError(f"{path}: not a plan; --write_plan writes one.")
    if values.get("version") != VERSION:
        raise ValueError(
            f"{path}: version {values.get('version')!r}; this program reads version {VERSION}."
        )
    known = (*HEAD_KEYS, *FILM_KEYS, "shots")
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"{path}: {unknown[0]!r} is not known; use {', '.join(known)}.")
    return values


def cuts_of(shots: Sequence[PlannedShot]) -> list[int]:
    """Return the first frames of the shots after the first, as `plan_film` takes them."""
    return [shot.start for shot in shots[1:]]


def check_end(shots: Sequence[PlannedShot], frames: int) -> None:
    """Raise ValueError unless the shots of a plan file end with a film of `frames` frames."""
    if shots[-1].end != frames:
        raise ValueError(
            f"{shots[-1].place}: ends at frame {shots[-1].end}, and the film has {frames} frames; "
            "end the last shot there, or give the plan of this film."
        )


def write_plan(
    path: Path,
    plan: Plan,
    given: Sequence[ShotSettings],
    regions: Sequence[Region] = (),
    keyframes: Sequence[Keyframe] = (),
    settings: Mapping[str, float] | None = None,
) -> None:
    """Write a plan file.

    Args:
        path: the file.
        plan: from `plan_film`.
        given: the settings of each shot.
        regions: from `parse_region`, with palettes; each is written in the shot of its first mask.
        keyframes: from `parse_keyframe`.
        settings: what `read_film_settings` returns.
    """
    folder = path.parent
    shots = [
        PlannedShot(
            start,
            end,
            "",
            _codes(one.palette),
            spec_within(one.reference.source, folder),
            one.seed,
            one.strength,
            tuple(
                (_mask(region, folder), _codes(region.palette))
                for region in regions
                if start <= region.frame < end
            ),
            tuple(
                f"{key.frame}={files.within(key.files[0], folder)}"
                for key in keyframes
                if start <= key.frame < end
            ),
        )
        for (start, end), one in zip(plan.shots, given, strict=True)
    ]
    write_shots(path, plan.film, shots, settings)


def _codes(palette: Palette | None) -> str:
    return "none" if palette is None else ",".join(palette.hex())


def _mask(region: Region, folder: Path) -> str:
    """Return the mask of a region as a plan in `folder` names it."""
    if not region.files:  # a rectangle
        return region.source
    of_one = isinstance(region.masks, np.ndarray)
    path = region.files[0] if of_one else region.files[0].parent
    return f"{files.within(path, folder)}@{region.frame}"


def write_shots(
    path: Path,
    film: Film,
    shots: Sequence[PlannedShot],
    settings: Mapping[str, float] | None = None,
) -> None:
    """Write the shots of a film as a plan file, which `read_plan` reads as the same shots.

    Args:
        path: the file.
        film: from `open_film`.
        shots: its shots.
        settings: what `read_film_settings` returns.
    """
    head = {"version": VERSION, "film": film.path.name, "frames": shots[-1].end, **(settings or {})}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    blocks = ",\n".join(_block(_values(shot, film.rate)) for shot in shots)
    text = "\n".join(["{", *lines, '  "shots": [', blocks, "  ]", "}"])
    atomic.write_text(path, text + "\n")


def _values(shot: PlannedShot, rate: Fraction) -> dict[str, Any]:
    """Return the JSON object of a shot, without the values that it does not name."""
    values = {
        "start": shot.start,
        "end": shot.end,
        "start_time": _time(shot.start, rate),
        "end_time": _time(shot.end, rate),
    }
    if shot.palette is not None:
        values["palette"] = _palette_value(shot.palette)
    if shot.reference is not None:
        values["reference"] = shot.reference
    if shot.seed is not None:
        values["seed"] = shot.seed
    values |= {
        "strength": shot.strength or 1.0,
        "keep_gray": shot.strength == 0.0,
        "merge_with_next": False,
    }
    if shot.regions:
        values["regions"] = [
            {"mask": mask, "palette": _palette_value(palette)} for mask, palette in shot.regions
        ]
    if shot.keyframes:
        values["keyframes"] = list(shot.keyframes)
    return values


def _palette_value(palette: str) -> list[str] | str | None:
    """Return a palette as the file has it: a list of codes of colors, another text, or None."""
    if palette.strip().lower() == "none":
        return None
    codes = palette.split(",")
    return codes if all(HEX.fullmatch(code) for code in codes) else palette


def _block(shot: dict[str, Any]) -> str:
    rows = ",\n".join(f"      {json.dumps(key)}: {json.dumps(shot[key])}" for key in shot)
    return "    {\n" + rows + "\n    }"


def _shot(value: dict[str, Any], place: str, rate: Fraction, expected: int) -> PlannedShot:
    """Return the shot of a JSON object, which must begin at the frame `expected`."""
    for key, given in value.items():
        if key not in KEYS:
            raise ValueError(f"{place}: {key!r} is not known; use {', '.join(KEYS)}.")
        if not isinstance(given, KEYS[key]) or (isinstance(given, bool) and bool not in KEYS[key]):
            kinds = " or ".join(kind.__name__ for kind in KEYS[key])
            raise ValueError(f"{place}: {key} is {given!r}; give {kinds}.")
    if missing := [key for key in ("start", "end") if key not in value]:
        raise ValueError(f"{place}: {missing[0]} is missing; give the number of a frame.")
    try:
        start, end = (parse_position(str(value[key]), rate) for key in ("start", "end"))
        strength = 0.0 if value.get("keep_gray") else float(value.get("strength", 1.0))
        ShotSettings(seed=value.get("seed", 0), strength=strength)
    except (ValueError, OverflowError) as error:  # a whole number may be too large for a float
        raise ValueError(f"{place}: {error}") from None
    if start != expected or end <= start:
        raise ValueError(
            f"{place}: frames {start} to {end}; the shot must begin at frame {expected}, where the "
            "one before it ends, and end after it."
        )
    return PlannedShot(
        start,
        end,
        place,
        _palette(value["palette"], place) if "palette" in value else None,
        value.get("reference"),
        value.get("seed"),
        strength,
        tuple(_region(region, place) for region in value.get("regions", ())),
        tuple(_texts(value.get("keyframes", []), f"{place}: keyframes")),
    )


def merged(first: PlannedShot, second: PlannedShot) -> PlannedShot:
    """Return the first shot with the frames, the regions and the keyframes of the second."""
    return PlannedShot(
        first.start,
        second.end,
        first.place,
        first.palette,
        first.reference,
        first.seed,
        first.strength,
        first.regions + second.regions,
        first.keyframes + second.keyframes,
    )


def _palette(value: Any, place: str) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else ",".join(_texts(value, f"{place}: palette"))


def _region(value: Any, place: str) -> tuple[str, str]:
    if not isinstance(value, dict) or value.keys() != {"mask", "palette"}:
        raise ValueError(f'{place}: region {value!r}; give {{"mask": ..., "palette": ...}}.')
    if not isinstance(value["mask"], str) or not isinstance(value["palette"], list | str | None):
        raise ValueError(f"{place}: region {value!r}; give texts, or a list of colors.")
    return value["mask"], _palette(value["palette"], place)


def _texts(values: list[Any], what: str) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{what} holds {value!r}; give texts.")
    return values


def _time(frame: int, rate: Fraction) -> str:
    seconds = frame / rate
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{float(rest):06.3f}"


class _Object(dict):
    """A JSON object, and the line that it begins in, counted from 1."""

    line = 0


class _Lines(JSONDecoder):
    """Decode JSON objects as `_Object`."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_object = self._object
        self.scan_once = py_make_scanner(self)

    def _object(self, place: tuple[str, int], *rest: Any) -> tuple[_Object, int]:
        value, end = JSONObject(place, *rest)
        found = _Object(value)
        found.line = place[0].count("\n", 0, place[1]) + 1
        return found, end
