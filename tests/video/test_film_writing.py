"""Writing films: luma, times, sound, tags, and nothing half-written."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from palette_vc_jax.images import read_image
from palette_vc_jax.video import color
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.matroska import PADDING
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.write import FilmWriter, check_output
from tests.films import (
    lumas,
    sound_packets,
    sound_times,
    truncate,
    write_film,
    write_pictures,
)


def tint(gray):
    """Make chroma that follows luma, so that a change of luma would show in it."""
    return np.stack([0.1 - 0.2 * gray, 0.15 * gray], axis=-1).astype(np.float32)


def colored(source: Path, output: Path) -> Path:
    """Color a film with `tint` as the job does: luma in, luma and chroma out."""
    film = open_film(source)
    with FilmWriter(output, film) as writer:
        for frame in read_frames(film):
            gray = color.gray(frame.luma, film)
            writer.write(frame, color.limit_gamut(gray, tint(gray), film.matrix))
    return output


def times(path: Path) -> list[Fraction]:
    film = open_film(path)
    return [frame.pts * film.time_base for frame in read_frames(film)]


def luma_psnr(source: Path, output: Path) -> float:
    films = open_film(source), open_film(output)
    errors = [
        np.mean((color.gray(a.luma, films[0]) - color.gray(b.luma, films[1])) ** 2)
        for a, b in zip(*map(read_frames, films), strict=True)
    ]
    return -10 * np.log10(max(*errors, 1e-12))


@pytest.mark.parametrize(
    ("pix_fmt", "size", "depth"),
    [
        ("yuv420p", (48, 64), 8),
        ("yuv420p", (47, 63), 8),
        ("yuv422p10le", (48, 62), 10),
        ("gray", (31, 64), 8),
        ("gray16le", (32, 32), 16),
    ],
)
def test_matroska_keeps_every_bit_of_luma(tmp_path, pix_fmt, size, depth):
    """If this fails, the promise of an untouched luma plane is broken for some depth or size."""
    full = pix_fmt.startswith("gray")
    source = write_film(tmp_path / "a.mkv", lumas(5, *size, depth, full), pix_fmt)
    output = colored(source, tmp_path / "b.mkv")
    before, after = open_film(source), open_film(output)
    assert (after.depth, after.full_range, after.matrix) == (depth, full, before.matrix)
    assert after.pix_fmt.startswith("yuv444p")
    for old, new in zip(read_frames(before), read_frames(after), strict=True):
        np.testing.assert_array_equal(old.luma, new.luma)


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(("depth", "full"), [(8, False), (8, True), (10, False), (16, True)])
def test_lossy_codecs_keep_45_db_of_luma_in_grain(tmp_path, suffix, size, depth, full):
    """If this fails, old film, which is full of grain, comes out soft or banded."""
    rng = np.random.default_rng(0)
    made = [
        np.clip(p + rng.normal(0, 12, p.shape) * 2.0 ** (depth - 8), 0, 2**depth - 1)
        for p in lumas(6, *size, depth, full)
    ]
    made = [p.astype(np.uint8 if depth == 8 else np.uint16) for p in made]
    layout = "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    tags = (2, 6, 6, 6) if full else None
    source = write_film(tmp_path / "a.mkv", made, layout, tags=tags)
    output = colored(source, tmp_path / f"b{suffix}")
    assert luma_psnr(source, output) >= 45
    assert open_film(output).full_range == (full and suffix == ".mp4")  # ProRes has no full range


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ""])
def test_colors_arrive(tmp_path, suffix):
    """If this fails, chroma planes are swapped, shifted or wrongly scaled."""
    made = [np.full((32, 48), 120, np.uint8) for _ in range(2)]
    film = open_film(write_film(tmp_path / "a.mkv", made))
    rgb = np.array([0.7, 0.35, 0.3], np.float32)
    wanted = color.rgb_to_chroma(rgb, "bt601")
    output = tmp_path / f"b{suffix}"
    with FilmWriter(output, film) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.broadcast_to(wanted, (32, 48, 2)))
    expected = (
        255
        * color.ycc_to_rgb(
            color.gray(made[0], film), np.broadcast_to(wanted, (32, 48, 2)), "bt601"
        )[16, 24]
    )
    if suffix:
        with av.open(str(output)) as container:
            found = next(container.decode(video=0)).to_ndarray(format="rgb24")[16, 24]
    else:
        found = read_image(output / "000000.png")[16, 24]
    assert np.abs(found - expected).max() <= 3


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_the_sources_chroma_changes_nothing(tmp_path, suffix):
    """If this fails, the colors of the source leak into the output; the files agree to the byte."""
    made = lumas(4)
    first = write_film(tmp_path / "colored.mkv", made)
    second = write_film(tmp_path / "neutral.mkv", made, chroma=128)
    assert first.read_bytes() != second.read_bytes()
    outputs = [colored(p, tmp_path / f"{p.stem}_out{suffix}").read_bytes() for p in (first, second)]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_times_of_variable_rate_film_are_kept(tmp_path, suffix):
    """If this fails, films of variable rate, or with a late start, drift from their sound."""
    made = [80, 120, 130, 280, 313, 400]
    source = write_film(
        tmp_path / "a.mp4",
        lumas(6),
        codec="libx264",
        times=made,
        time_base=Fraction(1, 1000),
        sound="aac",
    )
    assert times(source) == [Fraction(t, 1000) for t in made]
    assert times(colored(source, tmp_path / f"b{suffix}")) == times(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_odd_rates_are_kept(tmp_path, suffix):
    """If this fails, 23.976 becomes 24, or 23, and a feature film is seconds off at its end.

    Matroska counts milliseconds, whoever writes it.
    """
    source = write_film(tmp_path / "a.mp4", lumas(9), codec="libx264", rate=Fraction(24000, 1001))
    output = colored(source, tmp_path / f"b{suffix}")
    allowed = Fraction(1, 2000) if suffix == ".mkv" else 0
    assert max(abs(a - b) for a, b in zip(times(source), times(output), strict=True)) <= allowed
    assert abs(open_film(output).rate - Fraction(24000, 1001)) < 1e-4


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_sound_is_copied_packet_by_packet(tmp_path, suffix):
    """If this fails, the sound is encoded anew, cut short, or shifted against the pictures."""
    source = write_film(tmp_path / "a.mp4", lumas(30), codec="libx264", sound="aac")
    output = colored(source, tmp_path / f"b{suffix}")
    assert len(sound_packets(source)) > 50
    assert sound_packets(output) == sound_packets(source)
    assert np.allclose(sound_times(output), sound_times(source), atol=6e-4)
    assert times(output) == pytest.approx(times(source), abs=6e-4)


def test_sound_that_the_container_cannot_hold(tmp_path):
    """If this fails, the sound is lost without a warning, or the job fails after the last frame."""
    source = write_film(tmp_path / "a.mkv", lumas(3), sound="tta")
    film = open_film(source)
    with pytest.raises(ValueError, match=r"tta audio.*\.mkv") as refused:
        check_output(tmp_path / "b.mp4", film)
    assert "\n" not in str(refused.value)
    output = colored(source, tmp_path / "b.mkv")
    assert sound_packets(output) == sound_packets(source)


@pytest.mark.parametrize("aspect", [Fraction(16, 15), Fraction(3, 2), Fraction(10, 11)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_turn_aspect_and_tags_are_kept(tmp_path, suffix, aspect):
    """If this fails, the film is shown on its side, squeezed, or in washed-out colors."""
    source = write_film(
        tmp_path / "a.mp4",
        lumas(3),
        codec="libx264",
        turn=90,
        aspect=aspect,
        tags=(1, 1, 9, 14),
    )
    before, after = open_film(source), open_film(colored(source, tmp_path / f"b{suffix}"))
    assert after.orientation == before.orientation != (1, 0, 0, 1)
    assert after.sample_aspect == before.sample_aspect == aspect
    assert after.tags == before.tags == (1, 9, 14)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_tags_are_written_where_the_source_has_none(tmp_path, suffix):
    """If this fails, each player guesses range and matrix for itself."""
    output = colored(write_film(tmp_path / "a.mkv", lumas(2)), tmp_path / f"b{suffix}")
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
    found = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
    assert tuple(map(int, found)) == (1, 6, 6, 6)


def test_interlaced_film_stays_interlaced(tmp_path):
    """If this fails, players no longer separate the fields, and moving edges look like combs."""
    made = lumas(3)
    source = write_film(
        tmp_path / "a.mp4", made, codec="libx264", options={"qp": "0", "x264-params": "tff=1"}
    )
    assert open_film(source).field_order == "top"
    for suffix in (".mp4", ".mov", ".mkv"):
        assert open_film(colored(source, tmp_path / f"b{suffix}")).field_order == "top"


def test_frames_as_png(tmp_path):
    """If this fails, PNG frames lose over one code of luma, lie on their side or sort wrongly."""
    source = write_film(tmp_path / "a.mp4", lumas(3), codec="libx264", turn=90)
    output = colored(source, tmp_path / "frames")
    assert [p.name for p in sorted(output.iterdir())] == [f"{i:06d}.png" for i in range(3)]
    film = open_film(source)
    for frame, path in zip(read_frames(film), sorted(output.iterdir()), strict=True):
        luma = color.rgb_to_luma(read_image(path).astype(np.float32), film.matrix)
        expected = np.rot90(255 * color.gray(frame.luma, film))
        assert np.abs(luma - expected).max() <= 1


def test_frames_of_deep_film_are_16_bit(tmp_path):
    """If this fails, ten-bit film is cut to eight in a folder."""
    source = write_film(tmp_path / "a.mkv", lumas(1, depth=10), "yuv420p10le")
    colored(source, tmp_path / "frames")
    assert cv2.imread(str(tmp_path / "frames/000000.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_picture_in_picture_out(tmp_path, suffix):
    """If this fails, one picture cannot be colored, or its luma changes."""
    folder = write_pictures(tmp_path / "in", lumas(1, 47, 63, full_range=True))
    output = colored(folder / "f0.png", tmp_path / f"b{suffix}")
    luma = color.rgb_to_luma(read_image(output).astype(np.float32), "bt601")
    error = luma - lumas(1, 47, 63, full_range=True)[0]
    limit = 1.0 if suffix == ".png" else 3.0
    assert np.abs(error).max() <= limit


def test_colored_pictures_make_a_film(tmp_path):
    """If this fails, a folder of RGB frames keeps its colors, or loses over one code of luma."""
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(3)]
    source = write_pictures(tmp_path / "in", made)
    output = open_film(colored(source, tmp_path / "b.mkv"))
    assert output.full_range and output.rate == 24
    for frame, picture in zip(read_frames(output), made, strict=True):
        assert np.abs(frame.luma - picture @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_metadata_is_kept(tmp_path):
    """If this fails, title and language of a film are lost."""
    source = write_film(tmp_path / "a.mkv", lumas(2))
    titled = tmp_path / "t.mkv"
    with av.open(str(source)) as old, av.open(str(titled), "w") as new:
        new.metadata["title"] = "A street"
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    with av.open(str(colored(titled, tmp_path / "b.mp4"))) as container:
        assert container.metadata["title"] == "A street"


def test_bad_outputs_are_refused_before_any_work(tmp_path):
    """If this fails, a name costs a night's work or a user's files."""
    source = write_film(tmp_path / "a.mkv", lumas(1))
    film = open_film(source)
    full = write_pictures(tmp_path / "full", lumas(1))
    for output, word in [
        (tmp_path / "no/b.mp4", "does not exist"),
        (tmp_path / "b.xyz", ".xyz is not known"),
        (tmp_path / "b.png", "one image"),
        (source, "the source"),
        (full, "not empty"),
    ]:
        with pytest.raises(ValueError, match=word) as refused:
            FilmWriter(output, film)
        assert "\n" not in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "full"]


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "frames", "given"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_stays(tmp_path, name, error):
    """If this fails, half a film lies under the given name, or other files beside it."""
    film = open_film(write_film(tmp_path / "a.mkv", lumas(6), sound="aac"))
    (tmp_path / "given").mkdir()
    with pytest.raises(error), FilmWriter(tmp_path / name, film) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((48, 64, 2), np.float32))
            present = {p.name for p in tmp_path.iterdir()} - {"a.mkv", "given"}
            assert len(present) == 1 and present.pop().startswith(".")
            if frame.index == 3:
                raise error
    assert {p.name for p in tmp_path.iterdir()} == {"a.mkv", "given"}
    assert not list((tmp_path / "given").iterdir())


def test_a_finished_film_replaces_the_one_before(tmp_path):
    """If this fails, running a command again fails, or fills a folder given empty beside it."""
    source = write_film(tmp_path / "a.mkv", lumas(2))
    (tmp_path / "b.mkv").write_text("old")
    (tmp_path / "given").mkdir()
    assert open_film(colored(source, tmp_path / "b.mkv")).width == 64
    assert len(list(colored(source, tmp_path / "given").iterdir())) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"a.mkv", "b.mkv", "given"}


def test_truncated_source_leaves_nothing(tmp_path):
    """If this fails, a truncated film yields an output that looks whole."""
    rng = np.random.default_rng(0)
    made = [rng.integers(16, 235, (48, 64), np.uint8) for _ in range(40)]
    source = truncate(write_film(tmp_path / "a.mkv", made), 0.6)
    with pytest.raises(ValueError, match="truncated"):
        colored(source, tmp_path / "b.mkv")
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "frames"])
def test_full_disk_is_an_os_error_and_leaves_nothing(tmp_path, name):
    """If this fails, a full disk is reported as success, or as a user's mistake.

    A limit on the size of files stands in for the disk: writes past it fail in the same way.
    """
    rng = np.random.default_rng(0)
    write_film(tmp_path / "a.mkv", [rng.integers(0, 255, (96, 96), np.uint8) for _ in range(30)])
    program = f"""
