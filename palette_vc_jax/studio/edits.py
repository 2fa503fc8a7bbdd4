"""Edit the shots of a plan; each function returns new shots."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.plan_file import PlannedShot, merged
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.studio.uploads import NAME

Shots = tuple[PlannedShot, ...]


def edit(shots: Shots, request: dict[str, Any], images: str = "") -> Shots:
    """Return the shots after the edit that the page asks for.

    Args:
        shots: the shots; their regions and keyframes name frames by numbers.
        request: `action` is one of `ACTIONS`, with what its function reads; or `palette` (with
            `colors`: a list of 1 to 5 colors, or None), `seed`, `strength` or `keep_gray` (each
            with `value`), which change `shots`, a list of numbers counted from 0.
        images: name of the folder, beside the plan, of the images that the page has given.

    Raises:
        ValueError: if the request is not valid.
    """
    action = request.get("action")
    if isinstance(action, str) and action in ACTIONS:
        return ACTIONS[action](shots, request, images)
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


def split(shots: Shots, request: dict[str, Any], _: str = "") -> Shots:
    """Split the shot that holds `frame`, which is the first of the new shot."""
    frame = _whole(request, "frame")
    for number, shot in enumerate(shots):
        if shot.start < frame < shot.end:
            early, late = (
                {
                    "regions": tuple(one for one in shot.regions if is_own(frame_of_mask(one[0]))),
                    "keyframes": tuple(one for one in shot.keyframes if is_own(frame_of_key(one))),
                }
                for is_own in (lambda own: own < frame, lambda own: own >= frame)
            )
            parts = replace(shot, end=frame, **early), replace(shot, start=frame, **late)
            return (*shots[:number], *parts, *shots[number + 1 :])
    raise ValueError(
        f"frame {frame} cannot begin a shot; go to a frame inside of a shot, after its first."
    )


def merge(shots: Shots, request: dict[str, Any], _: str = "") -> Shots:
    """Make one shot of `shot` and the one after it, colored as the first."""
    number = _whole(request, "shot")
    _check_number(shots, number)
    if number + 1 == len(shots):
        raise ValueError(f"shot {number + 1} is the last; choose the shot before it.")
    one = merged(shots[number], shots[number + 1])
    return (*shots[:number], one, *shots[number + 2 :])


def add_region(shots: Shots, request: dict[str, Any], images: str) -> Shots:
    """Add a region that is drawn in `frame`, in front of the others, with the palette `colors`.

    It is a `rectangle` (left, top, width and height in pixels) or the white part of an `image`.
    """
    frame = _whole(request, "frame")
    shot = shot_at(shots, frame)
    rectangle = request.get("rectangle")
    if rectangle is None:
        what = _image(request, images)
    elif (
        isinstance(rectangle, list)
        and [_is_whole(one) and 0 <= one < 2**31 for one in rectangle] == [True] * 4
    ):
        what = ",".join(map(str, rectangle))
    else:
        raise ValueError("a rectangle is left, top, width and height; give four whole numbers.")
    region = f"{what}@{frame}", palette_text(request.get("colors"))
    return _changed(shots, shot, regions=(*shot.regions, region))


def color_region(shots: Shots, request: dict[str, Any], _: str) -> Shots:
    """Change the palette of the region `region` of a `shot` to `colors`."""
    shot, number = _region(shots, request)
    region = shot.regions[number][0], palette_text(request.get("colors"))
    regions = *shot.regions[:number], region, *shot.regions[number + 1 :]
    return _changed(shots, shot, regions=regions)


def remove_region(shots: Shots, request: dict[str, Any], _: str) -> Shots:
    """Remove the region `region` of a `shot`."""
    shot, number = _region(shots, request)
    return _changed(shots, shot, regions=shot.regions[:number] + shot.regions[number + 1 :])


def set_keyframe(shots: Shots, request: dict[str, Any], images: str) -> Shots:
    """Make a keyframe of `frame` with the colors of an `image`, in place of one that it has."""
    frame = _whole(request, "frame")
    shot = shot_at(shots, frame)
    others = [text for text in shot.keyframes if frame_of_key(text) != frame]
    keyframes = sorted([*others, f"{frame}={_image(request, images)}"], key=frame_of_key)
    return _changed(shots, shot, keyframes=tuple(keyframes))


def remove_keyframe(shots: Shots, request: dict[str, Any], _: str) -> Shots:
    """Remove the keyframe `frame`."""
    frame = _whole(request, "frame")
    shot = shot_at(shots, frame)
    rest = tuple(text for text in shot.keyframes if frame_of_key(text) != frame)
    if rest == shot.keyframes:
        raise ValueError(f"frame {frame} is no keyframe.")
    return _changed(shots, shot, keyframes=rest)


ACTIONS: dict[str, Callable[[Shots, dict[str, Any], str], Shots]] = {
    "split": split,
    "merge": merge,
    "add_region": add_region,
    "color_region": color_region,
    "remove_region": remove_region,
    "set_keyframe": set_keyframe,
    "remove_keyframe": remove_keyframe,
}


def frame_of_mask(text: str) -> int:
    """Return the number of the frame of a region's mask, which ends with it."""
    return int(text.rpartition("@")[2])


