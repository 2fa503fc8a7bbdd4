"""A folder with a film and its plan, opened as the studio opens it."""

from pathlib import Path

from palette_vc_jax.models.store import load_model
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.project import Project, plan_of
from palette_vc_jax.studio.session import Session
from tests import films

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
