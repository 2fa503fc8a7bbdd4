"""A night in small: twelve different films, colored by one command, compared with their sources."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from palette_vc_jax.commands import sample
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from tests import films, tiny
from tests.commands import command
from tests.recordings import flip, join, write_recording

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 8
TIMES = [0, 40, 90, 130, 250, 260, 400, 440]  # milliseconds of a film of variable rate


def _excerpt(source: Path, path: Path, frames: int) -> None:
    """Copy the first frames of a film and their sound, without encoding."""
    with av.open(str(source)) as given, av.open(str(path), "w") as copy:
        streams = {s.index: copy.add_stream_from_template(s) for s in given.streams}
        video = given.streams.video[0]
        end = frames / video.average_rate
        for packet in given.demux():
            if packet.dts is not None and packet.dts * packet.time_base < end:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)


def _write_films(folder: Path) -> set[str]:
    """Write twelve films; return the names of those that are damaged."""
    lumas, write = films.lumas(FRAMES), films.write_film
    _excerpt(ROOT / "examples" / "bikes.mp4", folder / "real.mp4", 4)
    write(folder / "archive.mkv", films.lumas(FRAMES, depth=10), "yuv422p10le", sound="flac")
    write(folder / "web.mp4", lumas, codec="libx264", sound="aac", turn=90)
    write(folder / "odd.mkv", films.lumas(FRAMES, 49, 65), "yuv444p", aspect=Fraction(16, 15))
    write(folder / "uneven.mkv", lumas, times=TIMES, time_base=Fraction(1, 1000))
    write(folder / "gray.mov", lumas, codec="libx264", turn=180)
    write(folder / "rgb.mkv", [np.dstack([f] * 3) for f in films.lumas(FRAMES)], "bgr0")
    write(folder / "hd.mkv", films.lumas(FRAMES, 720, 16), tags=(2, 1, 1, 1))
    write_recording(folder / "camera.avi", FRAMES, "mpeg4", "pcm_s16le")
    write_recording(folder / "disc.vob", FRAMES, "mpeg2video", "ac3", "vob")
    join(folder / "disc.vob", folder / "disc.vob", folder / "disc.vob")
    write_recording(folder / "scratched.mkv", 30, "mpeg4", "aac")
    flip(folder / "scratched.mkv")
    write(folder / "broken.mkv", films.lumas(40))
    films.truncate(folder / "broken.mkv", 0.6)
    return {"scratched.mkv", "broken.mkv"}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Color the films in one batch; return the folder of each kind."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "in").mkdir()
    damaged = _write_films(folder / "in")
    model = tiny.write_model(folder / "model", tiny.SMALL)
    given = ["--input", folder / "in", "--output", folder / "out", "--checkpoint", model]
    return folder, damaged, given


def test_a_folder_of_twelve_films(night, capsys):
    """If this fails, a film of a night's batch is lost, or differs from its source."""
    folder, damaged, given = night
    assert command(sample.main, *given, "--palette", "khaki") == 1
    said = capsys.readouterr().out.splitlines()
    results = {row.split()[0]: row.split(" s  ")[1] for row in said if " s  " in row}
    assert len(results) == 12
    assert {name for name, result in results.items() if result != "colored"} == damaged
    assert command(sample.main, *given, "--palette", "khaki", "--damaged", "repeat") == 2
    assert "another flags.damaged" in capsys.readouterr().err
    assert command(sample.main, *given, "--palette", "khaki", "--damaged", "repeat",
                   "--overwrite") == 0  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    assert [row.split(" s  ")[1] for row in said if " s  " in row] == ["colored"] * 12

    for path in (folder / "in").iterdir():
        source = open_film(path, "repeat")
        output = open_film(folder / "out" / f"{path.stem}.mkv")
        before, after = ([*read_frames(film)] for film in (source, output))
        assert len(before) == len(after), path
        times = [
            [float((frame.pts - frames[0].pts) * film.time_base) for frame in frames]
            for film, frames in ((source, before), (output, after))
        ]
        np.testing.assert_allclose(times[0], times[1], atol=1.1e-3, err_msg=path.name)
        difference = max(
            np.abs(a.luma.astype(int) - b.luma).max() for a, b in zip(before, after, strict=True)
        )
        assert difference <= (1 if source.is_rgb else 0), path
        assert (source.width, source.height) == (output.width, output.height)
        assert (source.display_matrix, source.sample_aspect) == (
            output.display_matrix,
            output.sample_aspect,
        ), path
        assert source.audio == output.audio, path
        if source.audio:
            assert films.sound_packets(path) == films.sound_packets(output.path), path
