"""An open film: its plan, which edits change and a file keeps, and undo."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.colorize import ColorizeSettings
from palette_vc_jax.sampling.keyframes import parse_keyframe, split_keyframe
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.plan_file import FILM_KEYS, PlannedShot, write_shots
from palette_vc_jax.sampling.regions import parse_region, split_mask
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.studio import edits
from palette_vc_jax.studio.folders import OF_PLAN
from palette_vc_jax.studio.masks import Masks
from palette_vc_jax.studio.pictures import Pictures
from palette_vc_jax.video.film import Film, upright_size
from palette_vc_jax.video.neutral import Neutral, check_neutral

STEPS = 500  # edits that can be undone


class Stale(ValueError):
    """An edit of a plan that has changed since the page read it."""


class State(NamedTuple):
    """What the plan file holds: the shots, and settings of the whole film."""

    shots: edits.Shots
    named: Mapping[str, float]


class Project:
    """An open film.

    Args:
        plan: from `plan_film`.
        pictures: the film's frames.
        file: the plan file, which is written after each edit.
        shots: the shots; each has a palette.
        named: settings of the whole film that the plan file names.
    """

    def __init__(
        self,
        plan: Plan,
        pictures: Pictures,
        file: Path,
        shots: edits.Shots,
        named: Mapping[str, float],
    ) -> None:
        self.plan = plan
        self.file = file
        self.shots = shots
        self.named = named
        self.pictures = pictures
        self.masks = Masks(plan, file.parent)
        self.images = images_of(plan.film.path)
        self.revision = 0
        self._before: list[State] = []
        self._after: list[State] = []
        self._lock = threading.Lock()
        self._written = _time_of(file)

    def edit(self, request: dict[str, Any]) -> None:
        """Apply an edit of the page, or undo or redo one, and save the plan.

        Args:
            request: see `edits.edit`; its `action` may also be `undo` or `redo`, or `neutral` with
                the lumas `dark` and `bright`. `revision` is the revision of the plan that the page
                shows.

        Raises:
            ValueError: if the request is not valid, or another program changed the file.
            Stale: if the plan has changed since the page read it.
        """
        with self._lock:
            self.check_revision(request)
            action = request.get("action")
            before, after = list(self._before), list(self._after)
            now = State(self.shots, self.named)
            if action in ("undo", "redo"):
                source, target = (before, after) if action == "undo" else (after, before)
                if not source:
                    raise ValueError(f"there is nothing to {action}.")
                state = source.pop()
                target.append(now)
            else:
                if action == "neutral":
                    state = now._replace(named=_neutral(request))
                else:
                    state = now._replace(shots=edits.edit(now.shots, request, self.images.name))
                if state == now:
                    return
                self._check(state.shots)
                before, after = [*before[-STEPS + 1 :], now], []
            self._save(state)
            self.shots, self.named = state
            self._before, self._after = before, after
            self.revision += 1

    def check_revision(self, request: dict[str, Any]) -> None:
        """Raise Stale if a request's `revision` is not that of this plan."""
        if request.get("revision") != self.revision:
            raise Stale("the plan was changed in another window; look at it, and try again.")

    @property
    def settings(self) -> ColorizeSettings:
        """Return the settings that the film is colored with."""
        return replace(self.plan.settings, **self.named)

    def _check(self, shots: edits.Shots) -> None:
        """Raise ValueError if a region or keyframe is new and cannot be used."""
        film, folder = self.plan.film, self.file.parent
        known = {text for shot in self.shots for text in _texts(shot)}
        for shot in shots:
            for mask, _ in shot.regions:
                if mask not in known:
                    parse_region(mask, film, folder)
            for text in shot.keyframes:
                if text not in known:
                    parse_keyframe(text, film, folder)

    def _save(self, state: State) -> None:
        found = _time_of(self.file)
        if found not in (None, self._written):  # one that was deleted is written again
            raise ValueError(
                f"{self.file.name} was changed by another program; open the film again to see it."
            )
        if found is not None and not self.file.stat().st_mode & 0o222:
            raise ValueError(f"{self.file.name} is read-only; make it writable, and try again.")
        write_shots(self.file, self.plan.film, state.shots, state.named)
        self._written = _time_of(self.file)

    def describe(self) -> dict[str, Any]:
        """Return what the page shows, as plain JSON values."""
        film = self.plan.film
        return {
            "name": film.path.name,
            "path": str(film.path),
            "plan": self.file.name,
            "frames": self.plan.frames,
            "rate": float(film.rate),
            "width": self.pictures.width,
            "height": self.pictures.height,
            "film_size": upright_size(film)[::-1],
            "damaged": len(self.plan.damage),
            "neutral": list(self.settings.neutral),
            "revision": self.revision,
            "can_undo": bool(self._before),
            "can_redo": bool(self._after),
            "shots": [_describe(shot) for shot in self.shots],
        }


