"""A folder with a film and its plan, opened as the studio opens it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from palette_vc_jax.models.store import load_model
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.project import Project, plan_of
from palette_vc_jax.studio.session import Session
from tests import films
from tests.commands import runtime_environment

PALETTE = '["#102030", "#305060", "#708090", "#a0b0c0", "#e0e0d0"]'
SHOTS = f"""{{"version": 1, "shots": [
  {{"start": 0, "end": 4, "palette": {PALETTE}, "seed": 3}},
  {{"start": 4, "end": 12, "palette": {PALETTE}, "keyframes": ["5=key.png"]}}
]}}
"""


def make_folder(folder: Path) -> Path:
    """Write a film of 12 frames and its plan of two shots; return the film's path."""
    folder.mkdir(parents=True, exist_ok=True)
    film = films.write_film(folder / "in.mkv", films.lumas(12))
    plan_of(film).write_text(SHOTS)
    return film


def open_session(film: Path, model: Path) -> Session:
    """Open a film as the page does."""
    session = Session(Folders([film.parent]), lambda: load_model(model))
    session.open(film).join()
    assert session.error is None, session.error
    return session


def open_project(film: Path, model: Path) -> Project:
    """Return the open film."""
    return open_session(film, model).opened()


@contextlib.contextmanager
def serving(film: Path, model: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `palette-vc studio` in a process; yield it and the page's address."""
    given = [film, "--checkpoint", model, "--no_browser"]
    environment = runtime_environment()
    environment["PYTHONPATH"] += f":{Path(__file__).resolve().parents[2]}"
    with subprocess.Popen(
        [sys.executable, "-m", "palette_vc_jax", "studio", *map(str, given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process, process.stdout.readline().removeprefix("studio: ").strip()
        finally:
            process.kill()
