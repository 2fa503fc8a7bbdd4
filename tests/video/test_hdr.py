"""HDR films: what the model sees, and what is written."""

import numpy as np
import pytest

from palette_vc_jax.video import hdr
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import small_gray
from palette_vc_jax.video.write import check_output
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
