"""Sample a film's latents in overlapping windows.

With `blending="step"`, each step divides the film's latents into windows, evaluates the network on
K windows at a time, sums the outputs with the plan's weights, and takes one solver step on the
whole film. The output, the denoised estimate and the stepped latents are affine in one another
with the same coefficients at every frame, so averaging any of them is equivalent. With
`blending="final"`, each window is sampled alone and the results are averaged once.

The host loops over steps and batches of windows, and each part of the work is a jitted function.
The network's, `velocity`, has the shape [K, T, h, w, C], so it is compiled once for films of any
length, which a program for all steps would not be; the others are small. The film's arrays are on
the device (`STORES["device"]`), or in host memory if they are too large for it; then a batch at a
time is copied to the device and back.

The network is an argument, a function that jit can hash (define it once, not per call):

    predict(params, inputs [K, T, h, w, 2C], c_noise [K], context [K, L, D],
            added_time_ids [K, 3], palette [K, 15], palette_mask [K], None) -> [K, T, h, w, C]

With R regions the palettes are [K, R, 15], the masks [K, R], and the last argument is the regions'
maps [K, T, h, w, R].

The sampler's state and sums are float32, whatever type `predict` computes in.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from palette_vc_jax.diffusion import edm, guidance, schedule, solvers
from palette_vc_jax.parallel import placement
from palette_vc_jax.sampling.dispatch import one_ahead
from palette_vc_jax.sampling.settings import (
    FilmConditions,
    Known,
    SamplerSettings,
    check_conditions,
    frame_noise,
)
from palette_vc_jax.sampling.windows import Shot, WindowPlan, from_zero

Predict = Callable[..., jax.Array]
Progress = Callable[[int, int], Any]  # (evaluated batches, total batches)
Array = np.ndarray | jax.Array  # in host memory or on the device

DEVICE_BYTES = 2**30  # films whose arrays are not larger are held on the device
_BLOCK = 64  # frames per solver step of a film in host memory
NOT_FINITE = (
    "{} returned values that are not finite; give --dtype bfloat16 or float32, and check the "
    "checkpoint."
)


class Windows(NamedTuple):
    """K windows and the conditions of their shots, as numpy arrays.

    Args:
        indices: `[K, T]`, frames of the film.
        weights: `[K, T]`.
        context: `[K, L, D]`.
        palette: `[K, 15]`, or `[K, R, 15]` of the regions.
        palette_mask: `[K]` or `[K, R]`.
    """

    indices: np.ndarray
    weights: np.ndarray
    context: np.ndarray
    palette: np.ndarray
    palette_mask: np.ndarray


class Frames(NamedTuple):
    """What the network sees of each frame of a film, or of K windows.

    Args:
        gray: `[N, h, w, C]` or `[K, T, h, w, C]`.
        regions: the same with R channels, or None.
    """

    gray: Array
    regions: Array | None


class Taken(NamedTuple):
    """What the frames of a film take from its keyframes.

    Args:
        keyframe: `[N]`, the number of the keyframe that a frame is, M for the other frames.
        source: see `Known`.
        weight: see `Known`.
    """

    keyframe: Array
    source: Array
    weight: Array


class Film(NamedTuple):
    """The conditions of a film's frames, and the latents of its M keyframes `[M, h, w, C]`."""

    frames: Frames
    taken: Taken | None
    known: Array | None


class Steps(NamedTuple):
    """The steps of a solver: `sigma` `[steps]`, and its coefficients `table` `[steps, 3]`."""

    sigma: np.ndarray
    table: np.ndarray


class Store(NamedTuple):
    """Where a film's arrays are held: what is done with them there."""

    put: Callable[[Any], Any]  # numpy arrays -> arrays of the store, which may be overwritten
    zeros: Callable[[Any], Any]  # an array -> zeros of its shape
    gather: Callable[[Any, np.ndarray], Any]  # arrays of frames, indices -> those of the frames
    add: Callable[[Any, Windows, Any], Any]  # total, windows, their values -> total
    change: Callable[..., Any]  # see `_change`
    advance: Callable[..., tuple[Any, Any, Any]]  # see `_advance`


