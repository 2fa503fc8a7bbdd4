"""The state behind the page: the model, the open film, previews and proposals of palettes."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from palette_vc_jax.models.store import Model
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.spec import spec_beside
from palette_vc_jax.sampling.colorize import ColorizeSettings, default_settings
from palette_vc_jax.sampling.plan import plan_film
from palette_vc_jax.sampling.plan_file import (
    PlannedShot,
    check_end,
    cuts_of,
    read_film_settings,
    read_plan,
)
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.studio import edits
from palette_vc_jax.studio.colored import alone, color_part
from palette_vc_jax.studio.device import Device
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.pictures import WIDTH, Pictures, jpeg, overlay, png
from palette_vc_jax.studio.project import Project, plan_of, with_colors, with_numbers
from palette_vc_jax.studio.proposals import automatic_palette, palette_of
from palette_vc_jax.studio.uploads import keep
from palette_vc_jax.video.film import open_film, upright_size
from palette_vc_jax.video.resize import resize

CLIP = 2  # seconds of a clip
LONGEST = 60  # and maximum of its frames


class _Superseded(Exception):
    """The user has opened another film meanwhile."""


class Session:
    """What the server holds between requests.

    Args:
        folders: that may be read and written.
        load: returns the model with its weights; called once, when a film is opened.
    """

    def __init__(self, folders: Folders, load: Callable[[], Model]) -> None:
        self.folders = folders
        self.project: Project | None = None
        self.opening: dict[str, Any] | None = None
        self.error: str | None = None
        self.clip_progress: dict[str, int] | None = None
        self._device = Device(load)
        self._numbers = itertools.count(1)
        self._opened = 0  # number of the last film that was asked for
        self._asked = 0  # number of the last preview that was asked for
        self._shown = 0  # and of the last mask
        self._clip: tuple[int, dict[int, bytes]] = (0, {})  # number and JPEGs of the last clip

    def open(self, path: Path) -> threading.Thread:
        """Open a film in a thread; `opening` has its progress, `error` says why it failed."""
        number = self._opened = next(self._numbers)
        self.error = None
        self.opening = {"name": path.name, "stage": "reading the model", "done": 0, "total": None}
        thread = threading.Thread(target=self._open, args=(path, number), daemon=True)
        thread.start()
        return thread

    def _open(self, path: Path, number: int) -> None:
        def report(stage: str, done: int = 0, total: int | None = None) -> None:
            if number != self._opened:
                raise _Superseded
            self.opening = {"name": path.name, "stage": stage, "done": done, "total": total}

        project, error = None, None
        try:
            project = self._read(path, report)
        except _Superseded:
            return
        except Exception as failure:  # a thread has nobody else to tell
            error = f"{failure}" or type(failure).__name__
        if number == self._opened:
            if project and self.project:  # so that no edit of the film before fits this one
                project.revision = self.project.revision + 1
            self.project, self.error, self.opening = project or self.project, error, None

    def _read(self, path: Path, report: Callable[..., None]) -> Project:
        model = self._device.model()
        file = self.folders.check(plan_of(path))
        film = open_film(path)
        given = read_plan(file, film.rate) if file.exists() else None
        named = read_film_settings(file) if given else {}
        cuts = cuts_of(given) if given else None
        find = functools.partial(report, "finding the shots")
        settings = default_settings(model.config, devices=1)
        plan = plan_film(film, model, settings, None, find, cuts)
        dataclasses.replace(settings, **named)  # reports values that are not valid
        report("choosing the first palette")
        pictures = Pictures(plan)
        automatic = functools.cache(
            lambda part: automatic_palette(self._device, plan, pictures, part)
        )
        whole = 0, plan.frames

        def resolve(spec: str, part: Shot | None, seed: int) -> Palette | None:
            auto = functools.partial(automatic, part or whole)
            found = spec_beside(spec, file.parent)
            return palette_of(found, self._device, self.folders, plan, seed, auto)

        if given:
            check_end(given, plan.frames)
            given = with_numbers(given, film, file.parent)
        shots = given or [PlannedShot(*shot, "") for shot in plan.shots]
        return Project(plan, pictures, file, with_colors(shots, resolve), named)

    def opened(self) -> Project:
        """Return the open film.

        Raises:
            ValueError: if there is none.
        """
        if self.project is None:
            raise ValueError("no film is open; choose one first.")
        return self.project

    def propose(self, spec: str, part: tuple[int, int] | None) -> Palette | None:
        """Return the palette that a text describes, as `--palette` takes it.

        Args:
            spec: the text; a file must be in one of the folders.
            part: the frames that `auto` looks at; None for the whole film.

        Raises:
            ValueError: if the text is not valid.
        """
        project = self.opened()
        part = part or (0, project.plan.frames)

        def auto() -> Palette:
            return automatic_palette(self._device, project.plan, project.pictures, part)

        return palette_of(spec, self._device, self.folders, project.plan, 0, auto)

    def preview(self, request: dict[str, Any]) -> bytes | None:
        """Color one frame, in a window of that frame alone.

        Args:
            request: `frame`, and optionally the shot's `colors`, `seed` and `strength`, in place
                of those of the plan; with `region`, `colors` are those of a region of the shot.
                `width` is the maximum width of a JPEG; `full` asks for a PNG of the film's size,
                which no later request cancels.

        Returns:
            The image; None if something else was asked for before this one was complete.

        Raises:
            ValueError: if the request is not valid, or a file that the plan names cannot be read.
        """
        project = self.opened()
        frame = _frame(request, project)
        shot = _changed(edits.shot_at(project.shots, frame), request)
        full, width = request.get("full") is True, request.get("width", WIDTH)
        if not isinstance(width, int) or not 1 <= width <= WIDTH:
            raise ValueError(f"width {width!r}; give a number from 1 to {WIDTH}.")
        grays = [project.pictures.full(frame)] if full else None
        images = self._colored(shot, (frame, frame + 1), alone(project.settings), grays)
        if images is None:
            return None
        return png(images[0]) if full else jpeg(images[0], width)

    def clip(self, request: dict[str, Any]) -> dict[str, int] | None:
        """Color the frames of `CLIP` seconds around a frame, within its shot.

        Args:
            request: `frame`.

        Returns:
            `id`, `start` and `end` (the frame after the last), for `clip_frame`; None if something
            else was asked for before it was complete.

        Raises:
            ValueError: as `preview`.
        """
        project = self.opened()
        frame = _frame(request, project)
        shot = edits.shot_at(project.shots, frame)
        part = _around(shot, frame, min(LONGEST, max(1, round(CLIP * project.plan.film.rate))))
        try:
            images = self._colored(shot, part, project.settings, shown=True)
        finally:
            self.clip_progress = None
        if images is None:
            return None
        number = next(self._numbers)
        self._clip = number, dict(zip(range(*part), map(jpeg, images), strict=True))
        return {"id": number, "start": part[0], "end": part[1]}

    def clip_frame(self, number: int, frame: int) -> bytes:
        """Return a frame of the last clip as a JPEG.

        Raises:
            ValueError: if it is not in the clip.
        """
        own, images = self._clip
        if own != number or frame not in images:
            raise ValueError("this clip is no longer kept; ask for it again.")
        return images[frame]

    def cancel(self) -> None:
        """Stop the preview or the clip that is computed."""
        self._asked = next(self._numbers)

    def _colored(
        self,
        shot: PlannedShot,
        part: Shot,
        settings: ColorizeSettings,
        grays: list[np.ndarray] | None = None,
        shown: bool = False,
    ) -> list[np.ndarray] | None:
        """Color a part of a shot; return None if something else is asked for meanwhile."""
        number, project = next(self._numbers), self.opened()
        if grays is None:
            self._asked = number

        def check(done: int, total: int) -> None:
            if number != self._asked and grays is None:
                raise _Superseded
            if shown:
                self.clip_progress = {"done": done, "total": total}

        try:
            with self._device.turn(project.plan, check) as networks:
                return list(color_part(project, networks, shot, part, settings, check, grays))
        except _Superseded:
            return None

    def keep_image(self, file: Path | BinaryIO, name: str) -> str:
        """Keep an image beside the plan, see `uploads.keep`."""
        project = self.opened()
        folder = self.folders.check(project.images)
        return keep(file, name, folder, upright_size(project.plan.film))

    def mask(self, shot: int, region: int, frame: int) -> bytes | None:
        """Return an image that shows the mask of a region in a frame of its shot.

        Returns:
            The image; None if another mask was asked for before this one was complete.

        Raises:
            ValueError: if there is none.
        """
        project = self.opened()
        if not 0 <= shot < len(project.shots):
            raise ValueError(f"shot {shot} is not known; look at the plan, and try again.")
        own = project.shots[shot]
        if not 0 <= region < len(own.regions) or not own.start <= frame < own.end:
            raise ValueError(f"region {region} is not known; look at the plan, and try again.")
        number = self._shown = next(self._numbers)

        def check() -> None:
            if number != self._shown:
                raise _Superseded

        text, _ = own.regions[region]
        try:
            cover = project.masks.cover(text, (own.start, own.end), frame, check)
        except _Superseded:
            return None
        size = project.pictures.height, project.pictures.width
        return overlay(resize(np.zeros(size) if cover is None else cover, *size))


def _frame(request: dict[str, Any], project: Project) -> int:
    frame = request.get("frame")
    if not isinstance(frame, int) or not 0 <= frame < project.plan.frames:
        raise ValueError(f"frame {frame!r}; give a number from 0 to {project.plan.frames - 1}.")
    return frame


def _around(shot: PlannedShot, frame: int, count: int) -> Shot:
    """Return `count` frames of a shot, with `frame` in the middle if it is not near an end."""
    start = max(shot.start, min(frame - count // 2, shot.end - count))
    return start, min(shot.end, start + count)


def _changed(shot: PlannedShot, request: dict[str, Any]) -> PlannedShot:
    """Return a shot with what a request names in place of the plan's."""
    for action, key in (("palette", "colors"), ("seed", "seed"), ("strength", "strength")):
        if key in request:
            wanted = {"action": action, "shots": [0], "value": request[key], "shot": 0}
            if action == "palette" and "region" in request:
                wanted |= {"action": "color_region", "region": request["region"]}
            (shot,) = edits.edit((shot,), wanted | {"colors": request.get("colors")})
    return shot
