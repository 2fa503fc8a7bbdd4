"""Y4M: films through pipes."""

import io
import sys
import tempfile
import types
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.pipes import from_stdin, to_stdout
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import FilmWriter, check_times
from tests.films import lumas, write_film


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Keep temporary files in a folder of the test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def pipe(monkeypatch, data, terminal=False):
    """Replace standard input."""
    stream = types.SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stream)


@pytest.mark.parametrize(
    ("depth", "pix_fmt", "written"),
    [(8, "yuv420p", 8), (10, "yuv420p10le", 10), (16, "gray16le", 16), (12, "yuv420p12le", 12)],
)
@pytest.mark.parametrize("full", [False, True])
def test_a_film_goes_through_pipes(
    tmp_path, monkeypatch, capsysbinary, temporary, depth, pix_fmt, written, full
):
    """If this fails, VapourSynth and FFmpeg get another film than a file would hold."""
    pictures = lumas(3, 48, 65, depth, full)
    tags = (2 if full else 1, 1, 1, 1)
    source = write_film(tmp_path / "a.mkv", pictures, pix_fmt=pix_fmt, tags=tags)
    pipe(monkeypatch, source.read_bytes())
    with from_stdin("-") as name, to_stdout("-") as output:
        film = open_film(name)
        with FilmWriter(output, film) as writer:
            for frame in read_frames(film):
                writer.write(frame, np.zeros((48, 65, 2), np.float32))
        print("a text")
    assert list(temporary.iterdir()) == []
    out, err = capsysbinary.readouterr()
    assert out.startswith(b"YUV4MPEG2 W65 H48 F24:1") and err == b""
    (tmp_path / "b.y4m").write_bytes(out)
    film = open_film(tmp_path / "b.y4m")
    assert (film.depth, film.full_range) == (written, full)
    np.testing.assert_array_equal([frame.luma for frame in read_frames(film)], pictures)


def test_errors_leave_nothing(monkeypatch, capsysbinary, temporary):
    """If this fails, a program down the pipe takes half a film for a whole one."""
    pipe(monkeypatch, b"x")
    with pytest.raises(RuntimeError), from_stdin("-") as name, to_stdout("-") as output:
        for path in (name, output):
            with open(path, "wb") as file:
                file.write(b"half")
        raise RuntimeError
    assert list(temporary.iterdir()) == [] and capsysbinary.readouterr().out == b""


@pytest.mark.parametrize(("data", "terminal"), [(b"", False), (b"x", True)])
def test_an_empty_pipe_is_refused(monkeypatch, temporary, data, terminal):
    """If this fails, the command waits for ever for a film from the keyboard."""
    pipe(monkeypatch, data, terminal)
    with pytest.raises(ValueError, match="pipe a film to it"), from_stdin("-"):
        pass
    assert list(temporary.iterdir()) == []


def test_audio_is_named(tmp_path):
    """If this fails, a film loses its sound without a word."""
    source = open_film(write_film(tmp_path / "a.mkv", lumas(2), sound="pcm_s16le"))
    with pytest.warns(UserWarning, match="y4m holds no audio"):
        with FilmWriter(tmp_path / "b.y4m", source) as writer:
            for frame in read_frames(source):
                writer.write(frame, np.zeros((48, 64, 2), np.float32))
    with av.open(str(tmp_path / "b.y4m")) as container:
        assert len(container.streams) == 1


def test_a_variable_rate_is_named(tmp_path):
    """If this fails, a film runs out of step with its sound without a word."""
    times, base = [0, 40, 200], Fraction(1, 1000)
    source = write_film(tmp_path / "a.mkv", lumas(3), times=times, time_base=base)
    with pytest.warns(UserWarning, match="constant frame rate"):
        check_times(tmp_path / "b.y4m", open_film(source), Fraction(160, 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_times(tmp_path / "b.y4m", open_film(source), Fraction(42, 1000))
