"""The state behind the page: the model, the open film, previews and proposals of palettes."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from palette_vc_jax import DEMO
from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.spec import mixture_for, named_file, parse_spec
from palette_vc_jax.palette.words import from_words, proposer, remarks
from palette_vc_jax.sampling import tags
from palette_vc_jax.sampling.auto import (
    FRAMES,
    palette_of_grays,
    saturate,
    spread,
    training_colorfulness,
)
from palette_vc_jax.sampling.colorize import ColorizeSettings, default_settings, networks_for
from palette_vc_jax.sampling.frames import color_frames
from palette_vc_jax.sampling.plan import Plan, plan_film
from palette_vc_jax.sampling.plan_file import PlannedShot, check_end, cuts_of, read_plan
from palette_vc_jax.sampling.reference import Reference, parse_reference
from palette_vc_jax.studio import edits
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.pictures import Pictures, jpeg
from palette_vc_jax.studio.project import Project, plan_of, with_colors
from palette_vc_jax.video.film import open_film


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
        self._load = functools.cache(load)
        self._networks: tuple[tuple[Any, ...], Networks] | None = None
        self._device = threading.Lock()  # one computation at a time
        self._numbers = itertools.count(1)
        self._opened = 0  # number of the last film that was asked for
        self._asked = 0  # number of the last preview that was asked for

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
            self.project, self.error, self.opening = project or self.project, error, None

    def _read(self, path: Path, report: Callable[..., None]) -> Project:
        model = self._load()
        file = self.folders.check(plan_of(path))
        film = open_film(path)
        given = read_plan(file, film.rate) if file.exists() else None
        cuts = cuts_of(given) if given else None
        find = functools.partial(report, "finding the shots")
        plan = plan_film(film, model, default_settings(model.config, devices=1), None, find, cuts)
        report("choosing the first palette")
        pictures = Pictures(plan)
        automatic = functools.cache(lambda part: self._auto(plan, pictures, part))
        whole = 0, plan.frames

        def resolve(shot: PlannedShot) -> Palette | None:
            part = whole if shot.palette is None else (shot.start, shot.end)
            spec = shot.palette or "auto"
            return self._palette(spec, plan, shot.seed or 0, lambda: automatic(part))

        if given:
            check_end(given, plan.frames)
            return Project(plan, pictures, file, with_colors(given, resolve))
        palette, shots = automatic(whole), [PlannedShot(*shot, "") for shot in plan.shots]
        return Project(plan, pictures, file, with_colors(shots, lambda _: palette))

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
            return self._auto(project.plan, project.pictures, part)

        return self._palette(spec, project.plan, 0, auto)

    def preview(self, request: dict[str, Any]) -> bytes | None:
        """Color one frame, in a window of that frame alone.

        Args:
            request: `frame`, and optionally the shot's `colors`, `seed` and `strength`, in place
                of those of the plan.

        Returns:
            A JPEG; None if another preview was asked for before this one began.
        """
        number = self._asked = next(self._numbers)
        project = self.opened()
        frame = request.get("frame")
        if not isinstance(frame, int):
            raise ValueError(f"frame is {frame!r}; give a whole number.")
        shot = edits.shot_at(project.shots, frame)
        for action, key in (("palette", "colors"), ("seed", "seed"), ("strength", "strength")):
            if key in request:
                wanted = {"action": action, "shots": [0], "colors": request.get("colors")}
                (shot,) = edits.edit((shot,), wanted | {"value": request[key]})
        gray = project.pictures[frame].gray
        if shot.strength == 0.0:
            return jpeg(gray)
        palette = parse_spec(shot.palette or "none")
        reference = _reference(shot.reference) or project.plan.reference
        with self._device:
            if number != self._asked:
                return None
            networks = self._on_device(project.plan)
            rgb = color_frames(
                gray[None].astype(np.float32) / np.float32(255.0),
                networks,
                palette,
                _alone(project.plan.settings),
                seed=shot.seed or 0,
                reference=reference,
                shots=[(frame, frame + 1)],
                matrix=project.plan.film.matrix,
            )[0]
        if shot.strength != 1.0:
            rgb = saturate(rgb, shot.strength, np.zeros(2), project.plan.film.matrix)
        return jpeg(np.rint(255.0 * rgb).astype(np.uint8))

    def _palette(
        self, spec: str, plan: Plan, seed: int, auto: Callable[[], Palette]
    ) -> Palette | None:
        file = named_file(spec)
        if file is not None:
            self.folders.check(file)
        model = self._load()

        def name_tags() -> tuple[Any, str]:
            tagger, name = tags.load_tagger("clip", model.folder or DEMO)
            with self._device:
                return tags.tag_film(plan.film, plan.shots, tagger), name

        mixture = mixture_for("", model.folder or DEMO)
        words = functools.partial(from_words, propose=proposer(), name_tags=name_tags)
        return parse_spec(spec, mixture, seed, words, auto)

    def _auto(self, plan: Plan, pictures: Pictures, part: tuple[int, int]) -> Palette:
        """Return the automatic palette of a part of a film, as `auto_palettes` does."""
        model = self._load()
        target = training_colorfulness(mixture_for("auto", model.folder or DEMO))
        grays = np.stack([pictures[frame].small for frame in spread(part, FRAMES)])
        settings = dataclasses.replace(plan.settings, short_side=min(plan.size))
        with self._device:
            networks = self._on_device(plan)
            return palette_of_grays(
                grays, networks, target, settings, 0, plan.reference, plan.film.matrix
            )

    def _on_device(self, plan: Plan) -> Networks:
        """Return the networks; they stay loaded while the settings of the hardware stay."""
        settings = plan.settings
        key = settings.devices, settings.dtype, settings.decode_dtype, settings.leaving
        if self._networks is None or self._networks[0] != key:
            self._networks = None
            self._networks = key, networks_for(self._load(), settings, [[(0, 1)]])
        return self._networks[1]


def described(palette: Palette | None) -> dict[str, Any]:
    """Return a proposed palette as the page reads it."""
    if palette is None:
        return {"colors": None, "source": "none", "remarks": []}
    colors = palette.hex()
    return {"colors": colors, "source": palette.source, "remarks": remarks(palette)}


def _alone(settings: ColorizeSettings) -> ColorizeSettings:
    """Return settings for a window of one frame, which takes the least time."""
    sampler = dataclasses.replace(settings.sampler, window=1, overlap=0, windows_per_batch=1)
    return dataclasses.replace(
        settings, sampler=sampler, encode_batch=1, decode_chunk=1, decode_context=0, decode_fade=0
    )


@functools.lru_cache(maxsize=8)
def _reference(text: str | None) -> Reference | None:
    return None if text is None else parse_reference(text)
