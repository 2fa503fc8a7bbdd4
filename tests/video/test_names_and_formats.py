"""Names of files at the limits of the file system, and files that are no films."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from palette_vc_jax import atomic
from palette_vc_jax.sampling.job import check_side_files, side_files
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import check_output
from tests.films import lumas, write_film, write_pictures

PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile film.ts\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.m3u8", "a.sdp", "a"])
def test_playlists_are_refused(tmp_path, kind, name):
    """If this fails, a file under a film's name makes the command read other files."""
    write_film(tmp_path / "film.ts", lumas(2), codec="mpeg2video")
    (tmp_path / name).write_text(PLAYLISTS[kind])
    with pytest.raises(ValueError, match="a playlist; give the films"):
        open_film(tmp_path / name)


def test_a_name_with_a_number_pattern_is_one_file(tmp_path):
    """If this fails, FFmpeg reads a sequence of other files in place of the one that was named."""
    write_pictures(tmp_path, lumas(2, full_range=True), "f{}.png")
    (tmp_path / "f%d.jls").write_bytes((tmp_path / "f1.png").read_bytes())
    with pytest.raises(ValueError, match="cannot be read as a film"):
        open_film(tmp_path / "f%d.jls")


@pytest.mark.parametrize("suffix", [".exr", ".heic", ".jxl"])
@pytest.mark.parametrize("folder", [True, False])
def test_other_images_are_refused_by_name(tmp_path, suffix, folder):
    """If this fails, linear light is taken for video codes, or the message is of no help."""
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"\{suffix}.* PNG or TIFF"):
        open_film(tmp_path if folder else tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("suffix", "depth"),
    [(".pgm", 8), (".pgm", 16), (".tga", 8), (".tiff", 16), (".tiff", 8), (".png", 16)],
)
def test_sequences_of_scanners(tmp_path, suffix, depth):
    """If this fails, frames of a scanner have to be converted first, or lose bits."""
    pictures = lumas(3, 120, 160, depth, full_range=True)
    for index, picture in enumerate(pictures):
        name = tmp_path / f"{index}{suffix}"
        if suffix == ".tga":
            Image.fromarray(picture).save(name)
        else:
            cv2.imwrite(str(name), picture)
    film = open_film(tmp_path)
    assert (film.depth, film.full_range, film.frames) == (depth, True, 3)
    np.testing.assert_array_equal([frame.luma for frame in read_frames(film)], pictures)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_tiffs_are_refused(tmp_path, share):
    """If this fails, the missing part of a frame becomes gray without a word."""
    picture = np.random.default_rng(0).integers(0, 65536, (120, 160)).astype(np.uint16)
    path = tmp_path / "a.tiff"
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    data = path.read_bytes()
    # The directory is at the end of the file, so cut bytes in the middle of the pixels instead.
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="cannot be read as an image"):
        open_film(path)


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    """If this fails, a missing disk among a film's frames ends the run at that frame."""
    write_pictures(tmp_path, lumas(2, full_range=True))
    (tmp_path / "g.png").symlink_to("missing.png")
    with pytest.raises(ValueError, match="g.png: the link leads nowhere"):
        open_film(tmp_path)


@pytest.mark.parametrize(
    ("name", "suffix", "taken"),
    [("x" * 243, ".mkv", False), ("x" * 242, ".mkv", True), ("é" * 122, ".mkv", False),
     ("x" * 247, "", False), ("x" * 300, ".mkv", False)],
)  # fmt: skip
def test_long_names_are_refused_before_any_work(tmp_path, name, suffix, taken):
    """If this fails, a night's work is lost because its name is too long."""
    film, output = open_film(write_film(tmp_path / "a.mkv", lumas(1))), tmp_path / (name + suffix)
    if taken:
        check_output(output, film)
        with atomic.file(output) as partial:
            partial.touch()
    else:
        with pytest.raises(ValueError, match="bytes, and at most 2"):
            check_output(output, film)


def test_side_files_with_long_names_are_refused(tmp_path):
    """If this fails, the film is written, and its record and palette are not."""
    output = tmp_path / ("x" * 232 + ".mkv")
    atomic.check_name(output)
    with pytest.raises(ValueError, match="side_by_side.png: this name has"):
        check_side_files(output, side_files(output).values(), [])


def test_texts_take_names_that_are_not_utf8(tmp_path):
    """If this fails, a film with a Latin-1 name is colored, and then its report is not written."""
    path = tmp_path / os.fsdecode(b"caf\xe9.html")
    atomic.write_text(path, f"<p>{path.name}")
    assert path.read_text(encoding="utf-8") == "<p>caf?.html"


@pytest.mark.parametrize("suffix", [".tiff", ".png"])
def test_pages_that_are_not_read_are_named(tmp_path, suffix):
    """If this fails, a scan of several pages becomes one picture without a word."""
    first, *rest = (Image.fromarray(picture) for picture in lumas(3, full_range=True))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=rest)
    with pytest.warns(UserWarning, match="only the first of its 3 images"):
        check_output(tmp_path / "b.png", open_film(tmp_path / f"a{suffix}"))


def test_animations_are_named(tmp_path):
    """If this fails, an animation is called a damaged image."""
    first, *rest = (Image.fromarray(picture) for picture in lumas(3, full_range=True))
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest)
    with pytest.raises(ValueError, match="an animation; convert it to a film"):
        open_film(tmp_path / "a.webp")
