"""The whole job on a film: find shots, color run by run, merge with the source's luma, write.

The film is read twice, luma alone: once to find the cuts, once in two streams side by side, of
which one feeds the encoder and the other waits for the colors. Shots are colored in runs of a
bounded number of frames, so that memory does not grow with the film.
"""

import itertools
import json
import os
import platform
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from palette_vc_jax import __version__, atomic, cli, files
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import Model, file_hashes, has_palette
from palette_vc_jax.palette.file import save_palette, save_swatch
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.colorize import ColorizeSettings, colorize, load_networks
from palette_vc_jax.sampling.reference import GRAY, Reference
from palette_vc_jax.sampling.sampler import film_bytes
from palette_vc_jax.sampling.sheet import SideBySide
from palette_vc_jax.sampling.windows import Shot, group_shots
from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, turned
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import model_size, resize, upsample_chroma
from palette_vc_jax.video.shots import find_shots
from palette_vc_jax.video.write import FilmWriter

RUN_BYTES = 2**30  # of the latents held for one run of shots


@dataclass(frozen=True)
class Job:
    """A film's plan: what will be done, before anything is."""

    film: Film
    shots: list[Shot]
    size: tuple[int, int]  # height and width of the model's pictures, which stand upright
    latent_shape: tuple[int, int, int]  # h, w, C
    runs: list[list[Shot]]  # shots colored together
    settings: ColorizeSettings
    reference: Reference = GRAY

    @property
    def frames(self) -> int:
        """Count the film's frames."""
        return self.shots[-1][1]


