"""The files that are written next to a film, and the check that a run replaces no other file."""

from collections.abc import Iterable
from pathlib import Path

from palette_vc_jax import atomic
from palette_vc_jax.sampling import unfinished


def side_files(
    output: Path, with_palette: bool = True, with_report: bool = False
) -> dict[str, Path]:
    """Return the paths of the files that are written next to a film `output`, by kind."""
    kinds = {"settings": "run.json", "side by side": "side_by_side.png"}
    if with_palette:
        kinds |= {"palette": "palette.json", "swatch": "palette.png"}
    if with_report:
        kinds["report"] = "report.html"
    stem = output.with_suffix("") if output.suffix else output
    return {kind: Path(f"{stem}.{ending}") for kind, ending in kinds.items()}


def check_side_files(
    output: Path, sides: Iterable[Path], inputs: Iterable[Path], overwrite: bool = False
) -> None:
    """Check that a run will not replace any of the user's files, before any work is done.

    The files of a run that was interrupted while it wrote them may be replaced by the same run.

    Args:
        output: the film.
        sides: the side files.
        inputs: files that the run reads.
        overwrite: whether files of other runs may be replaced.

    Raises:
        ValueError: if `output` or a side file is among the inputs, is not a regular file, or
            exists, unless `overwrite`.
    """
    sides = list(sides)
    films = [] if output.is_dir() else [output]
    began = unfinished.folder_of(output).exists()
    atomic.check_targets([*films, *sides], inputs, overwrite or began)
