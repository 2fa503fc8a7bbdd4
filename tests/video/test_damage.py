"""Damaged and cut-off films: refused, or read on by repeating or leaving out frames."""

import av
import cv2
import numpy as np
import pytest

from palette_vc_jax.video.damage import is_intact_ffv1, summary
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from tests.films import lumas, truncate, write_pictures
from tests.recordings import RATE, flip, write_recording
from tests.video.test_audio import colored

FRAMES = 60
SIZE = (96, 128)
# Name -> codec, options, container: the films of a camera, a phone, a disc and an archive.
FILMS = {
    "a.avi": ("mpeg4", {"g": "12", "bf": "2"}, None),
    "a.mp4": ("libx264", {"g": "12", "bf": "2"}, None),
    "a.mkv": ("libx264", {"g": "12", "bf": "2"}, None),
    "b.mkv": ("mpeg4", {"g": "12"}, None),
    "a.vob": ("mpeg2video", {"g": "12", "bf": "2"}, "vob"),
    "archive.mkv": ("ffv1", {"level": "3", "slicecrc": "1", "slices": "4", "g": "1"}, None),
    "archive.avi": ("ffv1", {"level": "3", "slicecrc": "1", "slices": "4", "g": "1"}, None),
}


def write(folder, name, frames=FRAMES, sound=None):
    codec, options, muxer = FILMS[name]
    return write_recording(folder / name, frames, codec, sound, muxer, size=SIZE, options=options)


def read(path, mode):
    """Return the frames and the damage."""
    damage = []
    return list(read_frames(open_film(path, mode), damage)), damage


@pytest.mark.parametrize("name", FILMS)
def test_damaged_bytes(tmp_path, name):
    """If this fails, an archive's only copy cannot be colored, or its damage causes no warning."""
    whole, nothing = read(write(tmp_path, name), "repeat")
    assert len(whole) == FRAMES and nothing == []
    path = flip(tmp_path / name)
    with pytest.raises(ValueError, match=r"damaged.*--damaged repeat or drop") as refused:
        read(path, "stop")
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)

    repeated, damage = read(path, "repeat")
    assert 1 <= len(damage) <= 4 and {item.what for item in damage} == {"repeated"}
    assert [frame.index for frame in repeated] == list(range(FRAMES))
    steps = np.diff([frame.pts for frame in repeated])
    assert min(steps) > 0 and max(steps) <= 1.6 * np.median(steps)
    for item in damage:
        assert 0.1 < item.seconds * RATE / FRAMES < 0.9
        before = repeated[item.frame - 1].luma
        np.testing.assert_array_equal(repeated[item.frame].luma, before)

    dropped, again = read(path, "drop")
    assert [item.frame for item in again] == [item.frame for item in damage]
    assert len(dropped) == FRAMES - len(damage)
    kept = [frame.pts for i, frame in enumerate(repeated) if i not in {d.frame for d in damage}]
    assert [frame.pts for frame in dropped] == kept
    assert [frame.index for frame in dropped] == list(range(len(dropped)))


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "b.mkv", "archive.mkv", "archive.avi"])
@pytest.mark.parametrize("mode", ["repeat", "drop"])
def test_a_film_that_is_cut_off_ends_where_it_is_cut(tmp_path, name, mode):
    """If this fails, what a crashed recorder left cannot be colored, or passes for a whole film."""
    path = truncate(write(tmp_path, name, sound="pcm_s16le" if "avi" in name else None), 0.6)
    with pytest.raises(ValueError, match="truncated.*--damaged"):
        read(path, "stop")
    frames, damage = read(path, mode)
    assert 15 <= len(frames) < 50
    assert damage[-1].what == "missing" and "of 2.4 seconds" in damage[-1].note
    assert damage[-1].seconds == pytest.approx(len(frames) / RATE, abs=0.15)
    assert "of 2.4 seconds" in summary(path, damage)
    output = colored(path, tmp_path / "out.mkv", mode)
    assert len(list(read_frames(open_film(output)))) == len(frames)


@pytest.mark.parametrize(("name", "place"), [("a.avi", 0.8), ("a.mkv", 0.99)])
def test_damage_is_found_each_time(tmp_path, name, place):
    """If this fails, whether a damaged film is refused is left to chance."""
    path = write_recording(tmp_path / name, 6, FILMS[name][0], size=(48, 64), options={"g": "12"})
    flip(path, place, 4)
    for _ in range(10):
        with pytest.raises(ValueError, match="damaged"):
            read(path, "stop")


