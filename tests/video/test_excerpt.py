"""Excerpts: the same frames, times and sound as that part of the whole film."""

import re
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from palette_vc_jax.video import excerpt
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import FilmWriter
from tests.films import lumas, sound_packets, sound_times, write_film, write_pictures
from tests.recordings import RATE, flip, write_recording

OPEN = {"x264-params": "open-gop=1:keyint=8:min-keyint=4:bframes=3:scenecut=0"}
KINDS = {
    "intra.mkv": ("ffv1", {"g": "1"}, True),
    "inter.mkv": ("ffv1", {"g": "8", "level": "1", "coder": "0"}, True),
    "open.mp4": ("libx264", OPEN, True),
    "open.mkv": ("libx264", OPEN, True),
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=8:bframes=0"}, False),
    "mpeg4.mov": ("mpeg4", {"bf": "2", "g": "8"}, True),
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "8"}, False),
    "mpeg2.ts": ("mpeg2video", {"bf": "2", "g": "8"}, False),
    "mpeg2.vob": ("mpeg2video", {"bf": "2", "g": "8"}, False),
    "vp9.webm": ("libvpx-vp9", {"g": "8", "deadline": "realtime", "cpu-used": "8"}, True),
}


def write_gray(film, output):
    """Write a film with neutral colors."""
    with FilmWriter(output, film) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((film.height, film.width, 2), np.float32))


def content(film):
    return [(frame.index, frame.pts * film.time_base, frame.luma) for frame in read_frames(film)]


@pytest.mark.parametrize("name", KINDS)
def test_an_excerpt_is_that_part_of_the_film(tmp_path, name):
    """If this fails, an excerpt shows other frames than the film, or at other times."""
    codec, options, seekable = KINDS[name]
    path = write_recording(tmp_path / name, 30, codec, options=options)
    whole = content(open_film(path))
    for start, end in ((0, 5), (13, 17), (20, 30), (16, 99)):
        film = open_film(path, "stop", str(start), str(end))
        assert bool(film.excerpt.entry) == (seekable and start > 0)
        assert film.excerpt.entry is None or film.excerpt.entry[1] > start - 9
        found = content(film)
        assert film.frames == len(found) == min(end, 30) - start
        for (index, time, luma), (number, before, expected) in zip(
            found, whole[start:end], strict=True
        ):
            assert index == number - start and time == before - whole[start][1]
            np.testing.assert_array_equal(luma, expected)


def test_only_the_beginning_of_a_long_film_is_read(tmp_path, monkeypatch):
    """If this fails, a preview of an archive's film waits until all of its terabytes are read."""
    path = write_recording(tmp_path / "a.mkv", 200, "mpeg4", options={"bf": "2", "g": "8"})
    whole = content(open_film(path))[20:26]
    read = []
    monkeypatch.setattr(
        excerpt, "shifted", lambda c, packets, s: (read.append(p) or p for p in packets)
    )
    for start, end, frames in (("20", "26", None), ("20", None, 6), ("0.8s", "1.04s", None)):
        film = open_film(path, "stop", start, end, frames)
        assert len(read) < 100 and film.excerpt.end is not None
        np.testing.assert_array_equal([f[2] for f in content(film)], [f[2] for f in whole])
        read.clear()


@pytest.mark.parametrize("mode", ["repeat", "drop"])
def test_damage_is_counted_in_the_excerpt(tmp_path, mode):
    """If this fails, the list of damaged frames names other frames than those of the excerpt."""
    path = write_recording(tmp_path / "a.mkv", 20, "ffv1", options={"slicecrc": "1", "g": "1"})
    flip(path)
    before: list = []
    whole = list(read_frames(open_film(path, mode), before))
    numbers = [item.frame for item in before]
    start = numbers[0] - 2
    damage: list = []
    frames = list(read_frames(open_film(path, mode, str(start), str(start + 6)), damage))
    assert [item.frame for item in damage] == [n - start for n in numbers if n < start + 6]
    assert damage[0].seconds == pytest.approx(2 / RATE)
    kept = [frame for frame in whole if start / RATE - 1e-3 < frame.pts / 1000 < (start + 6) / RATE]
    np.testing.assert_array_equal([f.luma for f in frames], [f.luma for f in kept])


