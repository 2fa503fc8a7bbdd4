"""`sample.py` with films of cameras, discs and receivers: what comes out, what it says."""

import json
import warnings

import av
import numpy as np
import pytest

from palette_vc_jax.commands import sample
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from tests import films, tiny
from tests.commands import command
from tests.recordings import RATE, flip, join, write_recording


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def color(model, capsys):
    """Run `sample.py`; return its exit code and what it says, without the lines of progress."""

    def run(source, output, *flags):
        given = ["--input", source, "--output", output, "--checkpoint", model]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            code = command(sample.main, *given, "--palette", "khaki", *flags)
        said = capsys.readouterr().err.splitlines()
        return code, [line for line in said if line.startswith("error")] + [
            str(warning.message) for warning in warned if warning.category is UserWarning
        ]

    return run


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_camera_film_with_stereo_pcm_becomes_mp4(color, tmp_path):
    """If this fails, hours of coloring are lost as the file is closed."""
    source = write_recording(tmp_path / "cam.avi", 8, "mpeg4", "pcm_s16le")
    assert color(source, tmp_path / "o.mp4") == (0, [])
    packets = b"".join(films.sound_packets(tmp_path / "o.mp4"))
    assert packets == b"".join(films.sound_packets(source))
    assert len(list(read_frames(open_film(tmp_path / "o.mp4")))) == 8


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_joined_vobs_become_one_film(color, tmp_path, suffix):
    """If this fails, coloring a joined disc ends at the seam with nothing."""
    part = write_recording(tmp_path / "a.vob", 10, "mpeg2video", "ac3", "vob")
    whole = join(tmp_path / "ab.vob", part, part)
    assert color(whole, tmp_path / f"o{suffix}") == (0, [])
    output = open_film(tmp_path / f"o{suffix}")
    times = [float(frame.pts * output.time_base) for frame in read_frames(output)]
    assert len(times) == 20 and times[-1] == pytest.approx(19 / RATE, abs=0.1)
    assert films.sound_packets(output.path) == 2 * films.sound_packets(part)


def test_a_damaged_film_is_refused_or_colored_with_a_list(color, tmp_path):
    """If this fails, an archive's only copy is refused, or its damage is not written down."""
    source = write_recording(tmp_path / "a.mkv", 20, "ffv1", options={"slicecrc": "1", "g": "1"})
    flip(source)
    before = names(tmp_path)
    code, said = color(source, tmp_path / "o.mkv")
    assert code == 2 and len(said) == 1 and "--damaged repeat" in said[0]
    assert names(tmp_path) == before

    code, said = color(source, tmp_path / "o.mkv", "--damaged", "repeat", "--report")
    assert code == 0 and len(said) == 1
    assert "repeated" in said[0] and "o.run.json" in said[0]
    record = json.loads((tmp_path / "o.run.json").read_text())
    assert record["damaged"] == "repeat" and record["frames"] == 20
    lost = record["damage"]  # one frame that FFmpeg jumps over, and one with a wrong checksum
    page = (tmp_path / "o.report.html").read_text()
    assert len(lost) == 2 and "Damaged frames" in page
    for entry in lost:
        assert entry["what"] == "repeated" and entry["seconds"] == entry["frame"] / RATE
        assert f"<td>{entry['frame']}<td>{entry['seconds']:.2f}" in page

    code, _ = color(source, tmp_path / "d.mkv", "--damaged", "drop")
    assert code == 0 and len(list(read_frames(open_film(tmp_path / "d.mkv")))) == 18
    assert json.loads((tmp_path / "d.run.json").read_text())["damage"][0]["what"] == "dropped"


def test_a_cut_film_is_colored_up_to_the_cut(color, tmp_path):
    """If this fails, what a crashed recorder left is lost, or half a film passes for all of it."""
    source = write_recording(tmp_path / "a.avi", 40, "mpeg4", "pcm_s16le")
    films.truncate(source, 0.6)
    code, said = color(source, tmp_path / "o.mkv")
    assert code == 2 and "truncated" in said[0] and not (tmp_path / "o.mkv").exists()
    code, said = color(source, tmp_path / "o.mkv", "--damaged", "drop")
    assert code == 0 and "of 1.6 seconds" in said[0]
    record = json.loads((tmp_path / "o.run.json").read_text())
    assert record["damage"][-1]["what"] == "missing"
    assert len(list(read_frames(open_film(tmp_path / "o.mkv")))) == record["frames"] < 40