import resource
from pathlib import Path
from tests.video.test_film_writing import colored
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
try:
    colored(Path({str(tmp_path)!r}) / "a.mkv", Path({str(tmp_path)!r}) / {name!r})
except OSError as error:
    print("refused", type(error).__name__)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert "refused" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == ["a.mkv"]


def test_wrong_sizes_are_refused(tmp_path):
    """If this fails, a picture of another size is written with its rows shifted."""
    film = open_film(write_film(tmp_path / "a.mkv", lumas(1)))
    (frame,) = read_frames(film)
    with (
        pytest.raises(ValueError, match="the film.s size needs"),
        FilmWriter(tmp_path / "b.mkv", film) as w,
    ):
        w.write(frame, np.zeros((24, 32, 2), np.float32))


def test_a_name_with_a_slash_is_a_folder(tmp_path):
    """If this fails, frames for `film.v2/` are refused, since .v2 is no film's extension."""
    film = open_film(write_film(tmp_path / "a.mkv", lumas(1)))
    with FilmWriter(f"{tmp_path}/film.v2/", film) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((48, 64, 2), np.float32))
    assert [p.name for p in (tmp_path / "film.v2").iterdir()] == ["000000.png"]


def test_matroska_keeps_the_name_of_the_track(tmp_path):
    """If this fails, making room for the aspect ratio leaves padding in the film's title."""
    source = write_film(tmp_path / "a.mp4", lumas(3), codec="libx264", aspect=Fraction(16, 11))
    output = colored(source, tmp_path / "b.mkv")
    assert PADDING.encode() not in output.read_bytes()
    with av.open(str(output)) as container:
        assert "title" not in container.streams.video[0].metadata