@pytest.mark.parametrize(
    ("start", "end", "frames", "expected"),
    [
        ("0.5s", "1s", None, (12, 24)),
        ("0.49s", "1.01s", None, (11, 25)),
        ("0:00.5", None, 3, (12, 15)),
        (None, None, 2, (0, 2)),
        ("20", None, None, (20, 30)),
        (None, "5s", None, (0, 30)),
        ("29", "1:00:00", None, (29, 30)),
    ],
)
@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "folder"])
def test_positions_are_frames_or_times(tmp_path, name, start, end, frames, expected):
    """If this fails, --start 0.5s begins elsewhere than the frame that is shown then."""
    if name == "folder":
        path = write_pictures(tmp_path / name, lumas(30, full_range=True))
    else:
        path = write_film(tmp_path / name, lumas(30))
    whole, found = content(open_film(path)), content(open_film(path, "stop", start, end, frames))
    assert len(found) == expected[1] - expected[0]
    for (_, _, luma), (_, _, before) in zip(found, whole[slice(*expected)], strict=True):
        np.testing.assert_array_equal(luma, before)


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.mp4", "libx264", "aac"), ("a.mkv", "ffv1", "pcm_s16le"), ("a.ts", "mpeg2video", "mp2")],
)
def test_sound_stays_in_step(tmp_path, name, codec, sound):
    """If this fails, an excerpt has the sound of another part of the film, or is out of step."""
    source = write_recording(tmp_path / name, 50, codec, sound, start=3.0 * name.endswith("ts"))
    film = open_film(source, "stop", "20", "35")
    write_gray(film, tmp_path / "o.mkv")
    packets, times = sound_packets(source), sound_times(source)
    begin = times[0] + 20 / RATE
    kept = sound_packets(tmp_path / "o.mkv")
    first = packets.index(kept[0])
    assert kept == packets[first : first + len(kept)]
    assert 0 <= times[first] - begin < 0.05
    assert abs(sound_times(tmp_path / "o.mkv")[0] - (times[first] - begin)) < 0.05
    assert abs(len(kept) * (times[1] - times[0]) - 15 / RATE) < 0.05


def test_chapters_are_those_of_the_excerpt(tmp_path):
    """If this fails, an excerpt has chapters that it does not show."""
    path = tmp_path / "a.mkv"
    write_film(tmp_path / "b.mkv", lumas(48))
    with av.open(str(tmp_path / "b.mkv")) as source, av.open(str(path), "w") as container:
        unit = Fraction(1, 1000)
        marks = [(0, 500), (500, 1000), (1000, 1500), (1500, 2000)]
        container.set_chapters(
            [
                {"id": n, "start": a, "end": b, "time_base": unit, "metadata": {"title": str(n)}}
                for n, (a, b) in enumerate(marks)
            ]
        )
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(0):
            packet.stream = stream
            if packet.size:
                container.mux(packet)
    film = open_film(path, "stop", "0.75s", "1.25s")
    write_gray(film, tmp_path / "o.mkv")
    with av.open(str(tmp_path / "o.mkv")) as container:
        found = [
            (c["metadata"]["title"], c["start"] * c["time_base"], c["end"] * c["time_base"])
            for c in container.chapters()
        ]
    assert found == [("1", 0, Fraction(1, 4)), ("2", Fraction(1, 4), Fraction(1, 2))]


def test_the_timecode_is_that_of_the_first_frame(tmp_path):
    """If this fails, an editor puts the excerpt at the beginning of the film."""
    path = write_recording(tmp_path / "b.mov", 30, "mpeg4")
    with av.open(str(path)) as source, av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.metadata["timecode"] = "10:00:00:00"
        for packet in source.demux(0):
            packet.stream = stream
            if packet.size:
                container.mux(packet)
    write_gray(open_film(tmp_path / "a.mov", "stop", "26"), tmp_path / "o.mov")
    with av.open(str(tmp_path / "o.mov")) as container:
        assert container.streams.video[0].metadata["timecode"] == "10:00:01:01"


@pytest.mark.parametrize("kind", ["film", "folder"])
@pytest.mark.parametrize(
    ("start", "end", "frames", "words"),
    [
        ("3", "3", None, "has no frames"),
        ("0.2s", "0.1s", None, "has no frames"),
        ("6", None, None, "after the end of the film, which has 6 frames"),
        ("9s", None, None, "after the end"),
        ("soon", None, None, "position 'soon' is not known"),
        ("-3", None, None, "not known"),
        ("1", "4", 2, "no end"),
        (None, None, 0, "1 or more"),
    ],
)
def test_impossible_excerpts_are_refused(tmp_path, kind, start, end, frames, words):
    """If this fails, an impossible excerpt ends in a traceback or in an empty film."""
    path = tmp_path / "a.mkv"
    if kind == "film":
        write_film(path, lumas(6))
    else:
        write_pictures(path, lumas(6, full_range=True))
    with pytest.raises(ValueError, match=words):
        open_film(path, "stop", start, end, frames)


@pytest.mark.parametrize("kind", ["a.mkv", "a.avi", "folder"])
@pytest.mark.parametrize(
    ("start", "end", "frames", "words"),
    [
        ("2", None, 5, "--frames 5 .* 4 frames from 2 on"),
        (None, "7", None, "--end 7 .* 6 frames from its beginning on"),
        ("0.1s", "9s", None, "--end 9s .* 4 frames from 0.1s on"),
        ("2", None, 4, None),
        ("2", "6", None, None),
        (None, "0.25s", None, None),  # 6 frames at 24 a second
    ],
)
def test_an_excerpt_past_the_end_is_told(tmp_path, kind, start, end, frames, words):
    """If this fails, an excerpt is shorter than was asked for, and nothing says so."""
    path = tmp_path / kind
    if kind == "folder":
        write_pictures(path, lumas(6, full_range=True))
    else:
        write_film(path, lumas(6))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        film = open_film(path, "stop", start, end, frames)
    assert len(said) == (words is not None)
    if words is not None:
        assert re.search(f"{words}; these are colored", str(said[0].message))
        assert film.frames == len(list(read_frames(film)))
