"""Finding cuts."""

import numpy as np
import pytest

from palette_vc_jax.video.shots import find_shots

RNG = np.random.default_rng(0)
WIDE = np.repeat(np.repeat(RNG.random((6, 60), np.float32), 8, 0), 8, 1)  # [48, 480]


def pan(frames, start=0, speed=4):
    return [WIDE[:, start + speed * i : start + speed * i + 64] for i in range(frames)]


def test_two_shots_are_parted_at_the_cut():
    """If this fails, a window reaches over a cut and colors of one shot flow into the next."""
    film = [*pan(30, speed=1), *pan(25, 300, speed=1)]
    assert find_shots(iter(film)) == [(0, 30), (30, 55)]
    assert find_shots((255 * f).astype(np.uint8) for f in film) == [(0, 30), (30, 55)]


def test_cut_between_still_pictures():
    """If this fails, a cut with no motion around it, a division by zero, is missed."""
    film = [WIDE[:, :64]] * 20 + [WIDE[:, 200:264]] * 20
    assert find_shots(film) == [(0, 20), (20, 40)]


def test_a_fast_pan_is_one_shot():
    """If this fails, a camera that moves cuts its shot to pieces, each with colors of its own."""
    assert find_shots(pan(60, speed=6)) == [(0, 60)]


def test_flicker_is_no_cut():
    """If this fails, old film, whose brightness jumps from frame to frame, is cut to pieces."""
    film = [np.clip(f * RNG.uniform(0.8, 1.2), 0, 1) for f in pan(50, speed=1)]
    assert find_shots(film) == [(0, 50)]


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_short_films_are_one_shot(frames):
    """If this fails, a single picture or a few frames have no shot, and nothing is colored."""
    assert find_shots(pan(frames)) == [(0, frames)]


def test_nothing_is_refused():
    """If this fails, an empty film yields an empty output."""
    with pytest.raises(ValueError, match="no frame"):
        find_shots([])
