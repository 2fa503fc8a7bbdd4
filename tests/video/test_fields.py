"""Which field of interlaced film comes first: in the description, the container, the pictures."""

from fractions import Fraction

import av
import pytest

from palette_vc_jax.video.fields import field_marker, first_field, mark_fields
from palette_vc_jax.video.film import open_film
from tests.films import lumas, make_frame, write_film
from tests.recordings import write_recording
from tests.video.test_audio import colored

PAL = {"size": (576, 720), "pix_fmt": "yuv420p", "rate": 25}
NTSC = {"size": (480, 720), "pix_fmt": "yuv411p", "rate": Fraction(30000, 1001)}


def marks(path) -> tuple[str, bool, str]:
    """Return the order of the stream, and the first frame's flags."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        interlaced = frame.interlaced_frame
        return open_film(path).field_order, interlaced, first_field(frame)


@pytest.mark.parametrize(("name", "system"), [("a.avi", PAL), ("a.mov", PAL), ("a.dv", PAL),
                                              ("a.avi", NTSC), ("a.mov", NTSC),
                                              ("a.dv", NTSC)])  # fmt: skip
def test_dv_is_bottom_field_first(tmp_path, name, system):
    """If this fails, deinterlaced tapes judder, because their fields are shown in the wrong order.

    The stream does not tell the order, each frame does.
    """
    source = write_recording(tmp_path / name, 4, "dvvideo", "pcm_s16le", **system)
    assert open_film(source).field_order == "bottom"
    for suffix in (".mkv", ".mp4", ".mov"):
        assert marks(colored(source, tmp_path / f"b{suffix}")) == ("bottom", True, "bottom")


@pytest.mark.parametrize(("order", "code"), [("top", 2), ("bottom", 3)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_both_orders_reach_the_pictures(tmp_path, order, code, suffix):
    """If this fails, the container says one order and the pictures another."""
    source = write_film(tmp_path / "a.mkv", lumas(3), fields=code)
    assert open_film(source).field_order == order
    assert marks(colored(source, tmp_path / f"b{suffix}")) == (order, True, order)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_progressive_film_stays_progressive(tmp_path, suffix):
    """If this fails, players deinterlace film that has no fields, and blur it."""
    output = colored(write_film(tmp_path / "a.mkv", lumas(3)), tmp_path / f"b{suffix}")
    assert marks(output)[:2] == ("progressive", False)


@pytest.mark.parametrize(
    "pix_fmt", ["yuv422p10le", "yuv411p", "yuyv422", "nv12", "gray16le", "bgr0"]
)
def test_the_order_is_read_from_each_pixel_format(pix_fmt):
    """If this fails, tapes captured in some format have the wrong order, or end in a traceback."""
    frame = make_frame(lumas(1)[0], "yuv420p").reformat(format=pix_fmt)
    for order in ("top", "bottom"):
        assert first_field(mark_fields(frame, field_marker(64, 48, pix_fmt, order))) == order