def test_times_that_a_container_cannot_hold_are_refused(color, shared, tmp_path):
    """If this fails, such a film ends in a traceback, or its last frame comes days too early."""
    inputs = shared / "reviews" / "inputs"
    if not inputs.is_dir():
        pytest.skip("needs ../shared/reviews/inputs")
    for name in ("gap.nut", "late_start.mkv"):
        for suffix in (".mp4", ".mov"):
            code, said = color(inputs / name, tmp_path / f"o{suffix}")
            assert code == 2 and len(said) == 1 and "between two frames" in said[0]
            assert ".mkv" in said[0]
        assert names(tmp_path) == set()
    assert color(inputs / "gap.nut", tmp_path / "o.mkv") == (0, [])
    times = [frame.pts for frame in read_frames(open_film(tmp_path / "o.mkv"))]
    assert times == [0, 33, 720_000_000]


def test_frames_of_a_thousandth_are_kept(color, shared, tmp_path):
    """If this fails, the last frame of a film of high rate is hidden."""
    source = shared / "reviews" / "inputs" / "rate100000.mkv"
    if not source.is_file():
        pytest.skip("needs ../shared/reviews/inputs")
    for suffix in (".mp4", ".mov", ".mkv"):
        output = tmp_path / f"{suffix[1:]}{suffix}"
        assert color(source, output) == (0, [])
        assert len(list(read_frames(open_film(output)))) == 3


def test_tape_keeps_its_fields(color, tmp_path):
    """If this fails, the colored copy of a tape judders when it is deinterlaced."""
    source = write_recording(tmp_path / "a.dv", 4, "dvvideo", "pcm_s16le", size=(576, 720))
    assert color(source, tmp_path / "o.mp4") == (0, [])
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert open_film(tmp_path / "o.mp4").field_order == "bottom"


def test_a_plan_tells_the_damage(color, tmp_path, capsys):
    """If this fails, damage is known only after a night of coloring."""
    source = flip(write_recording(tmp_path / "a.mkv", 20, "ffv1", options={"slicecrc": "1"}))
    given = ["--input", source, "--output", tmp_path / "o.mkv", "--damaged", "repeat", "--dry_run"]
    assert command(sample.main, *given) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["damage"] and np.isfinite(plan["damage"][0]["seconds"])


def test_an_excerpt_is_colored_with_its_sound(color, tmp_path, capsys):
    """If this fails, a restorer has to cut a film before a scene of it can be tried."""
    source = write_recording(tmp_path / "a.mkv", 50, "ffv1", "pcm_s16le")
    flags = ["--start", "0.4s", "--frames", "12"]
    assert color(source, tmp_path / "o.mkv", *flags, "--report") == (0, [])
    record = json.loads((tmp_path / "o.run.json").read_text())
    assert record["frames"] == 12
    assert record["excerpt"] == {"first_frame": 10, "seconds": 0.4, "end_seconds": 0.88}
    whole, found = (
        [f.luma for f in read_frames(open_film(p))] for p in (source, tmp_path / "o.mkv")
    )
    np.testing.assert_array_equal(found, whole[10:22])
    kept, packets = films.sound_packets(tmp_path / "o.mkv"), films.sound_packets(source)
    assert kept == packets[packets.index(kept[0]) :][: len(kept)] and len(kept) > 20
    code, said = color(source, tmp_path / "q.mkv", "--start", "46", "--frames", "48")
    assert code == 0 and len(said) == 1
    assert "4 frames from 46 on; these are colored" in said[0]
    before = names(tmp_path)
    for bad in (["--start", "3s"], ["--start", "9", "--end", "9"], ["--end", "x"]):
        code, said = color(source, tmp_path / "p.mkv", *bad)
        assert code == 2 and len(said) == 1 and names(tmp_path) == before


def test_a_copy_for_players_is_written(color, tmp_path):
    """If this fails, the flags of the output are accepted and have no effect."""
    source = write_recording(tmp_path / "a.avi", 8, "mpeg4", "adpcm_ms", size=(49, 65))
    flags = ["--codec", "hevc", "--quality", "30", "--playable", "--audio", "aac", "--report"]
    assert color(source, tmp_path / "o.mp4", *flags) == (0, [])
    output = open_film(tmp_path / "o.mp4")
    assert (output.width, output.height, output.audio) == (66, 50, ("aac",))
    record = json.loads((tmp_path / "o.run.json").read_text())["output_options"]
    assert record == {"audio": "aac", "codec": "hevc", "quality": 30.0, "playable": True}
    code, said = color(source, tmp_path / "p.mov", "--codec", "dnxhr")
    assert code == 2 and len(said) == 1 and "h264, hevc" in said[0]
