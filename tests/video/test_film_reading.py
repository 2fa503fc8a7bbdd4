"""Opening sources and reading their luma."""

import struct
import warnings
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.images import read_image
from palette_vc_jax.video import color
from palette_vc_jax.video.film import open_film, orient
from palette_vc_jax.video.read import luma_of, read_frames
from tests.films import add_tone, lumas, make_frame, truncate, write_film, write_pictures


def codes(path):
    return [frame.luma for frame in read_frames(open_film(path))]


@pytest.mark.parametrize(
    ("pix_fmt", "depth", "full"),
    [
        ("yuv420p", 8, False),
        ("yuv422p10le", 10, False),
        ("yuv444p16le", 16, False),
        ("gray", 8, True),
        ("gray16le", 16, True),
    ],
)
def test_luma_is_the_stored_plane(tmp_path, pix_fmt, depth, full):
    """If this fails, some format's luma is rescaled, shifted or cut on its way in."""
    made = lumas(4, 47, 63, depth, full)
    path = write_film(tmp_path / "a.mkv", made, pix_fmt)
    film = open_film(path)
    assert (film.width, film.height, film.depth) == (63, 47, depth)
    assert film.full_range == full and not film.is_rgb
    for frame, luma in zip(read_frames(film), made, strict=True):
        assert frame.luma.dtype == luma.dtype
        np.testing.assert_array_equal(frame.luma, luma)


@pytest.mark.parametrize("pix_fmt", ["nv12", "yuyv422", "p010le"])
def test_luma_of_other_memory_layouts(tmp_path, pix_fmt):
    """If this fails, raw captures are read with chroma among the luma, or wrongly scaled."""
    depth = 10 if pix_fmt == "p010le" else 8
    planar = {"yuyv422": "yuv422p", "p010le": "yuv420p10le"}.get(pix_fmt, "yuv420p")
    (luma,) = lumas(1, depth=depth)
    frame = make_frame(luma, planar).reformat(format=pix_fmt)
    film = open_film(write_film(tmp_path / "a.mkv", [luma], planar))
    np.testing.assert_array_equal(luma_of(frame, film), luma)


def test_h264_full_range_and_tags(tmp_path):
    """If this fails, a tagged film is taken for a TV-range one, or for one of another matrix."""
    path = write_film(
        tmp_path / "a.mp4", lumas(3, full_range=True), codec="libx264", tags=(2, 1, 1, 1)
    )
    film = open_film(path)
    assert film.full_range and film.matrix == "bt709" and film.tags == (1, 1, 1)


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709")])
def test_untagged_matrix_follows_lines(tmp_path, height, matrix):
    """If this fails, untagged HD film is colored with the weights of SD, or the other way round."""
    film = open_film(write_film(tmp_path / "a.mkv", lumas(1, height, 16)))
    assert film.matrix == matrix and not film.full_range


def test_times_of_variable_rate_film(tmp_path):
    """If this fails, a film of variable rate drifts from its sound."""
    times = [0, 40, 50, 200, 233]
    path = write_film(
        tmp_path / "a.mp4", lumas(5), codec="libx264", times=times, time_base=Fraction(1, 1000)
    )
    film = open_film(path)
    seconds = [frame.pts * film.time_base for frame in read_frames(film)]
    assert seconds == [Fraction(t, 1000) for t in times]


def test_times_missing_in_raw_stream(tmp_path):
    """If this fails, raw streams, which hold no times, fail, or all frames get one time."""
    path = write_film(tmp_path / "a.h264", lumas(6), codec="libx264")
    times = [frame.pts for frame in read_frames(open_film(path))]
    assert len(times) == 6 and times == sorted(set(times))


def test_turn_aspect_and_sound_are_described(tmp_path):
    """If this fails, films of phones lie on their side, or old formats are squeezed."""
    path = write_film(
        tmp_path / "a.mp4", lumas(3), codec="libx264", turn=90, aspect=Fraction(16, 15), sound="aac"
    )
    film = open_film(path)
    assert film.orientation in ((0, 1, -1, 0), (0, -1, 1, 0))
    assert film.sample_aspect == Fraction(16, 15) and film.audio == ("aac",)
    assert (film.width, film.height) == (64, 48)


