"""Edit the shots of a plan; each function returns new shots."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.plan_file import PlannedShot, merged
from palette_vc_jax.sampling.shot_settings import ShotSettings

Shots = tuple[PlannedShot, ...]


def edit(shots: Shots, request: dict[str, Any]) -> Shots:
    """Return the shots after the edit that the page asks for.

    Args:
        shots: the shots.
        request: `action` is `palette` (with `colors`: a list of 1 to 5 colors, or None), `seed`,
            `strength`, `keep_gray` (each with `value`), `split` (with `frame`) or `merge` (with
            `shot`). The first four change `shots`, a list of numbers counted from 0.

    Raises:
        ValueError: if the request is not valid.
    """
    action = request.get("action")
    if action == "split":
        return split(shots, _whole(request, "frame"))
    if action == "merge":
        return merge(shots, _whole(request, "shot"))
    values = _values(action, request)
    numbers = request.get("shots")
    if not isinstance(numbers, list) or not numbers:
        raise ValueError("no shots are named; give their numbers.")
    for number in numbers:
        _check_number(shots, number)
    chosen = set(numbers)
    return tuple(
        replace(shot, **values) if number in chosen else shot for number, shot in enumerate(shots)
    )


def split(shots: Shots, frame: int) -> Shots:
    """Split the shot that holds a frame; the frame is the first of the new shot.

    Regions and keyframes name their frames themselves, and stay with the first of the two.
    """
    for number, shot in enumerate(shots):
        if shot.start < frame < shot.end:
            first = replace(shot, end=frame)
            second = replace(shot, start=frame, regions=(), keyframes=())
            return (*shots[:number], first, second, *shots[number + 1 :])
    raise ValueError(
        f"frame {frame} cannot begin a shot; go to a frame inside of a shot, after its first."
    )


def merge(shots: Shots, number: int) -> Shots:
    """Make one shot of a shot and the one after it, colored as the first."""
    _check_number(shots, number)
    if number + 1 == len(shots):
        raise ValueError(f"shot {number + 1} is the last; choose the shot before it.")
    one = merged(shots[number], shots[number + 1])
    return (*shots[:number], one, *shots[number + 2 :])


def shot_at(shots: Sequence[PlannedShot], frame: int) -> PlannedShot:
    """Return the shot that holds a frame."""
    for shot in shots:
        if shot.start <= frame < shot.end:
            return shot
    raise ValueError(f"frame {frame}; the film has the frames 0 to {shots[-1].end - 1}.")


def palette_of(colors: Any) -> Palette | None:
    """Return the palette of the page's list of colors, or None for None.

    Raises:
        ValueError: if the colors are not valid.
    """
    if colors is None:
        return None
    if not isinstance(colors, list) or not all(isinstance(color, str) for color in colors):
        raise ValueError("a palette is a list of colors; give 1 to 5 of them.")
    return Palette.from_colors(colors)


def _values(action: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `PlannedShot` that an action changes."""
    if action == "palette":
        palette = palette_of(request.get("colors"))
        return {"palette": "none" if palette is None else ",".join(palette.hex())}
    value = request.get("value")
    if action == "keep_gray" and isinstance(value, bool):
        return {"strength": 0.0 if value else 1.0}
    if action == "seed" and isinstance(value, int) and not isinstance(value, bool):
        return {"seed": ShotSettings(seed=value).seed}
    if action == "strength" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"strength": ShotSettings(strength=float(value)).strength}
    raise ValueError(f"the edit {action!r} with {value!r} is not known.")


def _whole(request: dict[str, Any], key: str) -> int:
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}; give a whole number.")
    return value


def _check_number(shots: Shots, number: Any) -> None:
    if not isinstance(number, int) or not 0 <= number < len(shots):
        raise ValueError(f"shot {number!r}; the film has the shots 0 to {len(shots) - 1}.")
