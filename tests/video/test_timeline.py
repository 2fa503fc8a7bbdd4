"""Times of recordings: seams, wraps of the clock, late starts, damaged times, and AVI."""

from fractions import Fraction

import av
import numpy as np
import pytest

from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from tests.films import make_frame, sound_packets, sound_times
from tests.recordings import RATE, join, write_recording
from tests.video.test_audio import colored

# Name, muxer, pictures, sound: what discs, receivers and camcorders write.
RECORDINGS = [
    ("a.vob", "vob", "mpeg2video", "ac3"),
    ("a.mpg", "mpeg", "mpeg2video", "mp2"),
    ("a.ts", "mpegts", "mpeg2video", "mp2"),
    ("a.ts", "mpegts", "libx264", "aac"),
    ("a.vob", "vob", "mpeg2video", None),
    ("a.ts", "mpegts", "libx264", None),
]
B_FRAMES = {"bf": "2"}
STEP = 1 / RATE


def seconds(path) -> list[float]:
    film = open_film(path)
    return [float(frame.pts * film.time_base) for frame in read_frames(film)]


def offset(path) -> float:
    """Return how much later the pictures begin than the sound."""
    return seconds(path)[0] - sound_times(path)[0]


@pytest.mark.parametrize(("name", "muxer", "codec", "sound"), RECORDINGS)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_joined_recordings_are_one_film(tmp_path, name, muxer, codec, sound, suffix):
    """If this fails, the parts after a seam are lost, shown in a flash, or out of step."""
    part = write_recording(tmp_path / name, 50, codec, sound, muxer, options=B_FRAMES)
    other = write_recording(
        tmp_path / f"b{name}", 30, codec, sound, muxer, start=300, options=B_FRAMES
    )
    whole = join(tmp_path / f"ab{name}", part, other, part)
    output = colored(whole, tmp_path / f"out{suffix}")
    shown = seconds(output)
    assert len(shown) == 130
    # FFmpeg guesses the times of the last pictures of a VOB, which are half a frame apart then.
    assert min(np.diff(shown)) >= 0.45 * STEP and max(np.diff(shown)) <= 3 * STEP
    assert shown[0] < 0.1 and np.mean(np.diff(shown)) == pytest.approx(STEP, rel=0.02)
    if sound:
        pieces = [sound_packets(path) for path in (part, other, part)]
        head = 7 if sound == "aac" else 0  # bytes of the ADTS header, which only MPEG-TS has
        assert sound_packets(output) == [packet[head:] for packet in sum(pieces, [])]
        heard = sound_times(output)
        assert min(np.diff(heard)) > 0
        # In each part, the pictures are as far from the sound as they were.
        for first_picture, first_sound, source in (
            (0, 0, part), (50, len(pieces[0]), other), (80, sum(map(len, pieces[:2])), part)
        ):  # fmt: skip
            found = shown[first_picture] - heard[first_sound]
            assert found == pytest.approx(_raw_offset(source), abs=3e-3)


def _raw_offset(path) -> float:
    with av.open(str(path)) as container:
        starts = [float(s.start_time * s.time_base) for s in container.streams]
    return starts[0] - starts[1]


def test_a_seam_without_sound_in_one_part(tmp_path):
    """If this fails, a silent part in the middle shifts the sound of the part after it."""
    loud = write_recording(tmp_path / "a.ts", 50, "mpeg2video", "mp2")
    silent = write_recording(tmp_path / "b.ts", 30, "mpeg2video")
    output = colored(join(tmp_path / "c.ts", loud, silent, loud), tmp_path / "out.mkv")
    shown, heard = seconds(output), sound_times(output)
    assert len(shown) == 130 and max(np.diff(shown)) <= 3 * STEP
    half = len(heard) // 2
    assert shown[80] - heard[half] == pytest.approx(shown[0] - heard[0], abs=3e-3)


