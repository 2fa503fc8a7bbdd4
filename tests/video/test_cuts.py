"""Cuts from the files of other programs."""

from fractions import Fraction

import pytest

from palette_vc_jax.video.cuts import read_cuts

SCENES = """Timecode List:,00:00:04.000,00:00:06.000
Scene Number,Start Frame,Start Timecode,Start Time (seconds),End Frame,End Timecode
1,1,00:00:00.000,0.000,96,00:00:04.000
2,97,00:00:04.000,4.000,144,00:00:06.000
3,145,00:00:06.000,6.000,200,00:00:08.333
"""
EDL = """TITLE: reel 1
FCM: NON-DROP FRAME

001  AX       V     C        00:00:00:00 00:00:04:00 01:00:00:00 01:00:04:00
* FROM CLIP NAME: A
002  AX       AA    C        00:00:00:00 00:00:04:00 01:00:01:00 01:00:04:00
003  AX       V     D    024 00:00:04:00 00:00:06:00 01:00:04:00 01:00:06:00
004  AX       B     C        00:00:06:00 00:00:08:08 01:00:06:00 01:00:08:08
"""


@pytest.mark.parametrize(("name", "text"), [("a.csv", SCENES), ("a.csv", SCENES[52:]),
                                            ("a.edl", EDL)])  # fmt: skip
def test_lists_of_cuts_are_read(tmp_path, name, text):
    """If this fails, shots that an editor has marked are off by a frame, or are not read."""
    (tmp_path / name).write_text(text)
    assert read_cuts(tmp_path / name, Fraction(24)) == [96, 144]


def test_drop_frame_times_leave_out_numbers(tmp_path):
    """If this fails, the cuts of an American recording drift by 3.6 seconds an hour."""
    row = "{:03}  AX  V  C  00:00:00;00 00:00:01;00 {} {}\n"
    text = row.format(1, "00:00:00;00", "00:01:00;02") + row.format(2, "00:01:00;02", "01:00:00;00")
    text += row.format(3, "01:00:00;00", "01:00:01;00")
    (tmp_path / "a.edl").write_text(text)
    assert read_cuts(tmp_path / "a.edl", Fraction(30000, 1001)) == [1800, 107892]


@pytest.mark.parametrize("content", [b"", b"no cuts\n", b"\xff\xfe", b"Start Frame\nx\n"])
def test_another_file_is_one_line(tmp_path, content):
    """If this fails, a film is one shot because its list of cuts could not be read."""
    (tmp_path / "a.edl").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.edl: .*EDL"):
        read_cuts(tmp_path / "a.edl", Fraction(24))
    with pytest.raises(ValueError, match="no such file"):
        read_cuts(tmp_path / "none.edl", Fraction(24))
