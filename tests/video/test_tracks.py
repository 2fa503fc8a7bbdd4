"""Audio that is encoded again, and the other tracks of a film: subtitles, fonts, their names."""

import io
import warnings

import av
import numpy as np
import pytest

from palette_vc_jax.video.encoding import OutputOptions
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import FilmWriter, check_output
from tests.recordings import write_recording

SUBTITLES = b"1\n00:00:00,200 --> 00:00:00,700\none\n\n2\n00:00:01,000 --> 00:00:01,500\ntwo\n"
FLAGS = av.stream.Disposition


def write_gray(film, output, audio="copy"):
    """Write a film with neutral colors."""
    with FilmWriter(output, film, OutputOptions(audio=audio)) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((film.height, film.width, 2), np.float32))
    return output


def samples(path):
    """Decode the first audio track to mono; return its samples from time 0 on."""
    resampler = av.AudioResampler("flt", "mono", 48000)
    with av.open(str(path)) as container:
        frames = [part for f in container.decode(audio=0) for part in resampler.resample(f)]
    whole = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return whole[max(0, -round(frames[0].pts * frames[0].time_base * 48000)) :]


@pytest.mark.parametrize(
    ("name", "sound", "audio", "suffix"),
    [
        ("a.avi", "adpcm_ms", "aac", ".mp4"),
        ("a.avi", "adpcm_ms", "flac", ".mp4"),
        ("a.mkv", "pcm_s24le", "flac", ".mkv"),
        ("a.mkv", "libopus", "aac", ".mov"),
        ("a.mkv", "pcm_s16le", "aac", ".mkv"),
        ("a.mov", "adpcm_ima_qt", "aac", ".mp4"),
        ("a.mkv", "flac", "aac", ".mov"),
    ],
)
def test_audio_is_encoded_in_step(tmp_path, name, sound, audio, suffix):
    """If this fails, audio that a container cannot hold is lost, or is late."""
    source = write_recording(tmp_path / name, 50, "mpeg4", sound)
    output = write_gray(open_film(source), tmp_path / f"b{suffix}", audio)
    assert open_film(output).audio == (audio,)
    before, after = samples(source), samples(output)
    count = min(len(before), len(after))
    assert count > 0.9 * len(before)
    if audio == "flac":
        np.testing.assert_allclose(after[:count], before[:count], atol=1e-4)
        return
    middle = before[20000:24096]  # AAC keeps the low half of noise
    found = np.correlate(after[19000:25096], middle, "valid")
    assert abs(found.argmax() - 1000) <= 16  # a third of a millisecond


def test_audio_is_left_out_or_refused(tmp_path):
    """If this fails, a film whose audio is of no use cannot be colored without it."""
    source = open_film(write_recording(tmp_path / "a.avi", 10, "mpeg4", "adpcm_ms"))
    with pytest.raises(ValueError, match="cannot hold adpcm_ms audio; give --audio aac or flac"):
        check_output(tmp_path / "b.mp4", source)
    with pytest.raises(ValueError, match="mov cannot hold flac audio; give another --audio"):
        check_output(tmp_path / "b.mov", source, OutputOptions(audio="flac"))
    output = open_film(write_gray(source, tmp_path / "b.mp4", "none"))
    assert output.audio == () and len(list(read_frames(output))) == 10


def with_everything(path):
    """Write a film with three audio tracks, subtitles and a font; return its path."""
    base = write_recording(path.with_name("base.mkv"), 50, "mpeg4", "aac", tracks=3)
    flags = [FLAGS(0), FLAGS.default, FLAGS.comment]
    with (
        av.open(str(base)) as source,
        av.open(io.BytesIO(SUBTITLES), format="srt") as text,
        av.open(str(path), "w") as container,
    ):
        copies = {s.index: container.add_stream_from_template(s) for s in source.streams}
        for copy, flag, language in zip(
            list(copies.values())[1:], flags, ("ger", "fre", "eng"), strict=True
        ):
            copy.disposition = int(flag)
            copy.metadata.update(language=language, title=f"in {language}")
        words = container.add_stream_from_template(text.streams.subtitles[0])
        words.disposition = int(FLAGS.forced)
        words.metadata["language"] = "ita"
        container.add_attachment("a.ttf", "font/ttf", b"a font")
        packets = [(packet, copies[packet.stream.index]) for packet in source.demux()]
        for packet, copy in [*((packet, words) for packet in text.demux()), *packets]:
            if packet.size:
                packet.stream = copy
                container.mux(packet)
    return path


def facts(path):
    """Return type, language and disposition of a film's tracks of audio and subtitles."""
    with av.open(str(path)) as container:
        return [
            (s.type, s.language, FLAGS(s.disposition))
            for s in container.streams
            if s.type in ("audio", "subtitle")
        ]


def test_matroska_keeps_every_track(tmp_path):
    """If this fails, a film comes back without its commentary's mark, its subtitles or fonts."""
    source = with_everything(tmp_path / "a.mkv")
    output = write_gray(open_film(source), tmp_path / "b.mkv")
    assert facts(output) == facts(source) and len(facts(output)) == 4
    with av.open(str(output)) as container:
        fonts = [(s.name, s.mimetype, bytes(s.data)) for s in container.streams.attachments]
        assert container.streams.audio[0].metadata["title"] == "in ger"
    assert fonts == [("a.ttf", "font/ttf", b"a font")]
    words = [(time, text) for time, text in lines(output) if text]
    assert words == [(0.2, b"one"), (1.0, b"two")]
    part = write_gray(open_film(source, "stop", "0.8s"), tmp_path / "c.mkv")
    assert lines(part) == [(0.2, b"two")]


def lines(path):
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.subtitles[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]


def test_mp4_names_what_it_leaves_out(tmp_path):
    """If this fails, subtitles and fonts are lost without a word."""
    source = open_film(with_everything(tmp_path / "a.mkv"))
    with pytest.warns(UserWarning, match=r"subtitles 4 \(ita, subrip\), attachment a.ttf\."):
        output = write_gray(source, tmp_path / "b.mp4")
    assert facts(output) == facts(source.path)[:3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_output(tmp_path / "frames", source)
