"""Files are complete or absent, and nothing but files is replaced."""

import os

import pytest

from palette_vc_jax import atomic
from tests.special import special


@pytest.mark.parametrize("kind", ["device", "fifo", "socket", "folder"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_refused_and_stays(tmp_path, kind, linked):
    """If this fails, /dev/null becomes a file of JSON."""
    place = special(tmp_path / "x", kind)
    target = tmp_path / "link" if linked else place
    if linked:
        target.symlink_to(place)
    before = os.lstat(place)
    for write in (lambda: atomic.check_targets([target]), lambda: atomic.write_text(target, "a")):
        with pytest.raises(ValueError, match="not a regular file"):
            write()
    after = os.lstat(place)
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert len(list(tmp_path.iterdir())) == 1 + linked


def test_an_input_is_refused_by_any_of_its_names(tmp_path):
    """If this fails, a run replaces a file that it reads, under another name of it."""
    source = tmp_path / "source"
    source.write_text("mine")
    (tmp_path / "soft").symlink_to(source)
    os.link(source, tmp_path / "hard")
    for name in ("source", "soft", "hard", "../" + tmp_path.name + "/source"):
        with pytest.raises(ValueError, match="the run reads this file"):
            atomic.check_targets([tmp_path / "new", tmp_path / name], [source])
    atomic.check_targets([tmp_path / "new"], [source, tmp_path / "missing"])


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    """If this fails, a link to another disk is replaced by a file that fills this one."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/file")
    atomic.write_text(tmp_path / "link", "one")
    atomic.write_text(tmp_path / "link", "two")
    assert os.readlink(tmp_path / "link") == "far/file"
    assert (tmp_path / "far" / "file").read_text() == "two"
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, kind, error):
    """If this fails, a run that breaks off costs the result of the one before, or leaves litter."""
    target = tmp_path / "out.txt"
    target.write_text("old") if kind == "file" else target.mkdir()
    with pytest.raises(error), getattr(atomic, kind)(target) as partial:
        assert partial.parent == tmp_path and partial.suffix == ".txt"
        (partial if kind == "file" else partial / "a").write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    assert target.read_text() == "old" if kind == "file" else not list(target.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_two_runs_do_not_write_the_same_place_at_once(tmp_path, kind):
    """If this fails, a result is half of one run and half of another."""
    place = getattr(atomic, kind)
    target = tmp_path / "out"
    with place(target) as partial:
        (partial if kind == "file" else partial / "a").write_text("first")
        with pytest.raises(OSError, match="another run"), place(target):
            pass
    assert (target if kind == "file" else target / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_no_part_of_the_next(tmp_path, kind):
    """If this fails, what a killed run left stays for ever, or gets into a later result."""
    target = tmp_path / "out"
    with getattr(atomic, kind)(target) as partial:
        left = partial
    assert target.exists()
    if kind == "file":
        left.write_text("left over")
    else:
        (left / "sub").mkdir(parents=True)
        (left / "old").write_text("left over")
    with getattr(atomic, kind)(target) as partial:
        assert partial == left
        (partial if kind == "file" else partial / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target if kind == "file" else target / "a").read_text() == "new"
    assert kind == "file" or len(list(target.iterdir())) == 1


def test_a_folder_that_holds_something_is_refused(tmp_path):
    """If this fails, a model is written over another, or into a folder of the user's."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("full", "file", "dangling"):
        with pytest.raises(ValueError, match="exists already"):
            atomic.check_folder(tmp_path / name)
    with pytest.raises(ValueError, match="no such folder"):
        atomic.check_folder(tmp_path / "missing" / "model")


def test_a_kill_while_a_folder_is_replaced_does_not_block_the_next(tmp_path):
    """If this fails, a run that was killed while it exported can never export again."""
    target = tmp_path / "model"
    for folder in (target, tmp_path / ".model.partial-before"):
        folder.mkdir()
        (folder / "old").write_text("old")
    with atomic.folder(target, replace=True) as partial:
        (partial / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]
