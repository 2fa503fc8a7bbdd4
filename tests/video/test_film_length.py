"""Films that were cut off, with sound: a container that says its length is believed."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from tests.films import make_frame, write_film

FRAMES, RATE, SOUND_RATE, BLOCK = 48, 24, 44100, 1024
KINDS = {  # file -> codecs of pictures and sound
    "a.avi": ("mpeg4", "pcm_s16le"),
    "b.avi": ("mpeg4", "aac"),
    "a.wmv": ("wmv2", "aac"),
    "a.flv": ("flv", "aac"),
    "b.flv": ("flv", "pcm_s16le"),
    "a.mkv": ("mpeg4", "aac"),
    "untagged.mkv": ("mpeg4", "aac"),  # without the length of each stream
}


def write(path: Path, seconds: float = FRAMES / RATE, late: float = 0.0) -> Path:
    """Write a film whose sound lies between its pictures, begins `late` and lasts `seconds`."""
    rng = np.random.default_rng(0)
    codec, sound = KINDS[path.name]
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(sound, rate=SOUND_RATE, layout="mono")
        layout = audio.codec_context.format.name
        blocks = int(seconds * SOUND_RATE / BLOCK)
        times = [(index / RATE, video, index) for index in range(FRAMES)]
        times += [(late + i * BLOCK / SOUND_RATE, audio, i) for i in range(blocks)]
        for _, stream, index in sorted(times, key=lambda entry: entry[0]):
            if stream is video:
                frame = make_frame(rng.integers(16, 235, (48, 64), np.uint8), "yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, RATE)
            else:
                samples = rng.integers(-9000, 9000, (1, BLOCK)).astype(np.int16)
                if layout.startswith("flt"):
                    samples = (samples / 32768).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format=layout, layout="mono")
                frame.sample_rate, frame.pts = SOUND_RATE, int(late * SOUND_RATE) + index * BLOCK
            container.mux(stream.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())
    if path.name == "untagged.mkv":
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"UNKNOWN_"))
    return path


def count(path: Path) -> int:
    return sum(1 for _ in read_frames(open_film(path)))


@pytest.mark.parametrize("name", KINDS)
def test_a_film_with_sound_that_is_cut_short_is_refused(tmp_path, name):
    """If this fails, the first half of a film is colored and passes for all of it.

    A few pictures at the end may lack: durations are rounded, and some sound has none.
    """
    path = write(tmp_path / name)
    assert count(path) == FRAMES
    data = path.read_bytes()
    allowed = FRAMES // 2 if name == "untagged.mkv" else FRAMES - 4
    for part in range(2, 20):
        path.write_bytes(data[: len(data) * part // 20])
        try:
            assert count(path) >= allowed
        except ValueError as error:
            text = str(error)
            assert "\n" not in text and "truncated" in text and str(path) in text


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("seconds", "late"), [(5.0, 0.0), (0.5, 0.0), (2.0, 1.0)])
def test_sound_of_another_length_is_no_damage(tmp_path, name, seconds, late):
    """If this fails, a whole film whose sound goes on after the pictures cannot be colored."""
    assert count(write(tmp_path / name, seconds, late)) == FRAMES


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("b.avi", "libx264"), ("a.flv", "flv"), ("a.wmv", "wmv2")],
)
def test_a_variable_rate_is_no_damage(tmp_path, name, codec):
    """If this fails, a whole film of fewer pictures than its length suggests is refused."""
    base = Fraction(1, 24) if name.endswith("avi") else Fraction(1, 1000)
    pictures = [np.full((48, 64), 20 * index, np.uint8) for index in range(6)]
    times = [int(t / 24 / base) for t in (0, 1, 2, 10, 11, 30)]
    path = tmp_path / name
    write_film(path, pictures, codec=codec, times=times, time_base=base, sound="aac",
               options={"bf": "0"})  # fmt: skip
    assert count(path) == 6


def test_an_avi_cut_between_two_pictures_is_refused(shared):
    """If this fails, 28 of 48 frames pass for the film."""
    path = shared / "reviews" / "inputs" / "cut_28_of_48_frames.avi"
    if not path.is_file():
        pytest.skip("needs ../shared/reviews/inputs")
    with pytest.raises(ValueError, match="1.2 of 2.0 seconds"):
        count(path)