def test_a_flipped_bit_anywhere_is_no_traceback(tmp_path):
    """If this fails, some damage ends in a traceback, or half a film passes for all of it."""
    rng = np.random.default_rng(0)
    for name in FILMS:
        path = write(tmp_path, name, 20)
        data = path.read_bytes()
        for _ in range(6):
            broken = bytearray(data)
            for place in rng.integers(len(data) // 4, len(data), 30):
                broken[place] ^= int(rng.integers(1, 256))
            path.write_bytes(broken)
            try:
                frames, damage = read(path, "repeat")
            except ValueError as error:
                assert "\n" not in str(error)
                continue
            assert frames and all(b.pts > a.pts for a, b in zip(frames, frames[1:], strict=False))
            assert damage


@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
def test_frames_that_are_jumped_over_are_found(tmp_path, codec):
    """If this fails, FFmpeg skips a block of a Matroska file without a warning."""
    options = {"g": "1"} if codec == "ffv1" else {"g": "12", "bf": "2"}
    path = write_recording(tmp_path / "a.mkv", FRAMES, codec, "pcm_s16le", size=SIZE,
                           options=options)  # fmt: skip
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size > 1500]
        place = packets[len(packets) // 2].pos
    data = bytearray(path.read_bytes())
    data[place : place + 8] = bytes(8)  # the head of the block
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged at"):
        read(path, "stop")
    frames, damage = read(path, "repeat")
    assert len(frames) == FRAMES and damage
    np.testing.assert_allclose(np.diff([frame.pts for frame in frames]), 40, atol=1)
    frames, damage = read(path, "drop")
    assert len(frames) == FRAMES - len(damage)


def test_a_broadcast_with_errors_is_read_on_and_told(tmp_path):
    """If this fails, a recording with a disturbance is refused, or its damage is unsaid."""
    path = write_recording(tmp_path / "a.ts", FRAMES, "mpeg2video", size=SIZE)
    flip(path)
    frames, damage = read(path, "stop")
    assert len(frames) >= FRAMES - 1 and {item.what for item in damage} == {"kept"}
    frames, damage = read(path, "repeat")
    assert {item.what for item in damage} == {"repeated"}


def test_a_broadcast_that_begins_within_a_picture(tmp_path):
    """If this fails, a recording that was started at any moment is refused."""
    for codec in ("mpeg2video", "libx264"):
        path = write_recording(tmp_path / "a.ts", FRAMES, codec, options={"g": "12"}, size=SIZE)
        data = path.read_bytes()
        path.write_bytes(data[len(data) // 188 // 4 * 188 + 50 :])
        frames, _ = read(path, "stop")
        assert FRAMES // 3 < len(frames) < FRAMES and frames[0].pts >= 0


def test_damaged_frames_of_a_folder(tmp_path):
    """If this fails, one broken scan of thousands stops a film, whatever is asked."""
    folder = write_pictures(tmp_path / "frames", lumas(5, full_range=True))
    truncate(folder / "f2.png")
    with pytest.raises(ValueError, match="f2.png"):
        read(folder, "stop")
    frames, damage = read(folder, "repeat")
    assert [tuple(item[:3]) for item in damage] == [(2, 2 / 24, "repeated")]
    np.testing.assert_array_equal(frames[2].luma, frames[1].luma)
    frames, damage = read(folder, "drop")
    assert [frame.pts for frame in frames] == [0, 1, 3, 4] and damage[0].what == "dropped"


def test_sound_beside_damage_is_copied(tmp_path):
    """If this fails, a damaged film loses its sound, or the sound ends at the damage."""
    path = write_recording(tmp_path / "a.avi", FRAMES, "mpeg4", "pcm_s16le", size=SIZE)
    flip(path)
    output = colored(path, tmp_path / "b.mkv", "repeat")
    with av.open(str(output)) as container:
        length = sum(frame.samples for frame in container.decode(audio=0)) / 48000
    assert length == pytest.approx(FRAMES / RATE, abs=0.2)


def test_checksums_of_ffv1(tmp_path):
    """If this fails, damage of archive films is unseen, or whole ones of some version are refused.

    FFmpeg decodes a slice whose checksum is wrong, and writes only a line to its log.
    """
    for options in ({"level": "3", "slicecrc": "1"}, {"level": "3", "slicecrc": "0"},
                    {"level": "1"}, {"level": "3", "coder": "1", "slices": "16"}):  # fmt: skip
        path = write_recording(tmp_path / "a.mkv", 3, "ffv1", options=options)
        with av.open(str(path)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        assert all(map(is_intact_ffv1, packets))
        if options.get("slicecrc") == "1":
            packets[0] = packets[0][:99] + bytes([packets[0][99] ^ 1]) + packets[0][100:]
            assert not is_intact_ffv1(packets[0])


def test_an_unknown_mode_is_refused(tmp_path):
    """If this fails, a mistyped mode is taken for another."""
    assert cv2.imwrite(str(tmp_path / "a.png"), lumas(1)[0])
    with pytest.raises(ValueError, match="skip.*stop, repeat, drop"):
        open_film(tmp_path / "a.png", "skip")
