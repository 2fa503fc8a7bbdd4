"""Stream a film through the VAE: gray frames in, decoded frames out, in batches of fixed shape.

The encoder sees frames one by one. The decoder mixes them in time: its convolutions pad with zeros
at the ends of what they are given, and its norms pool over all frames of it. Chunks decoded side
by side would show seams, so they overlap: the frames next to an inner end of a chunk, its context,
are decoded and dropped, and between two chunks' contexts the film fades from one to the other,
for the pooled norms make chunks differ by a little everywhere.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from palette_vc_jax.sampling.windows import (
    Shot,
    WindowPlan,
    check_shots,
    mirror,
    normalize,
    window_starts,
)


def plan_chunks(shots: Sequence[Shot], chunk: int, context: int, fade: int) -> WindowPlan:
    """Plan the chunks in which a film is decoded, as windows with weights that sum to 1.

    Neighboring chunks of a shot share 2 * context + fade frames: `context` frames at either end
    have weight 0, over the `fade` frames between them one weight falls while the other rises. The
    last chunk of a shot is moved back to end with the shot. At a shot's own ends nothing is
    dropped. A shot shorter than a chunk is extended by mirrored frames of weight 0.

    Raises ValueError for shots that are no film, negative context or fade, and unless
    chunk > 2 * context + fade.
    """
    check_shots(shots)
    shared = 2 * context + fade
    if context < 0 or fade < 0 or chunk <= shared:
        raise ValueError(
            f"chunks of {chunk} frames with context {context} and fade {fade}; chunk > "
            f"2 * context + fade = {shared} is needed, none below 0: lengthen the chunk."
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
            places = begin + np.arange(chunk) if frames >= chunk else mirror(frames, chunk)
            indices.append(start + places)
            raw.append(weights)
            owner.append(number)
    plan_indices = np.asarray(indices, np.int32)
    total = int(shots[-1][1])
    weights = normalize(plan_indices, np.asarray(raw), total)
    return WindowPlan(plan_indices, weights, np.asarray(owner, np.int32), total)


def decode_chunks(
    decode: Callable[[np.ndarray], np.ndarray],
    latents: np.ndarray,
    shots: Sequence[Shot],
    chunk: int,
    context: int = 2,
    fade: int = 2,
) -> Iterator[np.ndarray]:
    """Decode a film's latents, yielding its frames in order as float32 [n, H, W, 3].

    decode: latents [1, chunk, h, w, C] -> frames [1, chunk, H, W, 3]; always this shape, so a
        jitted function is compiled once. Values pass as they are: scaling belongs to `decode`.
    latents: [N, h, w, C], read a chunk at a time (a memory map serves).
    shots: half-open frame ranges; no chunk crosses a cut.
    chunk, context, fade: as `plan_chunks` has them.

    Holds two chunks of decoded frames at most, whatever N is. Raises ValueError as `plan_chunks`,
    and when shots and latents differ in length, before anything is decoded.
    """
    plan = plan_chunks(shots, chunk, context, fade)
    if len(latents) != plan.frames:
        raise ValueError(
            f"{len(latents)} latents for shots of {plan.frames} frames; as many are needed: give "
            "shots and latents of the same film."
        )
    return _decode_plan(decode, latents, plan)


def _decode_plan(decode, latents, plan: WindowPlan) -> Iterator[np.ndarray]:
    starts = np.append(plan.indices[:, 0], plan.frames)
    begun = None  # weighted frames from the next chunk's first frame on, still to be added to
    for number, (indices, weights) in enumerate(zip(plan.indices, plan.weights, strict=True)):
        frames = np.asarray(decode(latents[indices][None]), np.float32)[0]  # [chunk, H, W, 3]
        frames = weights[:, None, None, None] * frames
        if begun is not None:
            frames[: len(begun)] += begun
        ready = starts[number + 1] - starts[number]  # no later chunk holds these
        same_shot = number + 1 < plan.windows and plan.shot[number + 1] == plan.shot[number]
        begun = frames[ready:].copy() if same_shot else None
        yield frames[:ready]


def encode_frames(
    encode: Callable[[np.ndarray], np.ndarray], grays: Iterable[np.ndarray], batch: int
) -> Iterator[np.ndarray]:
    """Encode gray frames, yielding their latents in order as float32 [n, h, w, C], n <= batch.

    encode: frames [batch, H, W, 3] in [-1, 1] -> latents [batch, h, w, C], the mode; always this
        shape, so a jitted function is compiled once. The last batch is filled with copies of its
        last frame, whose latents are dropped.
    grays: pictures [H, W], or [H, W, 3] with noise, in [0, 1], all of one size; read a batch at a
        time.

    Raises ValueError for batch < 1, and on meeting a picture of another size.
    """
    if batch < 1:
        raise ValueError(f"batches of {batch} frames; at least 1 is needed: give a larger number.")
    return _encode_batches(encode, grays, batch)


def _encode_batches(encode, grays, batch: int) -> Iterator[np.ndarray]:
    filled, frames = 0, None
    for gray in grays:
        if frames is None:
            frames = np.empty((batch, *gray.shape[:2], 3), np.float32)
        if gray.shape[:2] != frames.shape[1:3]:
            raise ValueError(
                f"a gray frame of shape {gray.shape} after frames of {frames.shape[1:3]}; one size "
                "is needed: resize the film first."
            )
        frames[filled] = 2.0 * (gray if gray.ndim == 3 else gray[..., None]) - 1.0
        filled += 1
        if filled == batch:
            yield np.asarray(encode(frames), np.float32)
            # A new array: on the CPU a jitted function may still read the one it was given.
            filled, frames = 0, np.empty_like(frames)
    if filled:
        frames[filled:] = frames[filled - 1]
        yield np.asarray(encode(frames), np.float32)[:filled]
