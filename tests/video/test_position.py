"""Positions in a film, as users write them."""

from fractions import Fraction

import pytest

from palette_vc_jax.video.position import later_timecode, parse_position


@pytest.mark.parametrize(
    ("text", "frame"),
    [("0", 0), ("120", 120), ("4s", 100), ("4.8s", 120), ("0:04.8", 120), ("1:01", 1525),
     ("1:00:01", 90025), (" 7 ", 7), ("0.039s", 0), ("0.04s", 1)],
)  # fmt: skip
def test_positions(text, frame):
    """If this fails, a mask or keyframe goes to another frame than the one that was named."""
    assert parse_position(text, Fraction(25)) == frame


@pytest.mark.parametrize("text", ["", "-1", "4.8", "s", "1:2:3:4", "1:-2", "٣", "1e3s", "nan"])
def test_other_texts_are_refused(text):
    """If this fails, a typing error is taken for a position."""
    with pytest.raises(ValueError, match="a frame's number"):
        parse_position(text, Fraction(25))


@pytest.mark.parametrize(
    ("text", "frames", "rate", "later"),
    [
        ("01:00:00:00", 1500, Fraction(25), "01:01:00:00"),
        ("23:59:59:24", 1, Fraction(25), "00:00:00:00"),
        ("00:00:59;29", 1, Fraction(30000, 1001), "00:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:01:00;02", 17982 - 1800, Fraction(30000, 1001), "00:10:00;00"),
        ("01:00:00;00", 107892, Fraction(30000, 1001), "02:00:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("noon", 1, Fraction(25), None),
    ],
)
def test_later_timecodes(text, frames, rate, later):
    """If this fails, an excerpt cannot be put back into its place in the archive's copy."""
    assert later_timecode(text, frames, rate) == later