def sample(
    predict: Predict,
    params: Any,
    conditions: FilmConditions,
    shots: Sequence[Shot],
    settings: SamplerSettings,
    seeds: Sequence[int],
    *,
    store: str = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Sample the color latents of a film, or of a run of its shots.

    Args:
        predict: the network, see the module's docstring.
        params: its parameters.
        conditions: conditions of the shots; `conditions.gray` begins at the first shot.
        shots: half-open ranges in the film's frame numbers; they may start after frame 0, as
            those of `windows.group_shots` do.
        settings: see `SamplerSettings`.
        seeds: seed of the noise of each shot, 0 to 2^32 - 1.
        store: see `sample_film`.
        progress: see `sample_film`.

    Returns:
        Latents `[N, h, w, C]`, float32 of unit variance, as the noisy latents.

    Raises:
        ValueError: if the conditions do not fit the shots.
        FloatingPointError: if the network returned values that are not finite.
    """
    plan = settings.plan(from_zero(shots), placement.num_batch_shards())
    check_conditions(conditions, plan)
    of_frame = conditions.gray.shape[1:], settings.shared_noise_fraction
    noise = np.concatenate(
        [
            frame_noise(seed, start, stop - start, *of_frame)
            for seed, (start, stop) in zip(seeds, shots, strict=True)
        ]
    )
    noise *= np.float32(schedule.initial_scale(settings.sigma_max))
    film = predict, params, noise, conditions, plan, settings
    return np.asarray(sample_film(*film, store=store, progress=progress))


def film_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a film's arrays while it is sampled, for latents `[N, h, w, C]`.

    There are four, in float32: the gray latents, the noisy latents, the sum over windows and the
    previous estimate. Regions and keyframes are not counted.
    """
    return 4 * 4 * int(np.prod(shape))


def sample_film(
    predict: Predict,
    params: Any,
    noise: np.ndarray,
    conditions: FilmConditions,
    plan: WindowPlan,
    settings: SamplerSettings,
    *,
    store: str = "auto",
    progress: Progress | None = None,
) -> Array:
    """Sample a film from its noise.

    Args:
        predict: the network, see the module's docstring.
        params: its parameters.
        noise: the film's latents at sigma_max, float32 `[N, h, w, C]`. They may be overwritten.
        conditions: see `FilmConditions`.
        plan: from `settings.plan`.
        settings: see `SamplerSettings`.
        store: `device`, `host` or `auto`: the device if the film fits in `DEVICE_BYTES`. The
            result is the same up to rounding.
        progress: called with (done, total) batches of windows after each batch.

    Returns:
        Latents `[N, h, w, C]`, float32, where the film is held.

    Raises:
        FloatingPointError: if the network returned values that are not finite; after the step.
    """
    if store not in ("auto", *STORES):
        raise ValueError(f"store {store!r} is not known; use one of auto, {', '.join(STORES)}.")
    conditions = check_conditions(conditions, plan)
    if store == "auto":
        store = "device" if film_bytes(noise.shape) <= DEVICE_BYTES else "host"
    held = STORES[store]
    noise = np.require(noise, np.float32, ["C", "W"])
    if conditions.known is not None:
        noise = _add_known(noise, conditions.known)
    latents, frames = held.put((noise, Frames(conditions.gray, conditions.regions)))
    given = _taken(conditions.known)
    batches, steps = _batches(conditions, plan), _steps(settings)
    evaluate = functools.partial(_evaluate, predict, params, conditions, settings)
    report = _counted(progress, len(batches) * settings.steps)
    if settings.blending == "step":
        film = Film(frames, *held.put(given))
        return _denoise(held, evaluate, latents, film, batches, steps, report)
    total = held.zeros(latents)
    for batch in batches:
        folded, alone = _alone(batch)
        own, own_frames = held.gather((latents, frames), folded)
        film = Film(own_frames, *held.put(_taken_alone(*given, batch.indices)))
        done = _denoise(held, evaluate, own, film, [alone], steps, report)
        total = held.add(total, batch, done.reshape(*batch.indices.shape, *done.shape[1:]))
    return total


def _denoise(
    held: Store,
    evaluate: Callable[..., jax.Array],
    latents: Array,
    film: Film,
    batches: list[Windows],
    steps: Steps,
    report: Callable[[], None],
) -> Array:
    """Take all steps on latents `[N, h, w, C]`, blending windows at each step."""
    previous = held.zeros(latents)
    for sigma, row in zip(steps.sigma, steps.table, strict=True):
        total = held.zeros(latents)
        started = (
            (batch, evaluate(*held.gather((latents, film.frames), batch.indices), batch, sigma))
            for batch in batches
        )
        for batch, output in one_ahead(started):
            # Further ahead of the device, its memory would fill with outputs.
            total = held.add(total, batch, jax.block_until_ready(output))
            report()
        changed = None
        if film.taken is not None:
            change = held.change(latents, total, sigma, film.taken.keyframe, film.known)
            changed = film.taken, film.known, change
        latents, previous, finite = held.advance(latents, total, previous, sigma, row, changed)
        if not finite:
            raise FloatingPointError(NOT_FINITE.format("the UNet"))
    return latents


# ---- one batch of windows


def _evaluate(
    predict: Predict,
    params: Any,
    conditions: FilmConditions,
    settings: SamplerSettings,
    latents: Array,
    frames: Frames,
    batch: Windows,
    sigma: np.ndarray,
) -> jax.Array:
    """Return the network's output F on windows `[K, T, h, w, C]`, guided."""

    def evaluate(gray: Array, context: Array, mask: Array) -> jax.Array:
        ids = conditions.added_time_ids
        given = latents, gray, frames.regions, ids, context, batch.palette, mask, sigma
        return placement.settle(velocity(predict, params, *given))

    kind = _guidance_kind(settings, conditions)
    given = frames.gray, batch.context, batch.palette_mask
    return guidance.guided(evaluate, kind, settings.guidance_scale, *given)


@functools.partial(jax.jit, static_argnames="predict")
def velocity(
    predict: Predict,
    params: Any,
    latents: jax.Array,
    gray: jax.Array,
    regions: jax.Array | None,
    ids: jax.Array,
    context: jax.Array,
    palette: jax.Array,
    mask: jax.Array,
    sigma: jax.Array,
) -> jax.Array:
    """Return the network's output F in float32 on K windows at one noise level.

    Args:
        predict: the network, see the module's docstring.
        params: its parameters.
        latents: noisy latents `[K, T, h, w, C]`.
        gray: latents of the gray frames, of the same shape.
        regions: `[K, T, h, w, R]`, or None.
        ids: micro-conditioning `[3]`.
        context: `[K, L, D]`.
        palette: `[K, 15]` or `[K, R, 15]`.
        mask: `[K]` or `[K, R]`.
        sigma: noise level, a scalar.
    """
    c = edm.coefficients(sigma)
    count = latents.shape[0]
    # The pretrained channel order is [noisy, gray], and only the noisy half is scaled.
    inputs = placement.shard_batch(jnp.concatenate([c.c_in * latents, gray], axis=-1))
    c_noise = jnp.full((count,), c.c_noise)
    ids = jnp.broadcast_to(ids, (count, *ids.shape))
    output = predict(params, inputs, c_noise, context, ids, palette, mask, regions)
    return output.astype(jnp.float32)


def _alone(batch: Windows) -> tuple[np.ndarray, Windows]:
    """Return a film in which the windows of a batch share no frame.

    Mirrored frames of a short shot remain the same frame as the one that they copy, as they are
    when windows are blended at each step.

    Returns:
        The frames `[K * T]` of the new film, as indices into the batch's film, and the windows
        over them.
    """
    count, frames = batch.indices.shape
    same = batch.indices[:, :, None] == batch.indices[:, None, :]  # [K, T, T]
    own = same.argmax(-1) + frames * np.arange(count)[:, None]  # first position of each frame
    alone = batch._replace(indices=own, weights=(batch.weights > 0).astype(np.float32))
    return batch.indices.reshape(-1), alone


def _taken_alone(
    taken: Taken | None, known: np.ndarray | None, indices: np.ndarray
) -> tuple[Taken | None, np.ndarray | None]:
    """Return what the frames of windows take, if each of them has keyframes of its own.

    A window takes the changes of the keyframes that it holds, so that the result does not depend on
    the other windows of its batch. Keyframe m of window k has the number `k * M + m`.

    Args:
        taken: what the film's frames take, or None.
        known: latents of the film's keyframes `[M, h, w, C]`, or None.
        indices: `[K, T]`, the windows' frames of the film.

    Returns:
        What the frames `[K * T]` take, and the keyframes' latents `[K * M, h, w, C]`.
    """
    if taken is None or known is None:
        return None, None
    count, frames = indices.shape
    total, flat = len(known), indices.reshape(-1)
    window = np.repeat(np.arange(count, dtype=np.int32), frames)
    number = taken.keyframe[flat]
    pixels = known[..., 0].size  # M * h * w
    own = Taken(
        np.where(number < total, window * total + number, count * total),
        taken.source[flat] + (window * pixels)[:, None, None, None],
        taken.weight[flat],
    )
    return own, np.tile(known, (count, 1, 1, 1))


# ---- the film on the device


@jax.jit
def _put(tree: Any) -> Any:
    return jax.tree.map(placement.replicate, tree)


@jax.jit
def _zeros(array: jax.Array) -> jax.Array:
    return placement.replicate(jnp.zeros_like(array))


@jax.jit
def _gather(tree: Any, indices: jax.Array | np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[indices], tree)


@functools.partial(jax.jit, donate_argnums=0)
def _add(total: jax.Array, indices: jax.Array, weights: jax.Array, values: jax.Array) -> jax.Array:
    """Add weighted windows `[K, T, h, w, C]` to their frames in `total`.

    Windows are added one at a time, and each writes a frame at most once. A scatter that writes a
    frame twice adds in no fixed order on a GPU, so results would not be reproducible.
    """
    beyond = len(total) + np.arange(indices.shape[1])  # out of range, so it is dropped

    def one_window(
        total: jax.Array, window: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, None]:
        indices, weights, values = window
        # Drop frames of weight 0 rather than multiply by 0, because they may be infinite.
        indices = jnp.where(weights > 0, indices, beyond)
        values = weights[:, None, None, None] * values
        return total.at[indices].add(values, mode="drop", unique_indices=True), None

    windows = indices, weights, placement.replicate(values)
    return placement.replicate(lax.scan(one_window, total, windows)[0])


@jax.jit
def _change(
    latents: jax.Array, output: jax.Array, sigma: jax.Array, keyframe: jax.Array, known: jax.Array
) -> jax.Array:
    """Return by how much the known latents `[M, h, w, C]` differ from the network's estimates.

    It is 0 for keyframes that are not among the frames. With `blending="final"`, mirrored frames
    repeat a keyframe in its window; the first one is taken.
    """
    is_it = keyframe == jnp.arange(len(known))[:, None]  # [M, N]
    place = is_it.argmax(1)
    change = known - edm.denoised(output[place], latents[place], sigma)
    return jnp.where(is_it.any(1)[:, None, None, None], change, 0.0)


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _advance(
    latents: jax.Array,
    output: jax.Array,
    previous: jax.Array,
    sigma: jax.Array,
    row: jax.Array,
    changed: tuple[Taken, jax.Array, jax.Array] | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Take a solver step; return the latents, the estimate D, and whether both are finite.

    `changed` is what the frames take from M keyframes, the keyframes' known latents
    `[M, h, w, C]`, and their change, from `_change`. The estimate of a keyframe becomes its known
    latents, and a solver step keeps it at these with the noise of the next sigma.
    """
    estimate = edm.denoised(output, latents, sigma)
    if changed is not None:
        taken, known, change = changed
        pixels = change.reshape(-1, change.shape[-1])  # [M * h * w, C]
        for side in range(2):
            estimate += taken.weight[..., side, None] * pixels[taken.source[..., side]]
        own = known[jnp.minimum(taken.keyframe, len(known) - 1)]
        is_known = (taken.keyframe < len(known))[:, None, None, None]
        estimate = jnp.where(is_known, own, estimate)
    latents = solvers.step(latents, estimate, previous, row)
    return latents, estimate, placement.replicate(jnp.isfinite(latents + estimate).all())


# ---- the film in host memory


def _gather_on_host(tree: Any, indices: np.ndarray | slice) -> Any:
    return jax.tree.map(lambda leaf: leaf[indices], tree)


def _add_on_host(total: np.ndarray, batch: Windows, values: Array) -> np.ndarray:
    """Do what `_add` does, in place; a window has each frame once with a weight above 0."""
    for indices, weights, window in zip(
        batch.indices, batch.weights, np.asarray(values), strict=True
    ):
        real = weights > 0
        total[indices[real]] += weights[real, None, None, None] * window[real]
    return total


def _change_on_host(
    latents: np.ndarray, output: np.ndarray, sigma: float, keyframe: np.ndarray, known: np.ndarray
) -> jax.Array:
    """Do what `_change` does with the keyframes alone on the device."""
    at = np.flatnonzero(keyframe < len(known))
    if not len(at):
        return jnp.zeros_like(known)
    return _change(latents[at], output[at], sigma, keyframe[at], known)


def _advance_on_host(
    latents: np.ndarray,
    output: np.ndarray,
    previous: np.ndarray,
    sigma: float,
    row: np.ndarray,
    changed: tuple[Taken, np.ndarray, jax.Array] | None,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Do what `_advance` does, a block of frames at a time, in place."""
    finite = True
    for start in range(0, len(latents), _BLOCK):
        part = slice(start, start + _BLOCK)
        own = latents[part], output[part], previous[part], sigma, row
        taken = changed and (_gather_on_host(changed[0], part), *changed[1:])
        stepped = _advance(*own, taken)
        latents[part], output[part] = stepped[:2]
        finite &= bool(stepped[2])
    return latents, output, finite


STORES = {
    "device": Store(
        _put,
        _zeros,
        _gather,
        lambda total, batch, values: _add(total, batch.indices, batch.weights, values),
        _change,
        _advance,
    ),
    "host": Store(
        lambda tree: tree,
        np.zeros_like,
        _gather_on_host,
        _add_on_host,
        _change_on_host,
        _advance_on_host,
    ),
}


# ---- inputs


def _steps(settings: SamplerSettings) -> Steps:
    sigmas = settings.sigmas()
    return Steps(sigmas[:-1], solvers.solver_table(settings.solver, sigmas))


def _guidance_kind(settings: SamplerSettings, conditions: FilmConditions) -> str | None:
    """Return the kind of guidance, or None if guidance would have no effect."""
    if settings.guidance_scale == 1.0:
        return None
    if settings.guidance == "palette" and not np.any(conditions.palette_mask):
        return None
    return settings.guidance


def _batches(conditions: FilmConditions, plan: WindowPlan) -> list[Windows]:
    """Return a padded plan and the conditions of its windows, in batches of K windows."""
    values = conditions.context, conditions.palette, conditions.palette_mask
    shots = (np.asarray(value)[plan.shot] for value in values)
    flat = (plan.indices, plan.weights, *shots)
    starts = range(0, plan.windows, plan.batch)
    return [Windows(*(leaf[start : start + plan.batch] for leaf in flat)) for start in starts]


def _taken(known: Known | None) -> tuple[Taken | None, np.ndarray | None]:
    """Return what a film's frames take from its keyframes, and the keyframes' latents."""
    if known is None:
        return None, None
    keyframe = np.full(len(known.source), len(known.frames), np.int32)
    keyframe[known.frames] = np.arange(len(known.frames))
    return Taken(keyframe, known.source, known.weight), np.asarray(known.latents, np.float32)


def _add_known(noise: np.ndarray, known: Known) -> np.ndarray:
    """Add the latents of the keyframes to their noise, in place: x = D + sigma_max n."""
    noise[known.frames] += known.latents
    return noise


def _counted(progress: Progress | None, total: int) -> Callable[[], None]:
    """Return a function that counts its calls and reports them to `progress`."""
    numbers = iter(range(1, total + 1))

    def report() -> None:
        if progress is not None:
            progress(next(numbers), total)

    return report


def check_finite(values: np.ndarray, network: str) -> None:
    """Raise FloatingPointError unless all `values`, computed by `network`, are finite."""
    with np.errstate(invalid="ignore"):  # inf - inf is invalid, and is reported below
        finite = np.isfinite(values.sum(dtype=np.float64))
    if not finite:
        raise FloatingPointError(NOT_FINITE.format(network))