def plan_job(
    film: Film, config: ModelConfig, settings: ColorizeSettings, reference: Reference = GRAY
) -> Job:
    """Find a film's shots and divide them into runs; reads the film's luma once."""
    sides = film.height, film.width
    upright = sides if film.turn[0] else sides[::-1]
    size = model_size(*upright, settings.short_side, config.pixel_multiple)
    bar = cli.progress(read_frames(film), "shots", "frame", film.frames)
    shots = find_shots(_small(frame, film, size) for frame in bar)
    down = config.vae.downscale
    shape = (size[0] // down, size[1] // down, config.vae.latent_channels)
    runs = group_shots(shots, max(1, RUN_BYTES // film_bytes((1, *shape))))
    return Job(film, shots, size, shape, runs, settings, reference)


def describe(job: Job, config: ModelConfig, palette: Palette | None, seed: int) -> dict[str, Any]:
    """Give a job as plain JSON values: what `--dry_run` prints and what is kept by the result."""
    plans = [
        job.settings.sampler.plan([(a - run[0][0], b - run[0][0]) for a, b in run])
        for run in job.runs
    ]
    longest = max(run[-1][1] - run[0][0] for run in job.runs)
    return {
        "input": str(job.film.path),
        "frames": job.frames,
        "size": [job.film.width, job.film.height],
        "model": config.name,
        "model_size": [job.size[1], job.size[0]],
        "shots": [list(shot) for shot in job.shots],
        "windows": sum(plan.windows for plan in plans),
        "network_evaluations": sum(plan.windows for plan in plans)
        * job.settings.sampler.steps
        * (2 if job.settings.sampler.guidance_scale != 1.0 else 1),
        "latents_bytes": film_bytes((longest, *job.latent_shape)),
        "palette": None if palette is None else palette.hex(),
        "palette_source": "none" if palette is None else palette.source,
        "palette_details": {} if palette is None else dict(palette.details),
        "seed": seed,
        "reference": job.reference.source,
        "settings": asdict(job.settings),
    }


def run_job(
    job: Job, model: Model, palette: Palette | None, output: Path, seed: int, luma: str = "source"
) -> dict[str, Path]:
    """Color the film of `job` into `output`; return the files written beside it, by kind.

    `luma` is `source` (the film's own, untouched) or `model` (the decoder's, resized). Nothing
    is left under `output` unless the film is complete. Then the `side_files` are written, the
    record first: it says that the others are this run's.

    Raises ValueError as `check_output` and `check_side_files`, FloatingPointError when the model
    gives values that are not finite.

    Warns if a palette is given and the model's palette layer is all zeros.
    """
    beside = side_files(output, with_palette=palette is not None)
    check_side_files(output, beside.values(), [job.film.path, *job.film.files])
    record = describe(job, model.config, palette, seed) | {
        "output": output.name,
        "luma": luma,
        # Weights of a run are in no model folder: where they come from is said instead.
        "weights_sha256": file_hashes(model.folder) if model.folder and not model.origin else None,
        "training": model.origin,
        "version": __version__,
        "jax": jax.__version__,
        "device": f"{jax.default_backend()} ({platform.machine()})",
    }
    if palette is not None and not has_palette(model):
        warnings.warn(
            f"the palette layer of {model.folder or model.config.name} is all zeros, so the "
            "palette has no effect; fine-tune it, or give --palette none.",
            stacklevel=2,
        )
    sheet = SideBySide(job.frames, job.film)
    with FilmWriter(output, job.film) as writer:
        for frame, chroma, replaced in _merged(job, model, palette, seed, luma):
            sheet.add(frame.index, color.grey(frame.luma, job.film), chroma)
            writer.write(replaced, chroma)
    atomic.write_text(beside["settings"], json.dumps(record, indent=2) + "\n")
    sheet.save(beside["side by side"])
    if palette is not None:
        save_palette(palette, beside["palette"])
        save_swatch(palette, beside["swatch"])
    return beside


def side_files(
    output: Path, with_palette: bool = True, with_report: bool = False
) -> dict[str, Path]:
    """Name the files that are written beside a film `output`, by kind."""
    kinds = {"settings": "run.json", "side by side": "side_by_side.png"}
    if with_palette:
        kinds |= {"palette": "palette.json", "swatch": "palette.png"}
    if with_report:
        kinds["report"] = "report.html"
    stem = output.with_suffix("") if output.suffix else output
    return {kind: Path(f"{stem}.{ending}") for kind, ending in kinds.items()}


def check_side_files(output: Path, beside: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check, before any work, that nothing of the user's is replaced by what a run writes.

    Args:
        output: the film.
        beside: files that are written beside it.
        inputs: files that the run reads.

    Raises:
        ValueError: if `output` or a file beside it is among the inputs or is not a regular file,
            or if a file beside it exists that no earlier run of the same output wrote.
    """
    beside = list(beside)
    films = [] if output.is_dir() else [output]
    atomic.check_targets([*films, *beside], inputs)
    existing = [path for path in beside if os.path.lexists(path)]
    if existing and not _wrote(output):
        raise ValueError(
            f"{existing[0]}: exists, and no run that wrote {output.name} made it; move it away, or "
            "give the output another name."
        )


def _wrote(output: Path) -> bool:
    """Return whether the record beside `output` is that of a run that wrote it."""
    try:
        record = files.read_json(side_files(output)["settings"])
    except (OSError, ValueError):
        return False
    # Records of version 0.1 do not name their output.
    known = isinstance(record, dict) and "weights_sha256" in record
    return known and record.get("output", output.name) == output.name


def _merged(
    job: Job, model: Model, palette: Palette | None, seed: int, luma: str
) -> Iterator[tuple[Frame, np.ndarray, Frame]]:
    """Yield each source frame, its chroma [H, W, 2], and the frame whose luma is written."""
    networks = load_networks(model)
    film = job.film
    ahead, behind = read_frames(film), read_frames(film)
    with cli.progress(None, "coloring", "frame", job.frames) as bar:
        for run in job.runs:
            count = run[-1][1] - run[0][0]
            greys = (_small(frame, film, job.size) for frame in itertools.islice(ahead, count))
            reached = bar.n

            def report(done: int, total: int, reached=reached, count=count) -> None:
                bar.update(reached + count * done // total - bar.n)

            colors = colorize(
                networks, greys, run, palette, job.settings, seed, report, job.reference
            )
            for small in itertools.chain.from_iterable(colors):
                yield _merge(next(behind), small, film, luma)


def _small(frame: Frame, film: Film, size: tuple[int, int]) -> np.ndarray:
    return resize(turned(color.grey(frame.luma, film), film.turn), *size)


def _merge(
    frame: Frame, small: np.ndarray, film: Film, luma: str
) -> tuple[Frame, np.ndarray, Frame]:
    """Put the model's chroma, from its small picture [h, w, 3], to a source frame's luma."""
    grey = color.grey(frame.luma, film)
    a, b, c, d = film.turn
    small = turned(small, (a, c, b, d))  # a turn's transpose is its inverse
    if luma == "model":
        large = np.clip(resize(small, *grey.shape), 0.0, 1.0)
        grey = color.rgb_to_luma(large, film.matrix)
        return frame, color.rgb_to_chroma(large, film.matrix), color.with_luma(frame, grey, film)
    chroma = upsample_chroma(
        color.rgb_to_chroma(small, film.matrix), resize(grey, *small.shape[:2]), grey
    )
    return frame, color.limit_gamut(grey, chroma, film.matrix), frame
