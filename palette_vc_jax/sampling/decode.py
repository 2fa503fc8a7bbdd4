"""Encode and decode a film with the VAE in batches of a fixed shape.

The encoder processes each frame alone. The decoder mixes frames in time: its convolutions pad the
ends of their input with zeros, and its norms pool over all frames. Chunks that only touch would
show seams, so chunks overlap. The frames next to an inner end of a chunk, its context, are decoded
and dropped. Between the contexts of two chunks, the film fades from one chunk to the other,
because the pooled norms make chunks differ slightly at every frame.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from palette_vc_jax.sampling.dispatch import one_ahead
from palette_vc_jax.sampling.windows import (
    Shot,
    WindowPlan,
    check_shots,
    mirror,
    normalize,
    pad,
    window_starts,
)

Array = np.ndarray | jax.Array


def plan_chunks(shots: Sequence[Shot], chunk: int, context: int, fade: int) -> WindowPlan:
    """Plan the chunks in which a film is decoded, as windows whose weights sum to 1.

    Neighboring chunks of a shot share 2 * context + fade frames. The `context` frames at each end
    have weight 0; over the `fade` frames between them, one weight falls while the other rises. The
    last chunk of a shot is moved back to end with the shot. No frames are dropped at the ends of a
    shot. A shot shorter than a chunk is extended by mirrored frames of weight 0.

    Args:
        shots: half-open frame ranges that cover the film from frame 0.
        chunk: frames of a chunk, more than 2 * context + fade.
        context: frames dropped at each inner end of a chunk.
        fade: frames over which neighboring chunks are cross-faded.

    Raises:
        ValueError: if the shots do not cover a film, or a size is out of range.
    """
    check_shots(shots)
    shared = 2 * context + fade
    if context < 0 or fade < 0 or chunk <= shared:
        raise ValueError(
            f"chunks of {chunk} frames with context {context} and fade {fade}; chunk must exceed "
            f"2 * context + fade = {shared}, and none may be below 0: lengthen the chunk."
        )
    ramp = np.concatenate(
        [np.zeros(context), np.arange(1, fade + 1) / (fade + 1), np.ones(chunk - context - fade)]
    )
    indices, raw, owner = [], [], []
    for number, (start, stop) in enumerate(shots):
        frames = stop - start
        starts = window_starts(frames, chunk, chunk - shared) if frames > chunk else [0]
        for begin in starts:
            weights = np.where(np.arange(chunk) < frames, 1.0, 0.0)
            if begin > 0:
                weights *= ramp
            if begin != starts[-1]:
                weights *= ramp[::-1]
            positions = begin + np.arange(chunk) if frames >= chunk else mirror(frames, chunk)
            indices.append(start + positions)
            raw.append(weights)
            owner.append(number)
    plan_indices = np.asarray(indices, np.int32)
    total = int(shots[-1][1])
    weights = normalize(plan_indices, np.asarray(raw), total)
    return WindowPlan(plan_indices, weights, np.asarray(owner, np.int32), total)


def decode_chunks(
    decode: Callable[[np.ndarray], Array],
    latents: np.ndarray,
    shots: Sequence[Shot],
    chunk: int,
    context: int = 2,
    fade: int = 2,
    together: int = 1,
) -> Iterator[np.ndarray]:
    """Decode a film's latents; yield its frames in order, float32 `[n, H, W, 3]`.

    Memory holds at most 2 * `together` + 1 chunks of decoded frames, whatever N is.

    Args:
        decode: function from latents `[B, chunk, h, w, C]` to frames `[B, chunk, H, W, 3]`, with
            B = `together`. The shape is always the same, so a jitted function is compiled once. It
            must scale the latents itself.
        latents: `[N, h, w, C]`, read a chunk at a time; may be a memory map.
        shots: half-open frame ranges; no chunk crosses a cut.
        chunk: see `plan_chunks`.
        context: see `plan_chunks`.
        fade: see `plan_chunks`.
        together: chunks decoded together; the last batch is filled with copies of its last chunk.

    Raises:
        ValueError: as `plan_chunks`, or if shots and latents differ in length; before anything is
            decoded.
    """
    plan = plan_chunks(shots, chunk, context, fade)
    if len(latents) != plan.frames:
        raise ValueError(
            f"{len(latents)} latents for shots of {plan.frames} frames; the numbers must agree: "
            "give shots and latents of the same film."
        )
    return _decode_plan(decode, latents, plan, together)


def _decode_plan(
    decode: Callable[[np.ndarray], Array], latents: np.ndarray, plan: WindowPlan, together: int
) -> Iterator[np.ndarray]:
    padded = pad(plan, together).indices
    batches = range(0, len(padded), together)
    decoded = one_ahead(decode(latents[padded[start : start + together]]) for start in batches)
    chunks = itertools.chain.from_iterable(np.asarray(frames, np.float32) for frames in decoded)
    starts = np.append(plan.indices[:, 0], plan.frames)
    begun = None  # weighted frames that the next chunk still adds to
    for number, weights in enumerate(plan.weights):
        frames = weights[:, None, None, None] * next(chunks)  # [chunk, H, W, 3]
        if begun is not None:
            frames[: len(begun)] += begun
        ready = starts[number + 1] - starts[number]  # frames that no later chunk contains
        same_shot = number + 1 < plan.windows and plan.shot[number + 1] == plan.shot[number]
        begun = frames[ready:].copy() if same_shot else None
        yield frames[:ready]


def encode_frames(
    encode: Callable[[np.ndarray], Array], grays: Iterable[np.ndarray], batch: int
) -> Iterator[np.ndarray]:
    """Encode gray frames; yield their latents in order, float32 `[n, h, w, C]` with n <= batch.

    Args:
        encode: function from frames `[batch, H, W, 3]` in [-1, 1] to latents `[batch, h, w, C]`,
            the mode. The shape is always the same, so a jitted function is compiled once; the
            last batch is filled with copies of its last frame, whose latents are dropped.
        grays: frames `[H, W]`, or `[H, W, 3]` with noise, in [0, 1] and of one size; read a batch
            at a time.
        batch: frames encoded together.

    Raises:
        ValueError: if `batch` is below 1, or a frame's size differs from the first.
    """
    if batch < 1:
        raise ValueError(f"batches of {batch} frames; give at least 1.")
    return _encode_batches(encode, grays, batch)


def _encode_batches(
    encode: Callable[[np.ndarray], Array], grays: Iterable[np.ndarray], batch: int
) -> Iterator[np.ndarray]:
    started = ((count, encode(frames)) for count, frames in _fill_batches(grays, batch))
    for count, latents in one_ahead(started):
        yield np.asarray(latents, np.float32)[:count]


def _fill_batches(grays: Iterable[np.ndarray], batch: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of frames in each batch, and the batch."""
    filled, frames = 0, None
    for gray in grays:
        if frames is None:
            frames = np.empty((batch, *gray.shape[:2], 3), np.float32)
        if gray.shape[:2] != frames.shape[1:3]:
            raise ValueError(
                f"a gray frame of shape {gray.shape} after frames of {frames.shape[1:3]}; all "
                "frames need the same size: resize the film first."
            )
        frames[filled] = 2.0 * (gray if gray.ndim == 3 else gray[..., None]) - 1.0
        filled += 1
        if filled == batch:
            yield filled, frames
            # Allocate a new array, because the device may still read the old.
            filled, frames = 0, np.empty_like(frames)
    if frames is not None and filled:
        frames[filled:] = frames[filled - 1]
        yield filled, frames