@pytest.mark.parametrize("start", [1000, 2**33 / 90000 - 1, 2**33 / 90000 - 100])
def test_a_broadcast_begins_at_0(tmp_path, start):
    """If this fails, a second of film is said to be 1000 s long, or is torn as the clock wraps."""
    source = write_recording(tmp_path / "a.ts", 50, "mpeg2video", "mp2", start=start)
    before = _raw_offset(source)
    for suffix in (".mkv", ".mp4", ".mov"):
        output = colored(source, tmp_path / f"b{suffix}")
        shown = seconds(output)
        assert shown[0] < 0.1 and len(shown) == 50
        np.testing.assert_allclose(np.diff(shown), STEP, atol=2e-3)
        np.testing.assert_allclose(np.diff(sound_times(output)), 1152 / 48000, atol=2e-3)
        assert offset(output) == pytest.approx(before, abs=2e-3)
        with av.open(str(output)) as container:
            assert container.duration / 1e6 < 2.2


@pytest.mark.parametrize("start", [5000, 1_764_200_000])  # the second counts from 1970
@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "a.mp4", "a.nut"])
def test_other_containers_may_begin_late_too(tmp_path, name, start):
    """If this fails, a live recording begins after hours of nothing."""
    codec = "flv" if name.endswith("flv") else "mpeg4"
    source = write_recording(tmp_path / name, 25, codec, start=start)
    shown = seconds(colored(source, tmp_path / "b.mkv"))
    np.testing.assert_allclose(shown, np.arange(25) * STEP, atol=2e-3)


def test_a_start_between_pictures_and_sound_is_kept(tmp_path):
    """If this fails, pictures that begin after the sound are moved to it."""
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("mpeg4", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.ones((1, 48000), np.int16), "s16", "mono")
        tone.sample_rate, tone.pts = 48000, 0
        container.mux(audio.encode(tone))
        for index in range(10):
            frame = make_frame(np.full((48, 64), 99, np.uint8), "yuv420p")
            frame.pts, frame.time_base = 12 + index, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    output = colored(source, tmp_path / "b.mkv")
    assert seconds(output)[0] == pytest.approx(12 * STEP, abs=1e-3) and sound_times(output)[0] == 0


def test_chapters_move_with_the_film(tmp_path):
    """If this fails, chapters of a film that begins late point behind its end."""
    source = write_recording(tmp_path / "a.mkv", 25, "mpeg4", start=100)
    titled = tmp_path / "b.mkv"
    with av.open(str(source)) as old, av.open(str(titled), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        new.set_chapters([{"id": 1, "start": 100_400, "end": 101_000,
                           "time_base": Fraction(1, 1000), "metadata": {}}])  # fmt: skip
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    with av.open(str(colored(titled, tmp_path / "c.mkv"))) as container:
        (chapter,) = container.chapters()
    assert float(chapter["start"] * chapter["time_base"]) == pytest.approx(0.4, abs=1e-3)


def test_a_damaged_time_is_moved_between_its_neighbors(shared, tmp_path):
    """If this fails, one flipped bit of a broadcast adds 20 hours, or ends in a traceback."""
    source = shared / "reviews" / "inputs" / "flip.ts"
    if not source.is_file():
        pytest.skip("needs ../shared/reviews/inputs")
    for suffix in (".mkv", ".mp4", ".mov"):
        shown = seconds(colored(source, tmp_path / f"b{suffix}"))
        np.testing.assert_allclose(shown, np.arange(4) / 24, atol=2e-3)


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"bf": "0"}), ("libx264", {"bf": "2"}),
     ("libx264", {"bf": "3", "b_strategy": "0"}), ("mpeg4", {"bf": "0"}),
     ("mpeg4", {"bf": "2"}), ("ffv1", {}), ("mjpeg", {})],
)  # fmt: skip
def test_frame_n_of_an_avi_is_shown_at_n(tmp_path, codec, options):
    """If this fails, AVI files with B-frames run late against their sound."""
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = write_recording(
        tmp_path / "a.avi", 25, codec, "pcm_s16le", options=options, pix_fmt=pix_fmt
    )
    np.testing.assert_allclose(seconds(source), np.arange(25) * STEP, atol=1e-9)
    means = [frame.luma.mean() for frame in read_frames(open_film(source))]
    assert means == sorted(means)  # each picture is brighter than the one before
    output = colored(source, tmp_path / "b.mp4")
    assert seconds(output) == pytest.approx(seconds(source), abs=1e-4)
    assert sound_times(output)[0] == 0
