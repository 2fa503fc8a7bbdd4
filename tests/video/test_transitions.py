"""Fades, dissolves and wipes: what is found, what is not, and where shots are divided."""

import numpy as np
import pytest

from palette_vc_jax.video.candidates import Candidates
from palette_vc_jax.video.fades import FULL, Light, lights
from palette_vc_jax.video.resize import merge_chroma, resize
from palette_vc_jax.video.shots import divide, only_cuts
from palette_vc_jax.video.wipes import SIDES, Wipe
from tests.video.test_shots import WIDE, pan

RNG = np.random.default_rng(0)
FIELD = np.repeat(np.repeat(RNG.random((9, 60), np.float32), 6, 0), 6, 1)  # [54, 360]


def moving(frames, start=0, speed=0.25):
    """Return frames [54, 96] of a slow pan over a picture of soft blocks."""
    wide = resize(resize(FIELD, 27, 180), 54, 360)
    starts = [start + int(speed * index) for index in range(frames)]
    return [wide[:, s : s + 96] for s in starts]


def faded(frames, gains, level):
    """Return frames of a fade with 8-bit codes and grain."""
    grain = RNG.normal(0.0, 0.01, (len(frames), *frames[0].shape))
    mixed = [g * f + (1.0 - g) * level for f, g in zip(frames, gains, strict=True)]
    return [
        np.rint(255.0 * np.clip(f + n, 0, 1)) / 255.0 for f, n in zip(mixed, grain, strict=True)
    ]


@pytest.mark.parametrize("level", [0.0, 0.06, 1.0])
@pytest.mark.parametrize("into", [True, False])
def test_fades_are_found_with_their_gains(level, into):
    """If this fails, a fade passes through other hues, or an even shot is brightened."""
    gains = np.clip((np.arange(40) - 5) / 16, 0.0, 1.0)
    gains = gains if into else gains[::-1]
    shots, fades, *others = divide(faded(moving(40), gains, level))
    assert shots == [(0, 40)] and not any(others)
    (fade,) = fades
    assert fade.level == pytest.approx(level, abs=0.02)
    assert np.sum((gains > 0.08) & (gains < 0.95)) <= len(fade.gains) <= 21
    np.testing.assert_allclose(fade.gains, gains[fade.first : fade.last + 1], atol=0.06)


def test_shots_are_divided_in_black():
    """If this fails, colors of the shot before a fade flow into the shot after it."""
    down = np.clip((25 - np.arange(30)) / 16, 0.0, 1.0)
    first = faded(moving(30), down, 0.0)
    second = faded(moving(30, 200), down[::-1], 0.0)
    shots, fades, *_ = divide([*first, *second])
    assert len(fades) == 2 and fades[0].last < 30 <= fades[1].last
    assert len(shots) == 2 and 24 <= shots[1][0] <= 36


@pytest.mark.parametrize(("length", "bars"), [(12, 0), (24, 0), (16, 9)])
def test_dissolves_are_found_with_their_weights(length, bars):
    """If this fails, all colors swap in the middle of a dissolve."""
    weights = np.clip((np.arange(60) - 20) / length, 0.0, 1.0)[:, None, None]
    film = (1.0 - weights) * np.stack(moving(60, 0, 0.1)) + weights * moving(60, 200, 0.1)
    film[:, :bars] = film[:, 54 - bars :] = 0.02  # letterbox bars have edges in both shots
    shots, fades, (found,), wipes = divide(film)
    assert not fades and not wipes
    assert abs(found.first - 21) <= 3 and abs(found.last - (19 + length)) <= 3
    assert shots == [(0, found.cut), (found.cut, 60)] and abs(found.cut - 20 - length / 2) <= 2
    true = weights[found.first : found.last + 1, 0, 0]
    np.testing.assert_allclose(found.weights, true, atol=0.15)
    assert np.all(np.diff(found.weights) >= 0.0)


@pytest.mark.parametrize("length", [10, 24])
@pytest.mark.parametrize("side", SIDES)
def test_wipes_are_found_with_their_edges(side, length):
    """If this fails, the colors of one shot cover the picture of the other in a wipe."""
    edges = np.clip((np.arange(60) - 20) / length, 0.0, 1.0)
    shares = np.stack(list(Wipe(0, 59, side, tuple(edges)).shares(54, 96)))[..., 0]
    film = (1.0 - shares) * np.stack(moving(60, 0, 0.1)) + shares * moving(60, 200, 0.1)
    shots, fades, dissolves, (found,) = divide(film)
    assert not fades and not dissolves and found.side == side
    assert abs(found.first - 21) <= 2 and abs(found.last - (19 + length)) <= 2
    assert shots == [(0, found.cut), (found.cut, 60)] and abs(found.cut - 20 - length / 2) <= 2
    np.testing.assert_allclose(found.edges, edges[found.first : found.last + 1], atol=0.1)


