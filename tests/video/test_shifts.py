"""Shifts of packets that no file of a test could hold: days of broadcast, and damaged times."""

from fractions import Fraction
from types import SimpleNamespace

import pytest
from av.format import Flags

from palette_vc_jax.video.timeline import WRAP, find_shifts, shifted

CLOCK = 90_000  # ticks per second
STEP = 3600  # ticks from packet to packet
TURN = WRAP["mpegts"]


def corrected(*streams: list[int]) -> list[list[int]]:
    """Return the corrected times of the packets of an MPEG-TS file, whose streams take turns."""
    unit = Fraction(1, CLOCK)
    tracks = [SimpleNamespace(index=n, time_base=unit, type="audio") for n in range(len(streams))]
    packets = [
        SimpleNamespace(stream=t, pts=time, dts=time, duration=STEP, size=1, time_base=unit)
        for turn in zip(*streams, strict=True)
        for t, time in zip(tracks, turn, strict=True)
    ]
    form = SimpleNamespace(name="mpegts", flags=Flags.ts_discont.value)
    container = SimpleNamespace(format=form, demux=lambda _: packets)
    found: list[list[int]] = [[] for _ in tracks]
    for packet in shifted(container, packets, find_shifts(container, tracks)):
        found[packet.stream.index].append(packet.pts)
    return found


def regular(count: int, start: int = 0) -> list[int]:
    return [start + STEP * number for number in range(count)]


@pytest.mark.parametrize("start", [0, 10**9, TURN - 5 * STEP])
def test_the_clock_may_wrap(start):
    """If this fails, a recording over midnight of the clock falls apart."""
    times = [time % TURN for time in regular(20, start)]
    assert corrected(times) == [regular(20)]


def test_the_clock_may_wrap_again_and_again():
    """If this fails, three days of broadcast end after the first."""
    hour = 5 * CLOCK  # packets are a few seconds apart, which is no seam
    times = [number * hour for number in range(60_000)]
    assert times[-1] > 3 * TURN
    assert corrected([time % TURN for time in times]) == [times]


@pytest.mark.parametrize("wrong", [0, 1, TURN // 3, TURN - 1, 15 * CLOCK])
@pytest.mark.parametrize("count", [1, 3])
def test_wrong_times_are_moved_between_their_neighbors(wrong, count):
    """If this fails, one damaged time tears the sound from the pictures for the rest of a film."""
    times = regular(50, 40 * CLOCK)
    times[20 : 20 + count] = regular(count, wrong)
    other = regular(50, 40 * CLOCK)
    assert corrected(times, other) == [regular(50), regular(50)]


def test_a_pause_of_seconds_is_kept():
    """If this fails, a disturbance of a broadcast is cut out of the film."""
    times = regular(10) + regular(10, 5 * CLOCK)
    assert corrected(times) == [times]


@pytest.mark.parametrize("start", [0, 60 * CLOCK, 10**9])
def test_streams_are_moved_together(start):
    """If this fails, sound is out of step with the pictures after a seam."""
    pictures, sound = regular(30, 1000) + regular(30, start), regular(30) + regular(30, start)
    found = corrected(pictures, sound)
    assert found[0][0] - found[1][0] == 1000 and found[0][30] - found[1][30] == 0
    assert all(b - a >= STEP for times in found for a, b in zip(times, times[1:], strict=False))
    assert found[0][-1] <= 61 * STEP