def frame_of_key(text: str) -> int:
    """Return the number of the frame of a keyframe, which begins with it."""
    return int(text.partition("=")[0])


def shot_at(shots: Sequence[PlannedShot], frame: int) -> PlannedShot:
    """Return the shot that holds a frame."""
    for shot in shots:
        if shot.start <= frame < shot.end:
            return shot
    raise ValueError(f"frame {frame}; the film has the frames 0 to {shots[-1].end - 1}.")


def palette_text(colors: Any) -> str:
    """Return the page's list of colors, or None, as a plan has it.

    Raises:
        ValueError: if the colors are not valid.
    """
    if colors is None:
        return "none"
    if not isinstance(colors, list) or not all(isinstance(color, str) for color in colors):
        raise ValueError("a palette is a list of colors; give 1 to 5 of them.")
    return ",".join(Palette.from_colors(colors).hex())


def _values(action: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `PlannedShot` that an action changes."""
    if action == "palette":
        return {"palette": palette_text(request.get("colors"))}
    value = request.get("value")
    if action == "keep_gray" and isinstance(value, bool):
        return {"strength": 0.0 if value else 1.0}
    if action == "seed" and isinstance(value, int) and not isinstance(value, bool):
        return {"seed": ShotSettings(seed=value).seed}
    if action == "strength" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"strength": float(ShotSettings(strength=value).strength)}
    raise ValueError(f"the edit {action!r} with {value!r} is not known.")


def _region(shots: Shots, request: dict[str, Any]) -> tuple[PlannedShot, int]:
    """Return the shot and the number of the region that a request names."""
    number, region = _whole(request, "shot"), _whole(request, "region")
    _check_number(shots, number)
    if not 0 <= region < len(shots[number].regions):
        raise ValueError(f"shot {number + 1} has no region {region + 1}; choose one in its list.")
    return shots[number], region


def _image(request: dict[str, Any], images: str) -> str:
    """Return the path, from the plan on, of an image that the page has given."""
    name = request.get("image")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"image {name!r}; give the name that the studio has answered.")
    return f"{images}/{name}"


def _changed(shots: Shots, shot: PlannedShot, **values: Any) -> Shots:
    return tuple(replace(one, **values) if one is shot else one for one in shots)


def _whole(request: dict[str, Any], key: str) -> int:
    value = request.get(key)
    if not _is_whole(value):
        raise ValueError(f"{key} is {value!r}; give a whole number.")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_number(shots: Shots, number: Any) -> None:
    if not _is_whole(number) or not 0 <= number < len(shots):
        raise ValueError(f"shot {number!r}; the film has the shots 0 to {len(shots) - 1}.")
