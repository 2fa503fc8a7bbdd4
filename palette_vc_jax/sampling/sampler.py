"""Sample a film's latents in overlapping windows.

With `blending="step"`, each step divides the film's latents into windows, evaluates the network on
K windows at a time, sums the outputs with the plan's weights, and takes one solver step on the
whole film. The output, the denoised estimate and the stepped latents are affine in one another
with the same coefficients at every frame, so averaging any of them is equivalent. With
`blending="final"`, each window is sampled alone and the results are averaged once.

Two drivers give the same result up to rounding. `sample_scan` is one jitted program for all steps
and batches, with the film on the device; it is compiled again for each film length. `sample_loop`
loops on the host, with the film in host memory and K windows on the device; its one jitted
function has the shape [K, T, h, w, C] for any film length. `sample` selects the driver.

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
from palette_vc_jax.sampling.settings import (
    FilmConditions,
    Known,
    SamplerSettings,
    check_conditions,
    frame_noise,
)
from palette_vc_jax.sampling.windows import Shot, WindowPlan

Predict = Callable[..., jax.Array]
Progress = Callable[[int, int], Any]  # (evaluated batches, total batches)

DRIVERS = ("auto", "scan", "loop")
SCAN_BYTES = 2**30  # films whose arrays are not larger are sampled in one program
_BLOCK = 64  # frames per solver step in the loop


class Windows(NamedTuple):
    """K windows and the conditions of their shots; arrays may have a leading axis of batches.

    On the host, in the loop, they are numpy arrays.

    Args:
        indices: `[K, T]`, frames of the film.
        weights: `[K, T]`.
        context: `[K, L, D]`.
        palette: `[K, 15]`, or `[K, R, 15]` of the regions.
        palette_mask: `[K]` or `[K, R]`.
    """

    indices: jax.Array
    weights: jax.Array
    context: jax.Array
    palette: jax.Array
    palette_mask: jax.Array


class Frames(NamedTuple):
    """What belongs to each frame of a film, or to each frame of K windows: numpy or JAX arrays.

    Args:
        gray: `[N, h, w, C]` or `[K, T, h, w, C]`.
        regions: the same with R channels, or None.
        keyframe: `[N]` or `[K, T]`, the number of the keyframe that a frame is, M for the other
            frames; None if there are no keyframes.
        source: see `Known`, or None.
        weight: see `Known`, or None.
    """

    gray: Any
    regions: Any
    keyframe: Any = None
    source: Any = None
    weight: Any = None

    def gather(self, indices: np.ndarray | jax.Array | slice) -> "Frames":
        """Return what belongs to the frames `indices`."""
        return jax.tree.map(lambda leaf: leaf[indices], self)


class Steps(NamedTuple):
    """The steps of a solver: `sigma` `[steps]`, and its coefficients `table` `[steps, 3]`."""

    sigma: np.ndarray
    table: np.ndarray


def sample(
    predict: Predict,
    params: Any,
    conditions: FilmConditions,
    shots: Sequence[Shot],
    settings: SamplerSettings,
    seed: int,
    *,
    driver: str = "auto",
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
        seed: seed of the noise, 0 to 2^32 - 1.
        driver: `scan`, `loop` or `auto`: the scan if the film fits in `SCAN_BYTES` and no
            progress callback is given (one program cannot report progress), else the loop.
        progress: called with (done, total) batches of windows after each batch.

    Returns:
        Latents `[N, h, w, C]`, float32 of unit variance, as the noisy latents.

    Raises:
        ValueError: if the conditions do not fit the shots.
        FloatingPointError: if the network returned values that are not finite; the loop raises
            at the first such step.
    """
    if driver not in DRIVERS:
        raise ValueError(f"driver {driver!r} is not known; use one of {', '.join(DRIVERS)}.")
    first = shots[0][0] if len(shots) else 0
    plan = settings.plan([(start - first, stop - first) for start, stop in shots])
    check_conditions(conditions, plan)
    if driver == "auto":
        fits = film_bytes(conditions.gray.shape) <= SCAN_BYTES
        driver = "scan" if fits and progress is None else "loop"
    noise = frame_noise(
        seed, first, plan.frames, conditions.gray.shape[1:], settings.shared_noise_fraction
    )
    noise *= np.float32(schedule.initial_scale(settings.sigma_max))
    if driver == "scan":
        latents = np.asarray(sample_scan(predict, params, noise, conditions, plan, settings))
    else:
        latents = sample_loop(predict, params, noise, conditions, plan, settings, progress)
    check_finite(latents, "the UNet")
    return latents


