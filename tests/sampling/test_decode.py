"""Streaming through a toy VAE whose decoder mixes frames as the real one does."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palette_vc_jax.sampling.decode import decode_chunks, encode_frames, plan_chunks


def film(frames: int, seed: int = 0) -> np.ndarray:
    """Make latents [N, 2, 3, 3] that move smoothly."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, 2, 3, 3)) * 0.1
    return (rng.normal(size=(1, 2, 3, 3)) + np.cumsum(steps, axis=0)).astype(np.float32)


def plain(latents: np.ndarray) -> np.ndarray:
    """Decode frame by frame: no chunking can show."""
    return np.repeat(np.repeat(np.tanh(latents), 2, axis=2), 2, axis=3)


def temporal(latents: np.ndarray, padding: str = "zero", pooled: float = 0.02) -> np.ndarray:
    """Decode with a convolution over 3 frames, zero-padded, and a mean pooled over frames."""
    frames = plain(latents)
    ends = ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0))
    padded = np.pad(frames, ends)
    mixed = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    return mixed - pooled * frames.mean((1, 2, 3), keepdims=True)


@st.composite
def chunkings(draw):
    """Draw shots, chunk, context and fade."""
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    ends = np.cumsum(lengths).tolist()
    context, fade = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    chunk = 2 * context + fade + draw(st.integers(1, 8))
    return list(zip([0, *ends[:-1]], ends, strict=True)), chunk, context, fade


@settings(deadline=None)
@given(chunkings())
def test_every_frame_once_and_in_order(chunking):
    """If this fails, frames are lost, doubled, out of order, or weighted to another brightness."""
    shots, chunk, context, fade = chunking
    latents = film(shots[-1][1])
    shapes = set()

    def decode(part):
        shapes.add(part.shape)
        return plain(part)

    pieces = list(decode_chunks(decode, latents, shots, chunk, context, fade))
    assert all(len(piece) for piece in pieces)
    np.testing.assert_allclose(np.concatenate(pieces), plain(latents[None])[0], atol=1e-6)
    assert shapes == {(1, chunk, 2, 3, 3)}  # compiled once


@settings(deadline=None)
@given(chunkings())
def test_plan(chunking):
    """If this fails, a chunk crosses a cut, or a context frame reaches the film."""
    shots, chunk, context, fade = chunking
    plan = plan_chunks(*chunking)
    total = np.bincount(plan.indices.ravel(), plan.weights.ravel(), minlength=plan.frames)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    for indices, weights, number in zip(plan.indices, plan.weights, plan.shot, strict=True):
        start, stop = shots[number]
        assert start <= indices.min() and indices.max() < stop
        if indices[0] > start:
            assert (weights[:context] == 0).all()
        if indices.max() < stop - 1:
            assert (weights[chunk - context :] == 0).all()


def test_cut_is_not_crossed():
    """If this fails, a frame of one shot tints the next shot's first frames."""
    shots = [(0, 9), (9, 20)]
    latents = film(20)
    changed = latents.copy()
    changed[:9] += 5.0
    first, second = (
        np.concatenate(list(decode_chunks(temporal, x, shots, 8))) for x in (latents, changed)
    )
    np.testing.assert_array_equal(first[9:], second[9:])
    assert np.abs(first[:9] - second[:9]).max() > 0.1


def test_context_and_fade_remove_the_seams():
    """If this fails, chunk edges are visible: dark frames without context, steps without a fade."""
    latents = film(60)
    whole = temporal(latents[None])[0]

    def error(context, fade):
        pieces = decode_chunks(temporal, latents, [(0, 60)], 12, context, fade)
        return np.concatenate(list(pieces)) - whole

    assert np.abs(error(0, 0)).max() > 0.1  # zero padding darkens chunk edges
    dropped, faded = error(2, 0), error(2, 4)
    assert np.abs(dropped).max() < 0.02 and np.abs(faded).max() < 0.02  # pooled means remain
    step = [np.abs(np.diff(e, axis=0)).max() for e in (dropped, faded)]
    assert step[1] < 0.5 * step[0]


def test_short_shot_is_the_mirrored_one():
    """If this fails, a short shot is decoded beside empty frames."""
    latents = film(3)
    frames = np.concatenate(list(decode_chunks(temporal, latents, [(0, 3)], 8)))
    expected = temporal(latents[[0, 1, 2, 1, 0, 1, 2, 1]][None])[0, :3]
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_decoding_streams():
    """If this fails, a whole film is decoded before its first frame is written."""
    calls = []

    def decode(part):
        calls.append(1)
        return plain(part)

    stream = decode_chunks(decode, film(500), [(0, 500)], 10)
    next(stream)
    assert len(calls) == 2  # the next one is under way
    assert all(len(piece) <= 10 for piece in stream)


@pytest.mark.parametrize("frames", [1, 4, 5, 8])
def test_encoding(frames):
    """If this fails, padding reaches the film, or frames get the latents of others."""
    rng = np.random.default_rng(1)
    grays = rng.random((frames, 4, 6), np.float32)
    shapes = set()

    def encode(pictures):
        shapes.add(pictures.shape)
        assert pictures.min() >= -1.0 and pictures.max() <= 1.0
        return pictures[:, ::2, ::2, :2]

    latents = np.concatenate(list(encode_frames(encode, iter(grays), 4)))
    np.testing.assert_allclose(latents[..., 0], 2.0 * grays[:, ::2, ::2] - 1.0, atol=1e-6)
    np.testing.assert_array_equal(latents[..., 0], latents[..., 1])
    assert shapes == {(4, 4, 6, 3)}


def test_encoding_streams():
    """If this fails, a whole film is read before its first batch is encoded."""
    endless = (np.zeros((2, 2), np.float32) for _ in itertools.count())
    assert len(next(encode_frames(lambda x: x, endless, 3))) == 3
    assert list(encode_frames(lambda x: x, [], 3)) == []


def test_errors():
    """If this fails, a wrong setting ends in an index error, or is found late."""
    with pytest.raises(ValueError, match="lengthen the chunk"):
        decode_chunks(plain, film(5), [(0, 5)], 6, 2, 2)
    with pytest.raises(ValueError, match="none may be below 0"):
        decode_chunks(plain, film(5), [(0, 5)], 6, -1, 2)
    with pytest.raises(ValueError, match="5 latents"):
        decode_chunks(plain, film(5), [(0, 6)], 8)
    with pytest.raises(ValueError, match="batches of 0"):
        encode_frames(plain, [], 0)
    with pytest.raises(ValueError, match="same size"):
        list(encode_frames(lambda x: x, [np.zeros((2, 2)), np.zeros((2, 3))], 4))
