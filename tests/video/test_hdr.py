"""HDR films: what the model sees, and what is written."""

from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from palette_vc_jax.video import hdr
from palette_vc_jax.video.encoding import OutputOptions
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import small_gray
from palette_vc_jax.video.write import FilmWriter, check_output
from tests.films import lumas, write_film


@pytest.mark.parametrize(("transfer", "white"), [(hdr.PQ, 0.58), (hdr.HLG, 0.75)])
def test_white_and_black_are_those_of_sdr(transfer, white):
    """If this fails, the model sees an HDR film too dark or too bright (BT.2408, table 1)."""
    found = hdr.sdr_gray(np.array([0.0, white, 1.0], np.float32), transfer)
    np.testing.assert_allclose(found, [0.0, 1.0, 1.0], atol=0.01)


@pytest.mark.parametrize("transfer", [hdr.PQ, hdr.HLG])
def test_the_ways_are_inverse(transfer):
    """If this fails, colors have another brightness than the film."""
    gray = np.linspace(0.0, 1.0, 101, dtype=np.float32)
    back = hdr.sdr_gray(hdr.film_rgb(gray, transfer), transfer)
    np.testing.assert_allclose(back, gray, atol=2e-3)


MASTERING = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    ":max-cll=1000,400"
)


def with_mastering(path):
    """Write an HDR10 film as a camera or a disc has it."""
    options = {"x265-params": f"log-level=error:{MASTERING}"}
    return write_film(
        path, lumas(3, 64, 96, depth=10), "yuv420p10le", "libx265", tags=(1, 9, 9, 16),
        options=options,
    )  # fmt: skip


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", None), (".mkv", "hevc"), (".mov", "hevc")])
def test_hdr10_stays_hdr10(tmp_path, suffix, codec):
    """If this fails, a display shows the colored film too dark, or players cannot read it."""
    film = open_film(with_mastering(tmp_path / "a.mkv"))
    assert film.mastering == MASTERING
    output = tmp_path / f"o{suffix}"
    options = OutputOptions(codec=codec)
    with pytest.warns(UserWarning, match="HDR") as warned:
        check_output(output, film, options)
    assert "is lost" not in str(warned[0].message)
    with FilmWriter(output, film, options) as writer:
        for frame in read_frames(film):
            writer.write(frame, np.zeros((64, 96, 2), np.float32))
    found = open_film(output)
    assert (found.mastering, found.tags, found.depth) == (MASTERING, (9, 9, 16), 10)
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "hevc"
    assert suffix == ".mkv" or b"hvc1" in output.read_bytes()


def test_mastering_metadata_that_is_lost_is_told(tmp_path):
    """If this fails, mastering metadata is lost without a word."""
    film = open_film(with_mastering(tmp_path / "a.mkv"))
    playable = {"codec": "hevc", "playable": True}
    given = [("o.mkv", {}), ("o.mp4", {"codec": "h264"}), ("o.mp4", playable), ("frames", {})]
    for name, options in given:
        with pytest.warns(UserWarning, match="mastering metadata is lost; HEVC keeps it"):
            check_output(tmp_path / name, film, OutputOptions(**options))
    with pytest.warns(UserWarning, match="only films of more than 8 bits keep it"):
        check_output(tmp_path / "o.mp4", replace(film, depth=8))
    plain = write_film(tmp_path / "b.mkv", lumas(1, depth=10), "yuv420p10le", tags=(1, 9, 9, 16))
    with pytest.warns(UserWarning, match="HDR") as warned:
        check_output(tmp_path / "o.mkv", open_film(plain))
    assert "is lost" not in str(warned[0].message)


def test_the_model_sees_sdr_and_the_user_a_line(tmp_path):
    """If this fails, the model takes the codes of an HDR film for those of SDR."""
    pictures = lumas(1, depth=10)
    found = {}
    for name, transfer in (("sdr", 1), ("pq", hdr.PQ)):
        path = tmp_path / f"{name}.mkv"
        film = open_film(
            write_film(path, pictures, pix_fmt="yuv420p10le", tags=(1, 9, 9, transfer))
        )
        (frame,) = read_frames(film)
        np.testing.assert_array_equal(frame.luma, pictures[0])
        found[name] = small_gray(frame, film, (16, 24))
    assert found["pq"].mean() > found["sdr"].mean() + 0.05
    with pytest.warns(UserWarning, match=r"HDR \(PQ\)"):
        check_output(tmp_path / "o.mkv", film)


class SideData(bytes):
    """Side data of a frame, as PyAV gives it."""

    type = Type.MASTERING_DISPLAY_METADATA


def test_mastering_metadata_without_numbers_is_left_out():
    """If this fails, a damaged file ends in an error that names no reason."""
    whole = np.ones(22, np.int32)
    for place in (1, 19, 20, 21):  # denominators, and the flags of what is known
        broken = whole.copy()
        broken[place] = 0
        assert hdr.mastering(SimpleNamespace(side_data=[SideData(broken.tobytes())])) == ""
    assert hdr.mastering(SimpleNamespace(side_data=[SideData(whole.tobytes())])) != ""