def film_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a driver's arrays of the film's length, for latents `[N, h, w, C]`.

    There are four, in float32: the gray latents, the noisy latents, the sum over windows and the
    previous estimate. The loop holds them on the host, and nothing on the device grows with N;
    with `blending="final"` it holds three of them.
    """
    return 4 * 4 * int(np.prod(shape))


def sample_scan(
    predict: Predict,
    params: Any,
    noise: np.ndarray | jax.Array,
    conditions: FilmConditions,
    plan: WindowPlan,
    settings: SamplerSettings,
) -> jax.Array:
    """Sample a film in one program: a scan over steps around a scan over batches of windows.

    The program is compiled once for each number of frames, windows and steps.

    Args:
        predict: the network, see the module's docstring.
        params: its parameters.
        noise: the film's latents at sigma_max, `[N, h, w, C]`.
        conditions: see `FilmConditions`.
        plan: from `settings.plan`.
        settings: see `SamplerSettings`.

    Returns:
        Latents `[N, h, w, C]`, float32 on the device.
    """
    conditions = check_conditions(conditions, plan)
    frames, known = _frames(conditions)
    if conditions.known is not None:
        noise = _add_known(np.array(noise, np.float32), conditions.known)
    return _scan_film(
        predict,
        _guidance_kind(settings, conditions),
        settings.blending,
        params,
        jnp.asarray(noise, jnp.float32),
        jax.tree.map(jnp.asarray, frames),
        known,
        conditions.added_time_ids,
        _batches(conditions, plan),
        _steps(settings),
        settings.guidance_scale,
    )


def sample_loop(
    predict: Predict,
    params: Any,
    noise: np.ndarray,
    conditions: FilmConditions,
    plan: WindowPlan,
    settings: SamplerSettings,
    progress: Progress | None = None,
) -> np.ndarray:
    """Sample a film by a loop on the host over steps and batches of windows.

    The arguments are those of `sample_scan`, and `progress` is called with (done, total) batches.
    If `noise` is a float32 array, it is overwritten with the result. The device holds one batch
    at a time, so only host memory limits the length of a film (`film_bytes`).

    Returns:
        Latents `[N, h, w, C]`, float32 on the host.
    """
    conditions = check_conditions(conditions, plan)
    kind = _guidance_kind(settings, conditions)
    batches = _batches(conditions, plan)
    count = batches.indices.shape[0]
    steps = _steps(settings)
    ids, scale = conditions.added_time_ids, settings.guidance_scale
    frames, known = _frames(conditions)
    done = 0

    def velocity(
        latents: np.ndarray, frames: Frames, batch: Windows, sigma: np.ndarray
    ) -> np.ndarray:
        nonlocal done
        output = np.asarray(
            _velocity_unit(predict, kind, params, latents, frames, ids, batch, sigma, scale)
        )
        done += 1
        if progress is not None:
            progress(done, count * len(steps.sigma))
        return output

    each = [jax.tree.map(lambda leaf, b=b: leaf[b], batches) for b in range(count)]
    noise = np.require(noise, np.float32, ["C", "W"])
    if conditions.known is not None:
        noise = _add_known(noise, conditions.known)
    if settings.blending == "step":
        return _loop_steps(velocity, noise, frames, known, each, steps)
    total = np.zeros_like(noise)
    for batch in each:
        folded, alone = _alone(batch)
        own = noise[folded], frames.gather(folded)
        latents = _loop_steps(velocity, *own, known, [alone], steps)
        _add_on_host(total, batch, latents.reshape(*batch.indices.shape, *latents.shape[1:]))
    return total


# ---- one batch of windows


def _velocity(
    predict: Predict,
    kind: str | None,
    params: Any,
    latents: jax.Array,
    frames: Frames,
    ids: jax.Array,
    batch: Windows,
    sigma: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Return the network's output F in float32 on windows `[K, T, h, w, C]` at one sigma."""
    c = edm.coefficients(sigma)
    count = latents.shape[0]
    noisy = c.c_in * latents
    c_noise = jnp.full((count,), c.c_noise)
    ids = jnp.broadcast_to(ids, (count, *ids.shape))

    def evaluate(gray: jax.Array, context: jax.Array, mask: jax.Array) -> jax.Array:
        # The pretrained channel order is [noisy, gray], and only the noisy half is scaled.
        inputs = jnp.concatenate([noisy, gray], axis=-1)
        palette = batch.palette, mask, frames.regions
        return predict(params, inputs, c_noise, context, ids, *palette)

    output = guidance.guided(evaluate, kind, scale, frames.gray, batch.context, batch.palette_mask)
    return output.astype(jnp.float32)