def test_a_dissolve_that_meets_a_wipe_divides_two_shots():
    """If this fails, a shot between two transitions has the palette of the shot before it."""
    one = np.clip((np.arange(70) - 14) / 12, 0.0, 1.0)[:, None, None]
    edges = np.clip((np.arange(70) - 25) / 14, 0.0, 1.0)
    two = np.stack(list(Wipe(0, 69, "left", tuple(edges)).shares(54, 96)))[..., 0]
    pictures = [np.stack(moving(70, start, 0.0)) for start in (0, 100, 200)]
    film = (1.0 - one) * pictures[0] + one * pictures[1]
    shots = divide((1.0 - two) * film + two * pictures[2]).shots
    assert len(shots) == 3 and abs(shots[1][0] - 20) <= 3 and abs(shots[2][0] - 32) <= 3


def test_a_wipe_covers_the_picture_from_its_side():
    """If this fails, a wipe has the colors of the wrong shot on each side of its edge."""
    expected = {"left": [[1, 0.5, 0], [1, 0.5, 0]], "right": [[0, 0.5, 1], [0, 0.5, 1]],
                "top": [[1, 1, 1], [0, 0, 0]], "bottom": [[0, 0, 0], [1, 1, 1]]}  # fmt: skip
    for side, shares in expected.items():
        (found,) = Wipe(4, 4, side, (0.5,)).shares(2, 3)
        np.testing.assert_allclose(found[..., 0], shares)


def test_a_film_of_one_lit_line_is_read():
    """If this fails, a film whose last line alone is lit ends in a traceback."""
    film = np.zeros((70, 54, 96), np.float32)
    film[:, -1] = 0.5
    assert divide(film).shots == [(0, 70)]


@pytest.mark.parametrize(
    "film",
    [
        pan(60, speed=6),
        moving(60, speed=3.0),
        [*pan(30, speed=1), *pan(30, 300, speed=1)],
        [np.clip(f * g, 0, 1) for f, g in zip(moving(60), RNG.uniform(0.8, 1.2, 60), strict=True)],
        [f * g for f, g in zip(moving(60), np.linspace(0.4, 1.0, 60), strict=True)],
        [np.full((54, 96), 0.02)] * 12 + moving(20),
        [WIDE[:, :64]] * 3,
    ],
    ids=["fast pan", "pan", "cut", "flicker", "dawn", "cut from black", "short"],
)
def test_ordinary_shots_have_no_transitions(film):
    """If this fails, ordinary motion is cut to pieces, or its light is changed for the model."""
    division = divide(film)
    assert not any(division[1:])
    assert division.shots == only_cuts(film).shots


def test_a_fade_has_the_chroma_of_its_lit_frame():
    """If this fails, the colors of a dim frame are brighter or of another hue than its light."""
    gray = moving(1)[0] * 0.6 + 0.2
    image = resize(gray, 18, 32)[..., None] + np.float32([0.1, 0.0, -0.1])
    whole = merge_chroma(gray, image, "bt601")
    for light in (Light(0.5, 0.0), Light(0.3, 1.0)):
        dim = light.dim(gray)
        np.testing.assert_allclose(light.lit(dim), gray, atol=1e-5)
        found = merge_chroma(dim, image, "bt601", light=light)
        np.testing.assert_allclose(found, light.gain * whole, atol=1e-4)
    assert FULL.lit(gray) is gray
    assert not lights([])


def test_dissolves_that_follow_each_other_are_apart():
    """If this fails, two dissolves share a frame, and the film gets a frame more or less."""
    pictures = [np.stack(moving(140, start, 0.05)) for start in (0, 100, 200)]
    one = np.clip((np.arange(140) - 10) / 12, 0.0, 1.0)[:, None, None]
    two = np.clip((np.arange(140) - 34) / 16, 0.0, 1.0)[:, None, None]
    film = (1.0 - one) * pictures[0] + one * pictures[1]
    found = divide((1.0 - two) * film + two * pictures[2])
    first, second = found.dissolves
    assert second.first > first.last + 1 and second.last < 50 and len(found.shots) == 3
    for dissolve in found.dissolves:
        assert len(dissolve.weights) == dissolve.last - dissolve.first + 1


def test_a_better_candidate_does_not_overlap_one_that_was_kept():
    """If this fails, two transitions share frames, and a film gets more frames than it has."""
    candidates = Candidates()
    for first, last, score in ((1, 12, 0.1), (14, 25, 0.3), (10, 27, 0.2)):
        if candidates.beats(first, score):
            candidates.add(Wipe(first, last, "left", ()), score)
    assert [(one.first, one.last) for one in candidates.finish()] == [(1, 12), (14, 25)]
