"""Sample the paper's ablations: color every clip with each kind of palette, and resume."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from palette_vc_jax import cli, files
from palette_vc_jax.metrics.adherence import frame_palette
from palette_vc_jax.models.store import Model, file_hashes
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.colorize import ColorizeSettings
from palette_vc_jax.sampling.job import color_film
from palette_vc_jax.sampling.plan import plan_film
from palette_vc_jax.sampling.record import describe
from palette_vc_jax.sampling.reference import Reference, default_reference
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.sampling.side_files import side_files
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.rgb import read_rgb

PaletteOf = Callable[[str, Path, int], Palette | None]  # (name of the clip, film, seed) -> palette
ReferenceOf = Callable[[str, Path], Reference]  # (name of the clip, film) -> reference


class Row(NamedTuple):
    """Model, palettes and references of an ablation."""

    checkpoint: Path  # model folder
    palette_of: PaletteOf
    reference_of: ReferenceOf | None = None  # None: the reference that the model was trained with


def first_frame(name: str, film: Path, seed: int) -> Palette:
    """Return ablation D's palette: K-means of the first true frame."""
    return frame_palette(next(read_rgb(open_film(film))), f"image:first frame of {name}")


def first_reference(name: str, film: Path) -> Reference:
    """Return ablation D's reference: the first true frame in color, as in the paper."""
    return Reference(f"first frame of {name}", next(read_rgb(open_film(film))))


def sample_row(
    films: dict[str, Path],
    model: Model,
    settings: ColorizeSettings,
    row: Row,
    folder: Path,
    seed: int,
) -> dict[str, Path]:
    """Color films to `folder`/NAME.mkv (FFV1).

    Films that were colored with the same weights, settings, palette, reference and seed are kept.
    The noise and random palettes of the n-th film have the seed `seed` + n.

    Args:
        films: films by name; only their luma is read.
        model: model of the row.
        settings: settings of the sampler.
        row: palettes and references.
        folder: created if it does not exist.
        seed: seed of the first film.

    Returns:
        The colored films by name.

    Raises:
        ValueError: if a film in `folder` was not written by such a run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {}
    usual = None if row.reference_of else default_reference(model.config.sampling)
    for index, (name, path) in enumerate(films.items()):
        own = seed + index
        palette = row.palette_of(name, path, own)
        reference = usual or row.reference_of(name, path)
        plan = plan_film(path, model, settings, reference)
        output = folder / f"{name}.mkv"
        given = [ShotSettings(palette, reference, own)] * len(plan.shots)
        wanted = describe(plan, given)
        wanted["weights_sha256"] = file_hashes(model.folder)
        wanted.pop("palette_details", None)  # they include the date
        records = side_files(output, with_palette=palette is not None)
        if not _is_done(output, records, wanted):
            _make_room(output, records)
            with cli.reporting(f"coloring {name}", "frame", plan.frames) as report:
                color_film(plan, output, model, progress=report, shots=given, overwrite=True)
        outputs[name] = output
    return outputs


def _make_room(output: Path, records: Mapping[str, Path]) -> None:
    """Remove files of an incomplete record; raise ValueError for a film without a record."""
    record = records["settings"]
    if output.exists() and not record.exists():
        raise ValueError(f"{output}: exists, and was not written by a run; give another --workdir.")
    try:
        files.read_json(record)
    except FileNotFoundError:
        pass
    except ValueError:
        for path in records.values():
            path.unlink(missing_ok=True)


def _is_done(output: Path, records: Mapping[str, Path], plan: dict[str, Any]) -> bool:
    """Return whether `output` and its records are complete and match `plan`."""
    if not all(path.is_file() for path in (output, *records.values())):
        return False
    try:
        found = files.read_json(records["settings"])
    except ValueError:
        return False
    wanted = json.loads(json.dumps(plan))
    return isinstance(found, dict) and all(found.get(key) == wanted[key] for key in wanted)