_velocity_unit = jax.jit(_velocity, static_argnames=("predict", "kind"))


def _alone(batch: Windows) -> tuple[np.ndarray | jax.Array, Windows]:
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


def _advance(
    latents: jax.Array,
    output: jax.Array,
    previous: jax.Array,
    sigma: jax.Array,
    row: jax.Array,
    taken: tuple[jax.Array, ...] | None,
) -> tuple[jax.Array, jax.Array]:
    """Take a solver step from the network's output; return the latents and the estimate D.

    `taken` is what the estimates take from keyframes: `keyframe`, `source` and `weight` of the
    frames, the known latents `[M, h, w, C]`, and `_change`. The estimate of a keyframe becomes its
    known latents, and a solver step keeps it at these with the noise of the next sigma.
    """
    estimate = edm.denoised(output, latents, sigma)
    if taken is not None:
        keyframe, source, weight, known, change = taken
        pixels = change.reshape(-1, change.shape[-1])  # [M * h * w, C]
        for side in range(2):
            estimate += weight[..., side, None] * pixels[source[..., side]]
        own = known[jnp.minimum(keyframe, len(known) - 1)]
        estimate = jnp.where((keyframe < len(known))[:, None, None, None], own, estimate)
    return solvers.step(latents, estimate, previous, row), estimate


def _change(
    latents: jax.Array, output: jax.Array, sigma: jax.Array, keyframe: jax.Array, known: jax.Array
) -> jax.Array:
    """Return by how much the known latents `[M, h, w, C]` differ from the network's estimates.

    It is 0 for keyframes that are not among the frames. With `blending="final"`, a keyframe may be
    in several windows; the first one is taken.
    """
    is_it = keyframe == jnp.arange(len(known))[:, None]  # [M, N]
    place = is_it.argmax(1)
    change = known - edm.denoised(output[place], latents[place], sigma)
    return jnp.where(is_it.any(1)[:, None, None, None], change, 0.0)


_advance_unit = jax.jit(_advance)
_change_unit = jax.jit(_change)


# ---- the film in one program


@functools.partial(jax.jit, static_argnames=("predict", "kind", "blending"))
def _scan_film(
    predict: Predict,
    kind: str | None,
    blending: str,
    params: Any,
    latents: jax.Array,
    frames: Frames,
    known: jax.Array | None,
    ids: jax.Array,
    batches: Windows,
    steps: tuple[jax.Array, jax.Array],
    scale: jax.Array,
) -> jax.Array:
    """Do the work of `sample_scan`; `steps` are sigma and table of `Steps`."""

    def velocity(latents: jax.Array, frames: Frames, batch: Windows, sigma: jax.Array) -> jax.Array:
        return _velocity(predict, kind, params, latents, frames, ids, batch, sigma, scale)

    if blending == "step":
        return _scan_steps(velocity, latents, frames, known, batches, steps)

    def one_batch(total: jax.Array, batch: Windows) -> tuple[jax.Array, None]:
        folded, alone = _alone(batch)
        alone = jax.tree.map(lambda leaf: leaf[None], alone)
        own = latents[folded], frames.gather(folded)
        done = _scan_steps(velocity, *own, known, alone, steps)
        return _add(total, batch, done.reshape(*batch.indices.shape, *done.shape[1:])), None

    return lax.scan(one_batch, jnp.zeros_like(latents), batches)[0]


