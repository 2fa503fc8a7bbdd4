"""Codecs, quality and formats of outputs that the user chooses."""

import os

import av
import cv2
import numpy as np
import pytest

from palette_vc_jax.video import encoding
from palette_vc_jax.video.encoding import OutputOptions
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import FilmWriter, check_output
from tests.films import lumas, write_film, write_pictures


def write_gray(film, output, **options):
    """Write a film with neutral colors."""
    with FilmWriter(output, film, OutputOptions(**options)) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((film.height, film.width, 2), np.float32))
    return open_film(output)


def grainy(depth):
    """Make pictures with film grain."""
    rng = np.random.default_rng(0)
    scale = 2 ** (depth - 8)
    pictures = [p + rng.normal(0, 8 * scale, p.shape) for p in lumas(4, 96, 128, depth)]
    return [np.clip(p, 0, 256 * scale - 1).astype(np.uint16 if scale > 1 else np.uint8)
            for p in pictures]  # fmt: skip


def psnr(output, pictures, depth):
    scale = 2.0 ** (output.depth - depth)
    errors = [
        f.luma / scale - p.astype(float) for f, p in zip(read_frames(output), pictures, strict=True)
    ]
    return 20 * np.log10((2**depth - 1) / max(np.sqrt(np.mean(np.square(errors))), 1e-6))


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", ".mov"), ("h264", ".mkv"), ("hevc", ".mp4"), ("hevc", ".mkv"), ("av1", ".mp4"),
     ("prores", ".mkv"), ("ffv1", ".mkv")],
)  # fmt: skip
def test_every_codec_keeps_luma_and_times(tmp_path, capfd, codec, suffix, depth):
    """If this fails, a codec blurs the film's grain, moves its frames, or fills the terminal."""
    pictures = grainy(depth)
    pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
    film = open_film(write_film(tmp_path / "a.mkv", pictures, pix_fmt=pix_fmt))
    output = write_gray(film, tmp_path / f"b{suffix}", codec=codec)
    with av.open(str(output.path)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
    assert psnr(output, pictures, depth) > (100 if codec == "ffv1" else 45)
    assert output.depth == (10 if codec == "prores" else depth)
    times = [float(frame.pts * output.time_base) for frame in read_frames(output)]
    np.testing.assert_allclose(times, np.arange(4) / 24, atol=1e-3)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_quality_is_a_rate_factor(tmp_path, codec):
    """If this fails, --quality does nothing, or works backward."""
    pictures = grainy(8)
    film = open_film(write_film(tmp_path / "a.mkv", pictures))
    sizes = []
    for quality in (15, 30, 45):
        write_gray(film, tmp_path / "b.mp4", codec=codec, quality=quality)
        sizes.append((tmp_path / "b.mp4").stat().st_size)
    assert sizes[0] > 1.1 * sizes[1] > 1.2 * sizes[2]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [(None, ".mp4"), (None, ".mov"), ("hevc", ".mp4"), ("hevc", ".mov"), ("av1", ".mp4")],
)
def test_playable_films_have_what_players_need(tmp_path, codec, suffix):
    """If this fails, QuickTime or a browser shows a black picture."""
    pictures = lumas(2, 97, 131, depth=16, full_range=True)
    film = open_film(write_pictures(tmp_path / "frames", pictures))
    output = write_gray(film, tmp_path / f"b{suffix}", codec=codec, playable=True)
    assert (output.height, output.width, output.pix_fmt) == (98, 132, "yuv420p")
    assert not output.full_range
    data = output.path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert codec != "hevc" or b"hvc1" in data
    for frame, picture in zip(read_frames(output), pictures, strict=True):
        luma = (frame.luma.astype(float) - 16) / 219
        assert np.abs(luma[:97, :131] - picture / 65535).mean() < 0.02
        assert np.abs(luma[97] - luma[96]).mean() < 0.02
        assert np.abs(luma[:, 131] - luma[:, 130]).mean() < 0.02


@pytest.mark.parametrize(
    ("codec", "ending", "depth", "kind"),
    [("png", ".png", 8, np.uint8), ("png16", ".png", 8, np.uint16), ("tiff", ".tiff", 8, np.uint8),
     ("tiff", ".tiff", 16, np.uint16), ("tiff16", ".tiff", 8, np.uint16)],
)  # fmt: skip
def test_folders_of_images(tmp_path, codec, ending, depth, kind):
    """If this fails, an archive's copy has fewer bits than were asked for."""
    pictures = lumas(2, depth=depth, full_range=True)
    film = open_film(write_pictures(tmp_path / "frames", pictures))
    write_gray(film, tmp_path / "out", codec=codec)
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"00000{n}{ending}" for n in range(2)]
    for path, picture in zip(files, pictures, strict=True):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image.dtype == kind
        scale = 257 if kind == np.uint16 and depth == 8 else 1
        assert np.abs(image - scale * picture[..., None].astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        ("b.mp4", {"codec": "ffv1"}, "mp4 does not hold ffv1; give an output in .mkv"),
        ("b.mov", {"codec": "av1"}, "mov does not hold av1"),
        ("b.mkv", {"codec": "dnxhr"}, "'dnxhr' is not known; use one of h264, hevc"),
        ("b.mkv", {"codec": "png"}, "give a folder"),
        ("b.mkv", {"playable": True}, "give .mp4 or .mov"),
        ("b.mov", {"codec": "prores", "playable": True}, "use h264, hevc or av1"),
        ("b.mkv", {"quality": 20.0}, "ffv1 has none"),
        ("b.mp4", {"quality": 52.0}, "h264 takes 0 (best) to 51"),
        ("b.mp4", {"quality": float("nan")}, "h264 takes 0"),
        ("frames", {"codec": "h264"}, "not one of images; use one of png"),
        ("frames", {"quality": 3.0}, "for films"),
        ("b.mxf", {}, "extension .mxf is not known"),
        ("b.mp4", {"codec": "av1"}, "libsvtav1 cannot encode 65x49 pixels in yuv444p"),
    ],
)
def test_impossible_outputs_are_refused(tmp_path, output, options, words):
    """If this fails, a film is colored for hours and cannot be written."""
    film = open_film(write_film(tmp_path / "a.mkv", lumas(1, 49, 65)))
    with pytest.raises(ValueError) as refused:
        check_output(tmp_path / output, film, OutputOptions(**options))
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_interlaced_films_keep_their_fields_or_are_refused(tmp_path, codec):
    """If this fails, a codec takes the fields of a tape for whole frames."""
    pictures = lumas(2, 96, 128)
    path = write_film(tmp_path / "a.mkv", pictures, codec="ffv1", fields=3)
    film = open_film(path)
    assert film.field_order == "bottom"
    if codec == "h264":
        assert write_gray(film, tmp_path / "b.mov", codec=codec).field_order == "bottom"
    else:
        with pytest.raises(ValueError, match="does not store interlaced frames"):
            check_output(tmp_path / "b.mp4", film, OutputOptions(codec=codec))


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    """If this fails, an FFmpeg without an encoder ends in a traceback."""
    monkeypatch.setitem(encoding.ENCODERS, "hevc", "libmissing")
    film = open_film(write_film(tmp_path / "a.mkv", lumas(1)))
    with pytest.raises(ValueError, match="no encoder libmissing for hevc"):
        check_output(tmp_path / "b.mp4", film, OutputOptions(codec="hevc"))


def test_transparency_is_named(tmp_path):
    """If this fails, a picture loses its transparency without a word."""
    image = np.full((16, 16, 4), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.warns(UserWarning, match="transparency is left out"):
        check_output(tmp_path / "b.png", open_film(tmp_path / "a.png"))