@pytest.mark.parametrize(("pix_fmt", "codec"), [("bgr0", "ffv1"), ("bgr24", "libx264rgb")])
def test_rgb_film_gives_luma(tmp_path, pix_fmt, codec):
    """If this fails, the luma of RGB sources is one channel, or in TV range."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(2)]
    film = open_film(write_film(tmp_path / "a.mkv", pictures, pix_fmt, codec, options={"qp": "0"}))
    assert film.is_rgb and film.full_range and film.depth == 8
    for frame, picture in zip(read_frames(film), pictures, strict=True):
        expected = np.rint(picture @ np.array([0.299, 0.587, 0.114]))
        assert np.abs(frame.luma - expected).max() <= 1


def test_folder_in_numeric_order(tmp_path):
    """If this fails, frame 10 is played after frame 1."""
    made = [np.full((8, 8), 10 * i, np.uint8) for i in range(12)]
    film = open_film(write_pictures(tmp_path / "frames", made))
    assert film.frames == 12 and film.kind == "folder"
    assert [int(frame.luma[0, 0]) for frame in read_frames(film)] == [10 * i for i in range(12)]


def test_folder_of_16_bit_pictures(tmp_path):
    """If this fails, the scans of an archive lose half of their bits."""
    made = lumas(2, depth=16, full_range=True)
    film = open_film(write_pictures(tmp_path / "frames", made))
    assert film.depth == 16
    for frame, luma in zip(read_frames(film), made, strict=True):
        np.testing.assert_array_equal(frame.luma, luma)


def test_picture_named_with_percent(tmp_path):
    """If this fails, FFmpeg takes the name for a pattern of frame numbers."""
    write_pictures(tmp_path, lumas(1, full_range=True), "100%d{}.png")
    (frame,) = read_frames(open_film(tmp_path / "100%d0.png"))
    assert frame.luma.shape == (48, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_upright(tmp_path, orientation):
    """If this fails, an upright photo lies on its side; each turn is compared with Pillow's."""
    picture = Image.fromarray(np.repeat(lumas(1, 24, 32)[0][..., None], 3, axis=-1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    picture.save(path, exif=exif)
    film = open_film(path)
    (frame,) = read_frames(film)
    expected = read_image(path)[..., 0]
    assert (film.height, film.width) == expected.shape
    np.testing.assert_array_equal(frame.luma, expected)


def test_turn_of_a_display_matrix_agrees_with_ffmpeg(tmp_path):
    """If this fails, films turned for PNG frames end up upside down.

    FFmpeg's rotation counts degrees counterclockwise.
    """
    for turn in (90, 180, -90):
        film = open_film(write_film(tmp_path / "a.mkv", lumas(1), turn=turn))
        luma = codes(film.path)[0]
        np.testing.assert_array_equal(orient(luma, film.orientation), np.rot90(luma, turn // 90))


def test_read_image_makes_8_bit_rgb(tmp_path):
    """If this fails, palettes from gray, 16-bit or transparent pictures fail or come out black."""
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 4), 32896, np.uint16))
    Image.new("RGBA", (4, 4), (10, 20, 30, 40)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "deep.png")[0, 0].tolist() == [128, 128, 128]
    assert read_image(tmp_path / "clear.png")[0, 0].tolist() == [10, 20, 30]


def test_bad_sources_are_refused_in_one_line(tmp_path):
    """If this fails, a user's mistake ends in a traceback, or is found after hours of work."""
    (tmp_path / "text.mp4").write_text("no film\n" * 500)
    (tmp_path / "text.txt").write_text("no film\n" * 500)
    (tmp_path / "text.png").write_text("no picture\n" * 50)
    (tmp_path / "none.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name in ("missing.mp4", "text.mp4", "text.txt", "text.png", "none.mp4", "empty"):
        with pytest.raises(ValueError, match=name) as refused:
            list(read_frames(open_film(tmp_path / name)))
        assert "\n" not in str(refused.value)


def test_huge_pictures_are_refused_in_one_line(tmp_path):
    """If this fails, a picture of 74 bytes ends in a traceback, and a large scan in a warning."""

    def png(width, height):
        parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))]
        rows = zlib.compress(bytes((width + 7) // 8 + 1) * height)
        parts += [(b"IDAT", rows), (b"IEND", b"")]
        chunks = (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    (tmp_path / "bomb.png").write_bytes(png(13500, 13500))
    with pytest.raises(ValueError, match="bomb.png.*smaller") as refused:
        read_image(tmp_path / "bomb.png")
    assert "\n" not in str(refused.value)
    (tmp_path / "large.png").write_bytes(png(90_000, 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "large.png").shape == (1000, 90_000, 3)


def test_a_drawing_under_a_pictures_name_is_refused(tmp_path):
    """If this fails, a kind that FFmpeg recognizes and cannot decode ends in a traceback."""
    (tmp_path / "a.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="8"></svg>')
    with pytest.raises(ValueError, match="a.png.*PNG, JPEG or TIFF"):
        open_film(tmp_path / "a.png")


def test_film_without_pictures_is_refused(tmp_path):
    """If this fails, a sound file is opened as an empty film."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        add_tone(container, "aac", seconds=0.2)
    with pytest.raises(ValueError, match="no video stream"):
        open_film(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.avi", "ffv1")]
)
def test_truncated_film_is_refused(tmp_path, name, codec):
    """If this fails, half a film is colored and taken for the whole.

    The index of an MP4 lies at its end; it is moved to the front here, or it could not be opened.
    """
    rng = np.random.default_rng(0)
    made = [rng.integers(16, 235, (48, 64), np.uint8) for _ in range(60)]
    path = write_film(tmp_path / name, made, codec=codec)
    if name == "a.mp4":
        front = tmp_path / "front.mp4"
        with (
            av.open(str(path)) as old,
            av.open(str(front), "w", options={"movflags": "+faststart"}) as new,
        ):
            copy = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(old.streams.video[0]):
                if packet.size:
                    packet.stream = copy
                    new.mux(packet)
        path = front
    assert len(codes(path)) == 60
    with pytest.raises(ValueError, match=path.name) as refused:
        codes(truncate(path, 0.6))
    assert "truncated" in str(refused.value) and "\n" not in str(refused.value)


def test_frames_of_two_sizes_are_refused(tmp_path):
    """If this fails, a folder of mixed scans fails deep inside the model."""
    made = [*lumas(2, 48, 64), *lumas(1, 48, 32)]
    with pytest.raises(ValueError, match="f2.png.*same size"):
        codes(write_pictures(tmp_path / "frames", made))


def test_frames_hidden_by_an_edit_list(tmp_path):
    """If this fails, films that were cut without encoding are reported as truncated."""
    source = write_film(tmp_path / "a.mp4", lumas(48), codec="libx264")
    cut = tmp_path / "cut.mp4"
    with av.open(str(source)) as old, av.open(str(cut), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                shift = 20 * int(Fraction(1, 24) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                new.mux(packet)
    film = open_film(cut)
    frames = list(read_frames(film))
    assert (film.frames, len(frames), frames[0].pts) == (48, 28, 0)


def test_ranges_give_the_same_gray(tmp_path):
    """If this fails, TV-range and full-range copies of one film get different colors."""
    grays = []
    for full in (False, True):
        path = write_film(
            tmp_path / f"{full}.mp4",
            lumas(2, full_range=full),
            codec="libx264",
            tags=(1 + full, 6, 6, 6),
        )
        film = open_film(path)
        grays.append([color.gray(frame.luma, film) for frame in read_frames(film)])
    np.testing.assert_allclose(grays[0], grays[1], atol=0.6 / 219 + 0.6 / 255)