def _scan_steps(
    velocity: Callable[..., jax.Array],
    latents: jax.Array,
    frames: Frames,
    known: jax.Array | None,
    batches: Windows,
    steps: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """Take all steps on latents `[N, h, w, C]`, blending windows at each step."""

    def one_step(
        state: tuple[jax.Array, jax.Array], step: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        latents, previous = state
        sigma, row = step

        def one_batch(total: jax.Array, batch: Windows) -> tuple[jax.Array, None]:
            gathered = latents[batch.indices], frames.gather(batch.indices)  # [K, T, h, w, C]
            return _add(total, batch, velocity(*gathered, batch, sigma)), None

        output, _ = lax.scan(one_batch, jnp.zeros_like(latents), batches)
        taken = None
        if known is not None:
            change = _change(latents, output, sigma, frames.keyframe, known)
            taken = frames.keyframe, frames.source, frames.weight, known, change
        return _advance(latents, output, previous, sigma, row, taken), None

    return lax.scan(one_step, (latents, jnp.zeros_like(latents)), steps)[0][0]


def _add(total: jax.Array, batch: Windows, values: jax.Array) -> jax.Array:
    """Add weighted windows `[K, T, h, w, C]` to their frames in `total`.

    Windows are added one at a time, and each writes a frame at most once. A scatter that writes a
    frame twice adds in no fixed order on a GPU, so results would not be reproducible.
    """
    beyond = len(total) + np.arange(batch.indices.shape[1])  # out of range, so it is dropped

    def one_window(
        total: jax.Array, window: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, None]:
        indices, weights, values = window
        # Drop frames of weight 0 rather than multiply by 0, because they may be infinite.
        indices = jnp.where(weights > 0, indices, beyond)
        values = weights[:, None, None, None] * values
        return total.at[indices].add(values, mode="drop", unique_indices=True), None

    return lax.scan(one_window, total, (batch.indices, batch.weights, values))[0]


# ---- the film on the host


def _loop_steps(
    velocity: Callable[..., np.ndarray],
    latents: np.ndarray,
    frames: Frames,
    known: np.ndarray | None,
    batches: list[Windows],
    steps: Steps,
) -> np.ndarray:
    """Do what `_scan_steps` does on the host, in the memory of `latents`."""
    total, previous = np.empty_like(latents), np.zeros_like(latents)
    for sigma, row in zip(steps.sigma, steps.table, strict=True):
        total[:] = 0.0
        for batch in batches:
            gathered = latents[batch.indices], frames.gather(batch.indices)
            _add_on_host(total, batch, velocity(*gathered, batch, sigma))
        change = None
        if known is not None and len(at := np.flatnonzero(frames.keyframe < len(known))):
            change = _change_unit(latents[at], total[at], sigma, frames.keyframe[at], known)
        for start in range(0, len(latents), _BLOCK):
            part = slice(start, start + _BLOCK)
            taken = None
            if change is not None:
                own = frames.gather(part)
                taken = own.keyframe, own.source, own.weight, known, change
            latents[part], total[part] = _advance_unit(
                latents[part], total[part], previous[part], sigma, row, taken
            )
            check_finite(latents[part], "the UNet")
        total, previous = previous, total
    return latents


def _add_on_host(total: np.ndarray, batch: Windows, values: np.ndarray) -> None:
    """Do what `_add` does, in place; a window has each frame once with a weight above 0."""
    for indices, weights, window in zip(batch.indices, batch.weights, values, strict=True):
        real = weights > 0
        total[indices[real]] += weights[real, None, None, None] * window[real]


# ---- inputs of both drivers


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


def _batches(conditions: FilmConditions, plan: WindowPlan) -> Windows:
    """Return a padded plan and the conditions of its windows as arrays `[B, K, ...]`."""
    values = conditions.context, conditions.palette, conditions.palette_mask
    shots = (np.asarray(value)[plan.shot] for value in values)
    flat = (plan.indices, plan.weights, *shots)
    return Windows(*(leaf.reshape(-1, plan.batch, *leaf.shape[1:]) for leaf in flat))


def _frames(conditions: FilmConditions) -> tuple[Frames, np.ndarray | None]:
    """Return what belongs to each frame, and the latents `[M, h, w, C]` of the keyframes."""
    gray, regions, known = conditions.gray, conditions.regions, conditions.known
    if known is None:
        return Frames(gray, regions), None
    keyframe = np.full(len(gray), len(known.frames), np.int32)
    keyframe[known.frames] = np.arange(len(known.frames))
    frames = Frames(gray, regions, keyframe, known.source, known.weight)
    return frames, np.asarray(known.latents, np.float32)


def _add_known(noise: np.ndarray, known: Known) -> np.ndarray:
    """Add the latents of the keyframes to their noise, in place: x = D + sigma_max n."""
    noise[known.frames] += known.latents
    return noise


def check_finite(values: np.ndarray, network: str) -> None:
    """Raise FloatingPointError unless all `values`, computed by `network`, are finite."""
    with np.errstate(invalid="ignore"):  # inf - inf is invalid, and is reported below
        finite = np.isfinite(values.sum(dtype=np.float64))
    if not finite:
        raise FloatingPointError(
            f"{network} returned values that are not finite; compute in bfloat16 or float32, and "
            "check the checkpoint."
        )
