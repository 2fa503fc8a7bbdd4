"""Plan how a film is colored: find its shots, and divide them into runs of bounded memory."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np

from palette_vc_jax.models import functional
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import NETWORKS, Model
from palette_vc_jax.sampling.colorize import ColorizeSettings, default_settings
from palette_vc_jax.sampling.memory_plan import GIB, fit, needs, room, temporaries, weights
from palette_vc_jax.sampling.reference import Reference, default_reference
from palette_vc_jax.sampling.sampler import film_bytes
from palette_vc_jax.sampling.windows import Shot, group_shots
from palette_vc_jax.video.damage import Damage
from palette_vc_jax.video.dissolves import Dissolve
from palette_vc_jax.video.fades import FULL, Fade, Light, lights
from palette_vc_jax.video.film import Film, open_film, upright_size
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import model_size, small_gray
from palette_vc_jax.video.shots import divide, only_cuts
from palette_vc_jax.video.wipes import Wipe

RUN_BYTES = 2**30  # maximum bytes of the arrays of one run of shots
RUN_FRAMES = 1000  # and maximum of its frames: the work that is lost if a run is killed

Progress = Callable[[int, int | None], Any]  # (frames done, total frames or None if unknown)


@dataclass(frozen=True)
class Plan:
    """How a film will be colored."""

    film: Film
    config: ModelConfig
    settings: ColorizeSettings
    reference: Reference
    shots: list[Shot]
    size: tuple[int, int]  # height and width of the model's frames, which are upright
    latent_shape: tuple[int, int, int]  # h, w, C
    runs: list[list[Shot]]  # shots colored together
    damage: tuple[Damage, ...] = ()  # the damaged frames of the film
    longest_gap: Fraction = Fraction(0)  # seconds from a frame to the next, the maximum
    fades: tuple[Fade, ...] = ()
    dissolves: tuple[Dissolve, ...] = ()
    wipes: tuple[Wipe, ...] = ()

    @property
    def frames(self) -> int:
        """Return the number of the film's frames."""
        return self.shots[-1][1]

    @property
    def bridged(self) -> tuple[Dissolve | Wipe, ...]:
        """Return the transitions that show two shots at once."""
        return *self.dissolves, *self.wipes

    @functools.cached_property
    def lights(self) -> dict[int, Light]:
        """Return the light of each frame in a fade."""
        return lights(self.fades)

    def gray(self, frame: Frame) -> np.ndarray:
        """Return Y' `[h, w]` in [0, 1] of a frame as the model sees it: upright, small and lit."""
        return self.lights.get(frame.index, FULL).lit(small_gray(frame, self.film, self.size))


def plan_film(
    film: Film | str | Path,
    model: Model,
    settings: ColorizeSettings | None = None,
    reference: Reference | None = None,
    progress: Progress | None = None,
    cuts: Sequence[int] | None = None,
    device: jax.Device | None = None,
) -> Plan:
    """Find a film's shots and divide them into runs; read the film's luma once.

    Args:
        film: from `open_film`, or its path.
        model: from `load_model`; only its config is used (`load_model(folder, ())`).
        settings: from `default_settings`; None for the model's own.
        reference: the image that the image tower sees; None for the kind of reference that the
            model was mostly trained with.
        progress: called with the frames read, and the number of frames that the film declares.
        cuts: first frames of the shots after the first, ascending; None to find them.
        device: one of the devices that the film is planned for; None for this host's.

    Raises:
        ValueError: if the film cannot be read, does not fit the device, see `memory_plan.fit`, or
            ends before a cut.
    """
    film = film if isinstance(film, Film) else open_film(film)
    config = model.config
    settings = settings or default_settings(config)
    reference = reference or default_reference(config.sampling)
    size = model_size(*upright_size(film), settings.short_side, config.pixel_multiple)
    settings = fit(config, settings, size, device)

    damage: list[Damage] = []
    times: list[int] = [0, 0]  # of the last frame, and the longest gap, in the film's time base

    def small() -> Iterator[np.ndarray]:
        for frame in read_frames(film, damage):
            times[:] = frame.pts, max(times[1], frame.pts - times[0])
            yield small_gray(frame, film, size)
            if progress is not None:
                progress(frame.index + 1, film.frames)

    find = divide if settings.transitions == "bridge" else only_cuts
    shots, fades, dissolves, wipes = find(small())
    if cuts is not None:
        shots = shots_at(cuts, shots[-1][1], film)
        # A shot that is given inside of a transition has its own colors, not those around it.
        dissolves = tuple(one for one in dissolves if not _holds_shot(one, shots))
        wipes = tuple(one for one in wipes if not _holds_shot(one, shots))
    down = config.vae.downscale
    shape = (size[0] // down, size[1] // down, config.vae.latent_channels)
    runs = group_shots(shots, run_frames(shape))
    gap = times[1] * film.time_base
    found = tuple(damage), gap, fades, dissolves, wipes
    return Plan(film, config, settings, reference, shots, size, shape, runs, *found)


def _holds_shot(transition: Dissolve | Wipe, shots: Sequence[Shot]) -> bool:
    """Return whether a whole shot lies inside of a transition."""
    return any(transition.first <= start and stop <= transition.last + 1 for start, stop in shots)


def shots_at(cuts: Sequence[int], count: int, film: Film) -> list[Shot]:
    """Return the shots of a film of `count` frames between cuts.

    Raises:
        ValueError: if the cuts do not ascend, or a cut is not within the film.
    """
    edges = [0, *cuts, count]
    for before, after in itertools.pairwise(edges):
        if before >= after:
            raise ValueError(
                f"{film.path}: cuts at the frames {before} and {after} of a film of {count} "
                f"frames; give ascending numbers from 1 to {count - 1}."
            )
    return list(itertools.pairwise(edges))


def run_frames(latent_shape: tuple[int, ...]) -> int:
    """Return the maximum number of frames of a run of several shots."""
    return min(RUN_FRAMES, max(1, RUN_BYTES // film_bytes((1, *latent_shape))))


def device_memory_gib(plan: Plan) -> dict[str, float]:
    """Estimate what each stage of coloring a film needs of a device."""
    settings, device = plan.settings, jax.local_devices()[0]
    held = weights(plan.config, settings, device)
    temporary = temporaries(plan.config, settings, plan.size, device)
    found = needs(held, temporary, settings.leaving)
    return {stage: round(size / GIB, 2) for stage, size in found.items()}


def device_limit_gib(plan: Plan) -> float | None:
    """Return what may be used of a device; None if it is not known, as on the CPU."""
    limit = room(plan.settings, jax.local_devices()[0])
    return None if limit is None else round(limit / GIB, 2)


def host_memory_gib(plan: Plan) -> float:
    """Estimate what coloring a film needs of the host, besides Python and its libraries.

    That is the weights in float32, the latents of the longest run, and the frames of the batches
    that are encoded or decoded. On the CPU, the memory of the devices is the host's, too.
    """
    settings = plan.settings
    count = settings.devices or len(jax.local_devices())
    held = sum(
        4 * functional.count(functional.shapes(module, getattr(plan.config, name)))
        for name, module in NETWORKS.items()
    )
    longest = max(run[-1][1] - run[0][0] for run in plan.runs)
    # Three batches: the next is filled, or used, while one is computed and one waits.
    frames = 3 * count * max(settings.encode_batch, settings.decode_chunk)
    pixels = 4 * 3 * plan.size[0] * plan.size[1]
    return round((held + film_bytes((longest, *plan.latent_shape)) + frames * pixels) / GIB, 2)
