"""Edits of a plan, their file, and undo."""

from fractions import Fraction

import pytest

from palette_vc_jax.sampling.plan_file import read_film_settings, read_plan
from palette_vc_jax.studio.project import Stale, plan_of
from tests.studio.projects import make_folder, open_project


@pytest.fixture
def project(tmp_path, model):
    return open_project(make_folder(tmp_path), model)


@pytest.fixture
def edit(project):
    def run(action, **values):
        project.edit({"action": action, "revision": project.revision, **values})

    return run


def test_each_edit_is_in_the_file(project, edit):
    """If this fails, a film is colored by another plan than the page shows."""
    edit("split", frame=6)
    edit("palette", shots=[1, 2], colors=["tomato", "#008080"])
    edit("seed", shots=[2], value=7)
    edit("strength", shots=[1], value=0.5)
    edit("keep_gray", shots=[0], value=True)
    first, second, third = read_plan(project.file, Fraction(24))
    assert [(one.start, one.end) for one in (first, second, third)] == [(0, 4), (4, 6), (6, 12)]
    assert second.palette == "#008080,#008080,#008080,#ff6347,#ff6347" == third.palette
    assert (first.strength, second.strength, third.strength) == (0.0, 0.5, 1.0)
    assert (first.seed, second.seed, third.seed) == (3, 0, 7)
    assert second.keyframes == ("5=key.png",) and third.keyframes == ()


def test_merged_shots_keep_keyframes(project, edit):
    """If this fails, merging shots loses a keyframe that was painted by hand."""
    edit("merge", shot=0)
    (shot,) = read_plan(project.file, Fraction(24))
    assert (shot.start, shot.end, shot.seed, shot.keyframes) == (0, 12, 3, ("5=key.png",))


def test_neutral_areas_are_in_the_file(project, edit):
    """If this fails, the film's bars have other colors than the preview showed."""
    edit("neutral", dark=0.25, bright=0.75)
    assert read_film_settings(project.file) == {"neutral_dark": 0.25, "neutral_bright": 0.75}
    assert project.settings.neutral == (0.25, 0.75)
    edit("undo")
    assert read_film_settings(project.file) == {}
    assert project.settings.neutral == project.plan.settings.neutral


def test_undo_and_redo_change_the_file(project, edit):
    """If this fails, an undone edit comes back when the film is colored."""
    edit("merge", shot=0)
    edit("undo")
    assert len(read_plan(project.file, Fraction(24))) == 2
    edit("redo")
    assert len(read_plan(project.file, Fraction(24))) == 1
    with pytest.raises(ValueError, match="nothing to redo"):
        edit("redo")


@pytest.mark.parametrize("request_of_the_page", [
    {"action": "split", "frame": 4}, {"action": "split", "frame": "6"},
    {"action": "merge", "shot": 1}, {"action": "merge"},
    {"action": "seed", "shots": [0], "value": -1}, {"action": "seed", "shots": [2], "value": 1},
    {"action": "palette", "shots": [0], "colors": ["nocolor"]}, {"action": "drop", "shots": [0]},
    {"action": "neutral", "dark": 0.8, "bright": 0.2}, {"action": "neutral", "dark": "0"},
    {"action": "strength", "shots": [0], "value": 3}, {"action": "strength", "shots": []},
])  # fmt: skip
def test_a_wrong_edit_changes_nothing(project, request_of_the_page):
    """If this fails, a request that is not valid damages the plan."""
    before = project.file.read_text()
    with pytest.raises(ValueError):
        project.edit({"revision": 0, **request_of_the_page})
    assert (project.file.read_text(), project.revision) == (before, 0)


def test_other_windows_and_programs_are_not_overwritten(project, edit):
    """If this fails, a second window or an editor loses what it has saved."""
    edit("merge", shot=0)
    with pytest.raises(Stale):
        project.edit({"action": "undo", "revision": 0})
    project.file.write_text("mine")
    with pytest.raises(ValueError, match="another program"):
        edit("undo")
    assert project.file.read_text() == "mine"


def test_a_new_film_gets_shots_and_an_automatic_palette(tmp_path, model):
    """If this fails, a film without a plan cannot be opened, or opening it writes a file."""
    film = make_folder(tmp_path)
    plan_of(film).unlink()
    project = open_project(film, model)
    assert len(project.shots) == 1 and project.describe()["shots"][0]["palette"][0][0] == "#"
    assert not project.file.exists()
