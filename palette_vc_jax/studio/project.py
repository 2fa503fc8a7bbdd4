"""An open film: its plan, which edits change and a file keeps, and undo."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.plan_file import PlannedShot, write_shots
from palette_vc_jax.studio import edits
from palette_vc_jax.studio.pictures import Pictures

STEPS = 500  # edits that can be undone


class Stale(ValueError):
    """An edit of a plan that has changed since the page read it."""


class Project:
    """An open film.

    Args:
        plan: from `plan_film`.
        pictures: the film's frames.
        file: the plan file, which is written after each edit.
        shots: the shots; each has a palette.
    """

    def __init__(self, plan: Plan, pictures: Pictures, file: Path, shots: edits.Shots) -> None:
        self.plan = plan
        self.file = file
        self.shots = shots
        self.pictures = pictures
        self.revision = 0
        self._before: list[edits.Shots] = []
        self._after: list[edits.Shots] = []
        self._lock = threading.Lock()
        self._written = _time_of(file)

    def edit(self, request: dict[str, Any]) -> None:
        """Apply an edit of the page, or undo or redo one, and save the plan.

        Args:
            request: see `edits.edit`; its `action` may also be `undo` or `redo`. `revision` is the
                revision of the plan that the page shows.

        Raises:
            ValueError: if the request is not valid, or another program changed the file.
            Stale: if the plan has changed since the page read it.
        """
        with self._lock:
            if request.get("revision") != self.revision:
                raise Stale("the plan was changed in another window; look at it, and try again.")
            action = request.get("action")
            before, after = list(self._before), list(self._after)
            if action in ("undo", "redo"):
                source, target = (before, after) if action == "undo" else (after, before)
                if not source:
                    raise ValueError(f"there is nothing to {action}.")
                shots = source.pop()
                target.append(self.shots)
            else:
                shots = edits.edit(self.shots, request)
                if shots == self.shots:
                    return
                before, after = [*before[-STEPS + 1 :], self.shots], []
            self._save(shots)
            self.shots, self._before, self._after = shots, before, after
            self.revision += 1

    def _save(self, shots: edits.Shots) -> None:
        if _time_of(self.file) != self._written:
            raise ValueError(
                f"{self.file.name} was changed by another program; open the film again to see it."
            )
        write_shots(self.file, self.plan.film, shots)
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
            "damaged": len(self.plan.damage),
            "revision": self.revision,
            "can_undo": bool(self._before),
            "can_redo": bool(self._after),
            "shots": [_describe(shot) for shot in self.shots],
        }


def plan_of(film: Path) -> Path:
    """Return the plan file that the studio keeps beside a film."""
    return film.with_name(f"{film.name}.plan.json")


def with_colors(
    shots: Sequence[PlannedShot], resolve: Callable[[PlannedShot], Palette | None]
) -> edits.Shots:
    """Return shots with the colors of their palettes, and seeds.

    Args:
        shots: of a plan file, or of a new plan.
        resolve: returns the palette of a shot.

    Raises:
        ValueError: naming the shot, if its palette is not valid.
    """
    found = []
    for shot in shots:
        with shot.naming():
            palette = resolve(shot)
        text = "none" if palette is None else ",".join(palette.hex())
        found.append(replace(shot, place="", palette=text, seed=shot.seed or 0))
    return tuple(found)


def _describe(shot: PlannedShot) -> dict[str, Any]:
    palette = shot.palette or "none"
    return {
        "start": shot.start,
        "end": shot.end,
        "palette": None if palette == "none" else palette.split(","),
        "seed": shot.seed or 0,
        "strength": shot.strength,
        "keep_gray": shot.strength == 0.0,
        "regions": len(shot.regions),
        "keyframes": len(shot.keyframes),
    }


def _time_of(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
