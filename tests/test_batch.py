"""Several films in one command."""

import pytest

from palette_vc_jax.commands import sample
from palette_vc_jax.commands.batch import list_films, outputs_of, skipped
from tests import films, tiny
from tests.commands import command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


def test_a_batch_goes_on_after_a_film_that_fails(model, tmp_path, capsys):
    """If this fails, one damaged reel stops the others, or nobody is told which one."""
    source = tmp_path / "films"
    source.mkdir()
    films.write_film(source / "b.mkv", films.lumas(3))
    (source / "c.mkv").write_text("not a film")
    films.write_film(source / "b.avi", films.lumas(2))
    (source / ".hidden").write_text("not a film")
    given = ["--input", source, "--output", tmp_path / "out", "--checkpoint", model]
    given += ["--palette", "teal"]
    assert command(sample.main, *given) == 1
    said = capsys.readouterr()
    rows = [line.split(" s  ") for line in said.out.splitlines()[-3:]]
    assert [row[0].split()[0] for row in rows] == ["b.avi", "b.mkv", "c.mkv"]
    assert [row[1].split(":")[0] for row in rows] == ["colored", "colored", "error"]
    assert "1 of 3 films failed" in said.err
    outputs = {path.name for path in (tmp_path / "out").glob("*.mkv")}
    assert outputs == {"b.avi.mkv", "b.mkv.mkv"}

    films.write_film(source / "c.mkv", films.lumas(2))  # repaired
    before = (tmp_path / "out" / "b.mkv.mkv").stat().st_mtime_ns
    assert command(sample.main, *given) == 0
    rows = [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows == ["complete before", "complete before", "colored"]
    assert (tmp_path / "out" / "b.mkv.mkv").stat().st_mtime_ns == before

    assert command(sample.main, *given, "--seed", 1) == 2
    assert "another flags.seed (0, now 1)" in capsys.readouterr().err
    assert command(sample.main, *given, "--seed", 1, "--overwrite") == 0
    rows = [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows == ["colored"] * 3


def test_several_inputs_and_single_ones_are_told_apart(tmp_path):
    """If this fails, a folder of frames is taken for a batch, or a film for a folder of frames."""
    frames = films.write_pictures(tmp_path / "frames", films.lumas(2, full_range=True))
    film = films.write_film(tmp_path / "a.mkv", films.lumas(2))
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "10.mkv").touch()
    assert list_films([frames]) is None and list_films([film]) is None
    assert list_films([folder]) == [folder / "10.mkv"]
    (folder / "9.mkv").touch()
    assert list_films([film, frames, folder]) == [film, frames, folder / "9.mkv", folder / "10.mkv"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(ValueError, match="no frames and no films"):
        list_films([tmp_path / "empty"])


def test_a_poster_beside_films_does_not_hide_them(tmp_path):
    """If this fails, a folder of films with one picture is colored as a film of that picture."""
    for name in ("reel 1.mkv", "cover.jpg", "reel 1-thumb2.png"):
        (tmp_path / name).touch()
    films = list_films([tmp_path])
    assert films == [tmp_path / "reel 1.mkv"]
    assert {path.name for path in skipped([tmp_path], films)} == {"cover.jpg", "reel 1-thumb2.png"}
    (tmp_path / "0001.png").touch()
    with pytest.raises(ValueError, match=r"films and images, such as 0001\.png"):
        list_films([tmp_path])


def test_files_that_are_no_films_are_skipped(model, tmp_path, capsys):
    """If this fails, a note beside the films counts as a failed film, or a named one is skipped."""
    source, output = tmp_path / "films", tmp_path / "out"
    source.mkdir()
    names = ["a.srt", "a.nfo", "Thumbs.db", "b.json", "cover.jpg", "notes.txt", "README"]
    for name in names:
        (source / name).write_text("no film")
    films.write_film(source / "a.MKV", films.lumas(2))
    given = ["--output", output, "--checkpoint", model, "--palette", "teal"]
    assert command(sample.main, "--input", source, *given) == 0
    said = capsys.readouterr().out.splitlines()
    (line,) = [line for line in said if line.startswith("skipped")]
    assert set(line.partition(": ")[2].split(", ")) == set(names)
    assert {path.name for path in output.glob("*.mkv")} == {"a.mkv"}
    (source / "damaged.avi").write_text("no film")
    assert command(sample.main, "--input", source, *given) == 1
    assert "1 of 2 films failed" in capsys.readouterr().err
    assert command(sample.main, "--input", source / "a.MKV", source / "notes.txt", *given) == 1
    said = capsys.readouterr()
    assert "notes.txt: error" in said.err and "skipped" not in said.out


def test_a_changed_film_or_palette_file_is_not_complete(model, tmp_path, capsys):
    """If this fails, a batch keeps the colors of an old scan or palette without a message."""
    source, palette = tmp_path / "films", tmp_path / "p.json"
    source.mkdir()
    for name in ("a.mkv", "b.mkv"):
        films.write_film(source / name, films.lumas(2))
    palette.write_text('{"colors": ["#ff0000"]}')
    given = ["--input", source, "--checkpoint", model, "--palette", f"file:{palette}", "--output"]
    assert command(sample.main, *given, source) == 2
    assert "folder of the films" in capsys.readouterr().err and len(list(source.iterdir())) == 2
    given += [tmp_path / "out"]
    assert command(sample.main, *given) == 0
    films.write_film(source / "b.mkv", films.lumas(3))
    assert command(sample.main, *given) == 1
    said = capsys.readouterr()
    assert "a.mkv       0.0 s  complete before" in said.out and "b.mkv: exists" in said.err
    palette.write_text('{"colors": ["#00ff00"]}')
    assert command(sample.main, *given) == 2
    assert "another files." in capsys.readouterr().err


def test_outputs_of_a_batch_have_names_of_their_own(tmp_path):
    """If this fails, one film of a batch replaces another."""
    names = ["x/a.mov", "x/b.mov", "x/b.avi"]
    found = outputs_of([tmp_path / name for name in names], tmp_path, ".mp4")
    assert [path.name for path in found] == ["a.mp4", "b.mov.mp4", "b.avi.mp4"]
    with pytest.raises(ValueError, match="several films are named a.mov"):
        outputs_of([tmp_path / "x" / "a.mov", tmp_path / "y" / "a.mov"], tmp_path, ".mp4")


@pytest.mark.parametrize(("flags", "word"), [(["--keyframe", "1=a.png"], "--keyframe with 2"),
                                             (["--plan", "p.json"], "--plan with 2"),
                                             (["--output", "a.mkv"], "not a folder")])  # fmt: skip
def test_flags_of_one_film_are_refused(model, tmp_path, capsys, monkeypatch, flags, word):
    """If this fails, the keyframe of one film is painted into all of them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mkv", "b.mkv"):
        films.write_film(tmp_path / name, films.lumas(2))
    given = ["--input", "a.mkv", "b.mkv", "--output", "out", "--checkpoint", model, *flags]
    assert command(sample.main, *given) == 2
    assert word in capsys.readouterr().err and not (tmp_path / "out").exists()
