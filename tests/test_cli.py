"""How commands end."""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from palette_vc_jax import cli
from palette_vc_jax.commands import main
from palette_vc_jax.studio import guard
from tests import films
from tests.commands import command

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("two\nlines"), 2),
        (ValueError("a name of \x1b[2J and \udcff.mkv"), 2),
        (OSError(28, "No space left on device"), 1),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (OSError(36, "File name too long", "x"), 2),
        (FloatingPointError("not finite"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_known_errors_are_one_line_and_a_code(capsys, error, code):
    """If this fails, a script that calls a command cannot tell whose fault it was."""

    def main():
        raise error

    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == code
    said = capsys.readouterr().err
    assert said.rstrip("\n").isprintable()
    assert said.count("\n") == 1 and "Traceback" not in said and "\x1b" not in said


def test_names_are_printed_as_one_line(tmp_path, monkeypatch, capsys):
    """If this fails, the name of a file moves the cursor, or a message becomes two lines."""
    name = "a\n\x1b[2J  b\u202e"
    shown = r"a\n\x1b[2J  b\u202e"
    monkeypatch.chdir(tmp_path)
    films.write_film(tmp_path / f"{name}.mkv", films.lumas(2), chroma=128)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / f"{name}.mp4").write_text("no film")
    (tmp_path / "films" / f"{name}.srt").write_text("no film")
    given = ["trim", "--input", f"{name}.mkv", "--output", f"{name}2.mkv", "--strength", 0.5]
    assert command(main.main, *given) == 0
    batch = ["sample", "--input", "films", "--output", "out", "--palette", f"file:{name}.json"]
    assert command(main.main, *batch) == 1
    assert command(main.main, "trim", "--input", f"{name}.avi", "--output", "o.mkv") == 2
    guard.log(f"studio: error: {name}")
    found = capsys.readouterr()
    lines = [*found.out.splitlines(), *found.err.splitlines()]
    assert len(lines) > 7 and all(line.isprintable() for line in lines)
    assert all(shown in line for line in lines if not line.startswith("1 of 1 films"))


def test_a_signals_notes_and_warnings_are_one_line(capsys):
    """If this fails, what a stopped run keeps is printed as several lines."""

    def main():
        sys.stderr.write(warnings.formatwarning("a\nb", UserWarning, "x.py", 1))
        error = KeyboardInterrupt()
        error.add_note("a\nb.unfinished keeps what is finished")
        raise error

    with pytest.raises(SystemExit):
        cli.run(main)
    first, second = capsys.readouterr().err.splitlines()
    assert first == r"warning: a\nb" and r"a\nb.unfinished" in second


def test_defects_keep_their_traceback():
    """If this fails, a bug in the program is hidden behind a friendly line."""
    with pytest.raises(KeyError):
        cli.run(lambda: {}["missing"])


def test_progress_in_a_log_file_is_a_line_now_and_then(capsys, monkeypatch):
    """If this fails, a job under nohup or slurm looks frozen, or fills its log."""
    monkeypatch.setattr(cli, "INTERVAL", 0.05)
    for _ in cli.progress(range(6), "coloring", "frame"):
        time.sleep(0.03)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 5
    assert all(line.startswith("coloring: ") and "/6 [" in line for line in lines)
    monkeypatch.setattr(cli, "INTERVAL", 0.0)
    list(cli.progress(range(2), "encoding to a\n\x1b[2J", "frame"))
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith(r"encoding to a\n\x1b[2J: ") for line in lines)
    monkeypatch.setattr(cli, "INTERVAL", 30.0)
    list(cli.progress(range(6), "coloring", "frame"))
    list(cli.progress(range(6), "coloring", "frame", hidden=True))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["gs://bucket/run", "S3://bucket/x", "https://host/film.mp4"])
def test_remote_addresses_are_refused(text):
    """If this fails, each host of a pod writes to a local folder named after the bucket."""
    with pytest.raises(ValueError, match=f"--workdir={text}: .*:// is not supported; mount"):
        cli.local_path(text, "--workdir")


def test_local_paths_are_taken_as_they_are():
    """If this fails, a folder with a colon in its name cannot be used."""
    for text in ("runs/a", "/tmp/a:b", "C:/x", "a//b", "film: part 1.mp4"):
        assert str(cli.local_path(text, "--workdir")) == text.replace("//", "/")


@pytest.mark.parametrize(
    "flags",
    [
        ["convert/flax_to_svd.py", "--source=a", "--output=gs://b/x"],
        ["convert/svd_to_flax.py", "--source=gs://b/x", "--output=x"],
        ["evaluate.py", "--reference=s3://a/b", "--output=c"],
        ["sample.py", "--input=a.mp4", "--output=gs://a/b.mp4"],
        ["train.py", "--config=configs/davis.py:runlocal", "--workdir=gs://a/b"],
        ["train.py", "--config=configs/demo.py", "--workdir=b", "--config.data.root=gs://a/b"],
    ],
    ids=lambda flags: f"{flags[0]}{flags[-1].partition('=')[0]}",
)
def test_commands_refuse_remote_addresses(flags):
    """If this fails, a command writes to a local folder that is named after a bucket."""
    before = set(ROOT.iterdir())
    ended = subprocess.run([sys.executable, *flags], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and "mount" in ended.stderr.splitlines()[-1], ended.stderr
    assert set(ROOT.iterdir()) == before