def _neutral(request: dict[str, Any]) -> dict[str, float]:
    """Return the settings of an edit of the neutral areas.

    Raises:
        ValueError: if they are not valid.
    """
    lumas = [request.get(key) for key in ("dark", "bright")]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in lumas):
        raise ValueError(f"the lumas {lumas}; give two numbers.")
    check_neutral(Neutral(*lumas))
    return dict(zip(FILM_KEYS, lumas, strict=True))


def plan_of(film: Path) -> Path:
    """Return the plan file that the studio keeps beside a film."""
    return film.with_name(f"{film.name}.plan.json")


def images_of(film: Path) -> Path:
    """Return the folder beside a film that keeps the images of its plan."""
    return film.with_name(f"{film.name}{OF_PLAN}")


def with_colors(
    shots: Sequence[PlannedShot], resolve: Callable[[str, Shot | None, int], Palette | None]
) -> edits.Shots:
    """Return shots with seeds and with the colors of their palettes and their regions' palettes.

    Args:
        shots: of a plan file, or of a new plan.
        resolve: returns the palette of a text, a shot (None for the film) and a seed.

    Raises:
        ValueError: naming the shot, if a palette is not valid.
    """
    found = []
    for shot in shots:
        seed, span = shot.seed or 0, (shot.start, shot.end)
        with shot.naming():
            palette = resolve(shot.palette or "auto", span if shot.palette else None, seed)
            regions = tuple((mask, _text(resolve(spec, None, 0))) for mask, spec in shot.regions)
        found.append(replace(shot, place="", palette=_text(palette), seed=seed, regions=regions))
    return tuple(found)


def with_numbers(shots: Sequence[PlannedShot], film: Film, folder: Path) -> list[PlannedShot]:
    """Return shots whose regions and keyframes name frames by numbers, as `edits` needs them.

    Args:
        shots: of a plan file.
        film: from `open_film`.
        folder: of the plan file.

    Raises:
        ValueError: naming the shot, if a position is not valid.
    """
    found = []
    for shot in shots:
        with shot.naming():
            masks = [(split_mask(mask, film, folder), spec) for mask, spec in shot.regions]
            keys = [split_keyframe(text, film) for text in shot.keyframes]
        regions = tuple((f"{what}@{frame}", spec) for (what, frame), spec in masks)
        keyframes = tuple(f"{frame}={path}" for frame, path in keys)
        found.append(replace(shot, regions=regions, keyframes=keyframes))
    return found


def _describe(shot: PlannedShot) -> dict[str, Any]:
    return {
        "start": shot.start,
        "end": shot.end,
        "palette": _colors(shot.palette or "none"),
        "seed": shot.seed or 0,
        "strength": shot.strength,
        "keep_gray": shot.strength == 0.0,
        "regions": [
            {"frame": edits.frame_of_mask(mask), "mask": mask, "palette": _colors(palette)}
            for mask, palette in shot.regions
        ],
        "keyframes": [edits.frame_of_key(text) for text in shot.keyframes],
    }


def _colors(palette: str) -> list[str] | None:
    return None if palette == "none" else palette.split(",")


def _text(palette: Palette | None) -> str:
    return "none" if palette is None else ",".join(palette.hex())


def _texts(shot: PlannedShot) -> list[str]:
    return [*(mask for mask, _ in shot.regions), *shot.keyframes]


def _time_of(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
