"""Sound that is copied: tracks without a named layout, tracks without a decoder, times."""

import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import FilmWriter, check_output
from tests.films import lumas, sound_packets, sound_times
from tests.recordings import write_recording


def colored(source, output, damaged="stop"):
    """Write a film with neutral colors."""
    film = open_film(source, damaged)
    with FilmWriter(output, film) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((film.height, film.width, 2), np.float32))
    return output


def samples(path) -> np.ndarray:
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    ("name", "sound"),
    [("a.avi", "pcm_s16le"), ("a.mkv", "pcm_s24le"), ("a.mkv", "pcm_s32le"),
     ("a.mkv", "pcm_f32le"), ("a.mkv", "pcm_s16be"), ("a.mxf", "pcm_s16le"),
     ("a.mov", "pcm_s16le")],
)  # fmt: skip
@pytest.mark.parametrize("channels", ["mono", "stereo"])
def test_pcm_of_cameras_goes_into_every_container(tmp_path, name, sound, channels):
    """If this fails, a film is colored for hours and then cannot be closed."""
    codec = "mpeg2video" if name.endswith("mxf") else "mpeg4"
    source = write_recording(tmp_path / name, 10, codec, sound, channels=channels)
    expected = samples(source)
    for suffix in (".mp4", ".mov", ".mkv"):
        output = colored(source, tmp_path / f"b{suffix}")
        np.testing.assert_array_equal(samples(output), expected)
        assert sound_times(output)[0] == pytest.approx(sound_times(source)[0], abs=1e-3)


def test_audio_is_refused_before_any_work(tmp_path):
    """If this fails, audio that a container takes in its header fails in its trailer."""
    source = write_recording(tmp_path / "a.avi", 5, "mpeg4", "pcm_u8")
    with pytest.raises(ValueError, match=r"pcm_u8 audio.*\.mkv") as refused:
        check_output(tmp_path / "b.mp4", open_film(source))
    assert "\n" not in str(refused.value)
    check_output(tmp_path / "b.mov", open_film(source))


def without_decoder(path):
    """Rename the codec of the last track of a MOV file to one that FFmpeg does not know."""
    data = path.read_bytes()
    place = data.rindex(b"stsd")
    entry = data[place:].replace(b"mp4a", b"apac").replace(b"esds", b"xxxx")
    path.write_bytes(data[:place] + entry)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_track_without_a_decoder_is_left_out_with_a_word(tmp_path, suffix):
    """If this fails, the films of recent telephones end in a traceback, or lose a track unsaid."""
    source = write_recording(tmp_path / "a.mov", 25, "libx264", "aac", tracks=2)
    expected = sound_packets(source)
    film = open_film(without_decoder(source))
    assert (film.audio, film.unknown_audio) == (("aac",), (2,))
    with pytest.warns(UserWarning, match="audio track 2 is left out") as warned:
        output = colored(source, tmp_path / f"b{suffix}")
    assert len({str(w.message) for w in warned}) == 1
    assert sound_packets(output) == expected
    with av.open(str(output)) as container:
        assert len(container.streams.audio) == 1
    with warnings.catch_warnings():  # pictures hold no sound, so nothing is lost
        warnings.simplefilter("error")
        check_output(tmp_path / "frames", film)


def test_a_film_whose_only_sound_has_no_decoder(tmp_path):
    """If this fails, such a film cannot be colored at all."""
    source = without_decoder(write_recording(tmp_path / "a.mov", 25, "libx264", "aac"))
    with pytest.warns(UserWarning, match="audio track 1 is left out"):
        output = colored(source, tmp_path / "b.mp4")
    assert open_film(output).audio == () and len(list(read_frames(open_film(output)))) == 25


def test_pictures_without_a_decoder_are_refused_in_one_line(tmp_path):
    """If this fails, a codec that FFmpeg does not know ends in a traceback."""
    path = write_recording(tmp_path / "a.mov", 5, "libx264")
    data = path.read_bytes()
    place = data.rindex(b"avc1")
    path.write_bytes(data[:place] + b"zzzz" + data[place + 4 :])
    with pytest.raises(ValueError, match="no decoder") as refused:
        open_film(path)
    assert "\n" not in str(refused.value)


def test_the_last_frame_of_a_film_of_high_rate_is_kept(tmp_path):
    """If this fails, MP4 hides a last frame whose duration rounds to 0."""
    times, base = [0, 1, 2], Fraction(1, 1000)
    film = open_film(_fast(tmp_path / "a.mkv", times, base))
    assert film.rate > 1000
    for suffix in (".mp4", ".mov", ".mkv"):
        output = colored(film.path, tmp_path / f"b{suffix}")
        made = [f.pts * open_film(output).time_base for f in read_frames(open_film(output))]
        assert made == [t * base for t in times]


def _fast(path, times, base):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=100_000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        for time, picture in zip(times, lumas(len(times)), strict=True):
            frame = av.VideoFrame(64, 48, "yuv420p")
            plane = np.frombuffer(frame.planes[0], np.uint8).reshape(48, -1)
            plane[:, :64] = picture
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
