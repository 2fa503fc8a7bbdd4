"""The window planner: examples from MimicMotion, and properties that hold for every film."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palette_vc_jax.sampling.windows import (
    MODES,
    WEIGHTS,
    group_shots,
    mirror,
    pad,
    plan_windows,
    triangular,
)


@st.composite
def films(draw):
    """Draw shots, a window and an overlap."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    ends = np.cumsum(lengths).tolist()
    shots = list(zip([0, *ends[:-1]], ends, strict=True))
    window = draw(st.integers(1, 12))
    mode = draw(st.sampled_from(MODES)) if window > 1 else "sliding"
    overlap = draw(st.integers(1 if mode == "anchored" else 0, window - 1))
    return shots, window, overlap, mode, draw(st.sampled_from(WEIGHTS))


@settings(deadline=None)
@given(films())
def test_every_film(film):
    """If this fails, a film has frames that no window denoises, or windows that mix two shots."""
    shots, window, overlap, mode, weights = film
    plan = plan_windows(*film)
    assert plan.indices.dtype == np.int32 and plan.weights.dtype == np.float32
    assert plan.indices.shape == plan.weights.shape == (plan.windows, window)
    assert plan.frames == shots[-1][1]
    total = np.bincount(plan.indices.ravel(), plan.weights.ravel(), minlength=plan.frames)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert (plan.weights >= 0).all()
    for indices, row, number in zip(plan.indices, plan.weights, plan.shot, strict=True):
        start, stop = shots[number]
        assert start <= indices.min() and indices.max() < stop
        counted = indices[row > 0]
        assert len(set(counted)) == len(counted) == min(window, stop - start)
        if mode == "anchored":
            assert indices[0] == start
        if stop - start < window:
            assert (np.abs(np.diff(indices)) <= 1).all() and (row[stop - start :] == 0).all()
        elif mode == "sliding":
            assert (np.diff(indices) == 1).all()
        else:
            assert (np.diff(indices[1:]) == 1).all()


@settings(deadline=None)
@given(films())
def test_neighbors_share_the_overlap(film):
    """If this fails, windows share fewer frames than given, or a shot loses its last frames."""
    shots, window, overlap, _, _ = film
    plan = plan_windows(*film)
    for number, (_, stop) in enumerate(shots):
        rows = plan.indices[plan.shot == number]
        assert rows[-1].max() == stop - 1
        shared = [len(set(a) & set(b)) for a, b in zip(rows[:-1], rows[1:], strict=True)]
        assert all(s == overlap for s in shared[:-1]) and all(s >= overlap for s in shared)


@settings(deadline=None)
@given(films(), st.integers(1, 7))
def test_padding(film, batch):
    """If this fails, padding counts, or leaves a batch that the compiled program does not fit."""
    plan = plan_windows(*film)
    padded = pad(plan, batch)
    assert padded.windows % batch == 0 and 0 <= padded.windows - plan.windows < batch
    assert padded.batch == batch and len(padded.shot) == padded.windows
    np.testing.assert_array_equal(padded.indices[: plan.windows], plan.indices)
    np.testing.assert_array_equal(padded.weights[: plan.windows], plan.weights)
    assert (padded.weights[plan.windows :] == 0).all()
    assert padded.indices.max() < plan.frames


def test_sliding_examples():
    """If this fails, the plan is not the one documented."""
    plan = plan_windows([(0, 10), (10, 13)], 4, 1)
    expected = [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [10, 11, 12, 11]]
    np.testing.assert_array_equal(plan.indices, expected)
    np.testing.assert_array_equal(plan.shot, [0, 0, 0, 1])
    shifted = plan_windows([(0, 9)], 4, 1).indices
    np.testing.assert_array_equal(shifted[:, 0], [0, 3, 5])


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "firsts"),
    [(40, 16, 4, [1, 13, 25]), (100, 25, 6, [1, 20, 39, 58, 76])],
)
def test_anchored_as_mimicmotion(frames, window, overlap, firsts):
    """If this fails, anchored windows are not those of MimicMotion's pipeline."""
    plan = plan_windows([(0, frames)], window, overlap, "anchored")
    np.testing.assert_array_equal(plan.indices[:, 0], 0)
    np.testing.assert_array_equal(plan.indices[:, 1], firsts)
    assert plan.indices[-1, -1] == frames - 1


def test_triangular_as_mimicmotion():
    """If this fails, the blend differs from MimicMotion's."""
    weights = triangular(16)
    np.testing.assert_allclose(weights[:8], np.arange(1, 16, 2) / 16)
    np.testing.assert_allclose(weights, weights[::-1])
    plan = plan_windows([(0, 28)], 16, 4)  # frames 12..15 are shared
    np.testing.assert_allclose(plan.weights[0, 12:], [7 / 8, 5 / 8, 3 / 8, 1 / 8])
    np.testing.assert_allclose(plan.weights[1, :4], [1 / 8, 3 / 8, 5 / 8, 7 / 8])
    uniform = plan_windows([(0, 28)], 16, 4, weights="uniform")
    np.testing.assert_allclose(uniform.weights[0], [1.0] * 12 + [0.5] * 4)


def test_mirror():
    """If this fails, a short shot's extension repeats or skips frames where it turns."""
    np.testing.assert_array_equal(mirror(3, 8), [0, 1, 2, 1, 0, 1, 2, 1])
    np.testing.assert_array_equal(mirror(1, 4), [0, 0, 0, 0])
    np.testing.assert_array_equal(mirror(2, 5), [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(mirror(4, 4), [0, 1, 2, 3])


@settings(deadline=None)
@given(films(), st.integers(1, 60))
def test_group_shots(film, frames):
    """If this fails, runs lose shots, cut one, or exceed the bound without need."""
    shots = film[0]
    groups = group_shots(shots, frames)
    assert [shot for group in groups for shot in group] == shots
    for group in groups:
        assert len(group) == 1 or group[-1][1] - group[0][0] <= frames


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 4, 1), "no shots"),
        (([(0, 3), (4, 6)], 4, 1), "must be consecutive"),
        (([(1, 3)], 4, 1), "must be consecutive"),
        (([(0, 0)], 4, 1), "must be consecutive"),
        (([(0, 3)], 0, 0), "windows of 0 frames"),
        (([(0, 3)], 4, 4), "overlap of 4"),
        (([(0, 3)], 4, -1), "overlap of -1"),
        (([(0, 3)], 4, 1, "looped"), "sliding, anchored"),
        (([(0, 3)], 4, 1, "sliding", "gaussian"), "triangular, uniform"),
        (([(0, 3)], 4, 0, "anchored"), "raise it"),
    ],
)
def test_errors(arguments, message):
    """If this fails, a wrong setting ends in an index error far from its cause."""
    with pytest.raises(ValueError, match=message):
        plan_windows(*arguments)
    with pytest.raises(ValueError, match="batches of 0"):
        pad(plan_windows([(0, 3)], 2, 1), 0)
