"""Inputs of the sampler: its settings, the conditions of the film, and the initial noise."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.diffusion import guidance, schedule, solvers
from palette_vc_jax.models.config import check_limits
from palette_vc_jax.sampling import windows

BLENDINGS = ("step", "final")
LIMITS = {
    "steps": (1, 10_000),
    "sigma_min": (1e-6, 1e6),
    "sigma_max": (1e-6, 1e6),
    "rho": (0.1, 1000),
    "shared_noise_fraction": (0, 1),
    "guidance_scale": (0, 1000),
    "window": (1, 2**12),
    "windows_per_batch": (1, 2**12),
}
_COMMON = 2**32 - 1  # takes the place of a frame's number in the key of the shared noise


@dataclass(frozen=True)
class SamplerSettings:
    """Settings of the sampler; the defaults are SVD's, with this project's windows.

    Raises:
        ValueError: if a value is out of range or a name is unknown.
    """

    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0  # exponent of the Karras schedule
    solver: str = "euler"  # a name in solvers.SOLVERS
    shared_noise_fraction: float = 0.0  # share of the noise's variance common to all frames
    guidance_scale: float = 1.0  # 1 is off: the network is evaluated once per step
    guidance: str = "palette"  # which conditions the unconditional branch lacks: guidance.KINDS
    window: int = 14  # frames
    overlap: int = 4  # frames shared by neighboring windows
    window_mode: str = "sliding"  # or "anchored"
    window_weights: str = "triangular"  # or "uniform"
    blending: str = "step"  # average windows at each step, or "final": once after the last step
    windows_per_batch: int = 1  # windows that a device evaluates together

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        solvers.solver_table(self.solver, self.sigmas())
        windows.plan_windows(
            [(0, 1)], self.window, self.overlap, self.window_mode, self.window_weights
        )
        if self.guidance not in guidance.KINDS:
            known = ", ".join(guidance.KINDS)
            raise ValueError(f"guidance {self.guidance!r} is not known; use one of {known}.")
        if self.blending not in BLENDINGS:
            known = ", ".join(BLENDINGS)
            raise ValueError(f"blending {self.blending!r} is not known; use one of {known}.")

    def sigmas(self) -> np.ndarray:
        """Return the decreasing sigmas, float32 `[steps + 1]`, the last of them 0."""
        return schedule.karras_sigmas(self.steps, self.sigma_min, self.sigma_max, self.rho)

    def plan(self, shots: Sequence[windows.Shot], devices: int = 1) -> windows.WindowPlan:
        """Plan the windows of a film, padded to full batches of `devices` devices."""
        plan = windows.plan_windows(
            shots, self.window, self.overlap, self.window_mode, self.window_weights
        )
        return windows.pad(plan, devices * self.windows_per_batch)


class Known(NamedTuple):
    """Colors that are known: those of M keyframes, and what other frames take from them.

    Args:
        frames: `[M]`, numbers of the keyframes, counted from the first frame of
            `FilmConditions.gray`.
        latents: `[M, h, w, C]`, their color latents, of unit scale.
        source: int32 `[N, h, w, 2]`; each latent pixel takes the changes of two others, given as
            indices into the latents `[M * h * w]`.
        weight: `[N, h, w, 2]`, weights of both; a keyframe takes its own pixels with weight 1.
    """

    frames: np.ndarray
    latents: np.ndarray
    source: np.ndarray
    weight: np.ndarray


class FilmConditions(NamedTuple):
    """Conditions of a film of N frames in S shots.

    Args:
        gray: `[N, h, w, C]`, unscaled latents of the gray frames.
        context: `[S, L, D]`, image embedding of each shot.
        added_time_ids: `[3]`, fps, motion bucket and noise augmentation.
        palette: `[15]` or `[S, 15]`, colors in [-1, 1]; with `regions`, `[S, R, 15]`.
        palette_mask: a number or `[S]`, with `regions` also `[S, R]`; 1 uses the palette, 0 is the
            null palette.
        regions: `[N, h, w, R]`, shares of the regions in each latent pixel, which sum to 1; None
            if one palette covers the whole frame.
        known: colors of keyframes, or None.
    """

    gray: np.ndarray | jax.Array
    context: np.ndarray | jax.Array
    added_time_ids: np.ndarray | jax.Array
    palette: np.ndarray | jax.Array
    palette_mask: np.ndarray | jax.Array | float = 1.0
    regions: np.ndarray | None = None
    known: Known | None = None


def check_conditions(conditions: FilmConditions, plan: windows.WindowPlan) -> FilmConditions:
    """Return the context, palette and mask as float32 numpy arrays with a row per shot.

    Raises:
        ValueError: if a shape does not fit the film that `plan` covers.
    """
    frames, shots = plan.frames, int(plan.shot.max()) + 1
    gray, context, ids, palette, mask, regions, known = conditions
    context, ids, palette, mask = (np.asarray(a, np.float32) for a in (context, ids, palette, mask))
    if gray.ndim != 4 or gray.shape[0] != frames:
        raise ValueError(
            f"gray latents of shape {gray.shape} for {frames} frames; [{frames}, h, w, C] is "
            "needed: give shots and latents of the same film."
        )
    if context.ndim != 3 or context.shape[0] != shots:
        raise ValueError(
            f"context of shape {context.shape} for {shots} shots; [{shots}, L, D] is needed: "
            "give one image embedding per shot."
        )
    if ids.shape != (3,):
        raise ValueError(f"added time ids of shape {ids.shape}; [3] is needed: fps, motion, noise.")
    if regions is not None and regions.shape[:3] != gray.shape[:3]:
        raise ValueError(
            f"regions of shape {regions.shape} for gray latents of shape {gray.shape}; give "
            "[N, h, w, R] with the same N, h and w."
        )
    per_shot = (shots,) if regions is None else (shots, regions.shape[-1])
    if palette.ndim < 1 or palette.shape[:-1] not in ((), per_shot):
        raise ValueError(
            f"palette of shape {palette.shape} for {shots} shots; [15] or "
            f"{[*per_shot, 15]} is needed: give one for the film, or one per shot and region."
        )
    if mask.shape not in ((), (shots,), per_shot):
        raise ValueError(
            f"palette mask of shape {mask.shape} for {shots} shots; a number or {list(per_shot)} "
            "is needed: give one for the film, or one per shot and region."
        )
    if known is not None:
        _check_known(known, gray.shape)
    if mask.ndim < len(per_shot) and regions is not None:
        mask = mask[..., None]  # the same for all regions
    palette = np.broadcast_to(palette, (*per_shot, palette.shape[-1]))
    mask = np.broadcast_to(mask, per_shot)
    return FilmConditions(gray, context, ids, palette, mask, regions, known)


def _check_known(known: Known, shape: tuple[int, ...]) -> None:
    frames, latents = np.asarray(known.frames), np.asarray(known.latents)
    inside = (frames >= 0) & (frames < shape[0])
    if not inside.all() or len(np.unique(frames)) != len(frames):
        raise ValueError(
            f"keyframes {frames.tolist()} of a film of {shape[0]} frames; give different numbers "
            f"from 0 to {shape[0] - 1}."
        )
    if latents.shape != (len(frames), *shape[1:]):
        raise ValueError(
            f"keyframe latents of shape {latents.shape}; {[len(frames), *shape[1:]]} is needed."
        )
    for name in ("source", "weight"):
        found = getattr(known, name).shape
        if found != (*shape[:3], 2):
            raise ValueError(f"keyframe {name} of shape {found}; {[*shape[:3], 2]} is needed.")


def frame_noise(
    seed: int,
    first: int,
    frames: int,
    shape: tuple[int, ...],
    share: float = 0.0,
    block: int = 64,
) -> np.ndarray:
    """Return unit noise, float32 `[frames, *shape]`, for frames from number `first` on.

    The noise of frame i is normal(fold_in(key(seed), i)). It depends only on the seed, the frame's
    number in the film and `shape`, so a frame has the same noise in a longer film, with another
    batch size, or in a run that starts at a later shot.

    Noise that is shared between frames makes random choices the same along the film and so reduces
    flicker (mixed noise of Ge et al., 'Preserve Your Own Correlation', arXiv 2305.10474).

    Args:
        seed: 0 to 2^32 - 1.
        first: number of the first frame in the film.
        frames: number of frames.
        shape: shape of one frame's noise.
        share: share of the variance that all frames have in common, 0 to 1.
        block: frames drawn at a time, which bounds device memory.

    Raises:
        ValueError: if the seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed}; give a number from 0 to {2**32 - 1}.")
    noise = np.empty((frames, *shape), np.float32)
    for start in range(0, frames, block):
        drawn = _noise_block(np.uint32(seed), first + start, block, shape, share)
        noise[start : start + block] = np.asarray(drawn)[: frames - start]
    return noise


@functools.partial(jax.jit, static_argnames=("count", "shape"))
def _noise_block(
    seed: jax.Array, first: jax.Array, count: int, shape: tuple[int, ...], share: jax.Array
) -> jax.Array:
    key = jax.random.key(seed)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(first + jnp.arange(count))
    own = jax.vmap(lambda k: jax.random.normal(k, shape, jnp.float32))(keys)
    common = jax.random.normal(jax.random.fold_in(key, _COMMON), shape, jnp.float32)
    return jnp.sqrt(1.0 - share) * own + jnp.sqrt(share) * common
