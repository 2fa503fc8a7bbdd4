"""The JSON file of an evaluation."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from palette_vc_jax import atomic
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.evaluation.tables import to_json
from palette_vc_jax.video.image_files import find_images


def check_record(path: Path, overwrite: bool) -> None:
    """Check that the file can be written, before anything is computed.

    Raises:
        ValueError: if it is a folder or a special file, its folder does not exist, or it exists,
            unless `overwrite`.
        OSError: if its folder cannot be written to.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: cannot be written; give --json a file in a folder.")
    atomic.check_targets([path], overwrite=overwrite)
    with tempfile.TemporaryFile(dir=path.absolute().parent):
        pass


def check_inputs(
    path: Path, films: Iterable[Mapping[str, Path]], read: Iterable[Path] = ()
) -> None:
    """Check that the file replaces no input.

    Args:
        path: path of the file.
        films: films that are read, by name.
        read: other files that are read.

    Raises:
        ValueError: if it does.
    """
    paths = [film for by_name in films for film in by_name.values()]
    inputs = [file for film in paths for file in (film, *_frames(film))]
    atomic.check_targets([path], [*read, *inputs])


def _frames(film: Path) -> tuple[Path, ...]:
    return find_images(film) if film.is_dir() else ()


def write_record(path: Path, results: Results) -> None:
    """Write results as JSON; the file is complete or absent."""
    atomic.write_text(path, json.dumps(to_json(results), indent=1, allow_nan=False) + "\n")
