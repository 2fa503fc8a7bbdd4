"""Color several films with the flags of `sample`, and print a table of what became of them."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from palette_vc_jax import atomic, cli, files
from palette_vc_jax.commands.coloring import color_one
from palette_vc_jax.models.store import Model, file_hashes
from palette_vc_jax.palette.spec import named_file
from palette_vc_jax.sampling import unfinished
from palette_vc_jax.sampling.side_files import side_files
from palette_vc_jax.video.formats import FILMS
from palette_vc_jax.video.image_files import find_images, natural

RECORD = "batch.json"
# Flags that do not change what a film becomes.
ANY = (
    "input", "output", "overwrite", "compile_cache", "compile_only", "devices", "memory", "report",
)  # fmt: skip
# Flags of one film.
SINGLE = ("plan", "write_plan", "cuts", "region", "keyframe", "topology", "dry_run")


def list_films(inputs: Sequence[Path]) -> list[Path] | None:
    """Return the films of a batch, or None if the input is a single film.

    A folder with films is a folder of films; files of other kinds in it, and hidden files, are
    left out. A folder of images alone is one film. A file that is named is always taken.

    Raises:
        ValueError: if a folder holds neither images nor films, or films and frames of another.
    """
    films: list[Path] = []
    for path in inputs:
        images = find_images(path) if path.is_dir() else ()
        inside = [one for one in _files(path) if one.suffix.lower() in FILMS]
        if frames := [image for image in images if inside and not _is_poster(image, inside)]:
            raise ValueError(
                f"{path}: holds films and images, such as {frames[0].name}; give a folder of films "
                "or of frames alone, or name the films."
            )
        if path.is_dir() and not images and not inside:
            raise ValueError(
                f"{path}: the folder holds no frames and no films; add some, or name the films."
            )
        films += inside or [path]
    return None if films == list(inputs) and len(films) == 1 else films


def skipped(inputs: Sequence[Path], films: Sequence[Path]) -> list[Path]:
    """Return the files in the folders among `inputs` that `list_films` leaves out."""
    folders = [path for path in inputs if path not in films]
    return [one for folder in folders for one in _files(folder) if one not in films]


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that are not hidden; none if it is not a folder."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    return sorted(found, key=natural)


def _is_poster(image: Path, films: Sequence[Path]) -> bool:
    """Return whether an image among films belongs to one of them, or has no frame number."""
    named = image.stem.startswith(tuple(film.stem for film in films))
    return named or not any(letter.isdecimal() for letter in image.stem)


def outputs_of(films: Sequence[Path], folder: Path, extension: str) -> list[Path]:
    """Return the output of each film; films that differ in their extension alone keep it."""
    stems = Counter(film.stem for film in films)
    names = [film.stem if stems[film.stem] == 1 else film.name for film in films]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"several films are named {twice[0]}; color them into other folders.")
    return [folder / f"{name}{extension}" for name in names]


def color_batch(
    args: argparse.Namespace,
    films: Sequence[Path],
    folder: Path,
    model: Model,
    load: Callable[[], Model],
) -> None:
    """Color films one after the other; a film that fails does not stop the others.

    The same batch goes on where it was interrupted: films that are complete are left alone, and
    `batch.json` in the output folder tells the same batch from another. Exit with 1 if a film
    failed.

    Raises:
        ValueError: if a flag of a single film is given, or if `folder` is not a folder or holds
            the films of another batch.
    """
    for name in SINGLE:
        if getattr(args, name):
            raise ValueError(f"--{name} with {len(films)} inputs; give it with one film.")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; give a folder for {len(films)} films.")
    if folder.exists() and any(folder.samefile(path) for path in args.input if Path(path).exists()):
        raise ValueError(f"{folder}: is the folder of the films; give another folder.")
    left = skipped([Path(path) for path in args.input], films)  # files may be added meanwhile
    outputs = outputs_of(films, folder, args.extension)
    folder.mkdir(parents=True, exist_ok=True)
    _begin(args, folder, model, outputs)
    rows = []
    for film, output in zip(films, outputs, strict=True):
        start = time.monotonic()
        result = "complete before"
        if not _is_complete(film, output):
            try:
                color_one(args, film, output, model, load)
                result = "colored"
            except cli.KNOWN as error:
                result = cli.message(error)
                cli.print_line(f"{film.name}: {result}", sys.stderr)
        rows.append((film.name, time.monotonic() - start, result))
    width = max(len(cli.escaped(name)) for name, *_ in rows)
    for name, seconds, result in rows:
        print(f"{cli.escaped(name):{width}}  {seconds:8.1f} s  {result}")
    if left:
        names = ", ".join(path.name for path in left)
        cli.print_line(f"skipped, because they are not films: {names}")
    failed = sum(result.startswith("error") for *_, result in rows)
    if failed:
        print(f"{failed} of {len(films)} films failed.", file=sys.stderr)
        sys.exit(cli.FAILURE)


def _begin(args: argparse.Namespace, folder: Path, model: Model, outputs: Sequence[Path]) -> None:
    """Record the batch in its folder, or check that the folder holds the same batch.

    Raises:
        ValueError: if the folder holds another batch, unless `--overwrite` is given; films of the
            other batch are colored again then.
    """
    flags = {name: value for name, value in vars(args).items() if name not in ANY}
    weights = model.origin or (file_hashes(model.folder) if model.folder else None)
    record = json.loads(json.dumps({"flags": flags, "weights": weights}, default=str))
    specs = (args.palette, getattr(args, "reference", ""))
    if read := [path for spec in specs if (path := named_file(spec)) and path.is_file()]:
        record["files"] = {str(path): files.fingerprint([path], path.parent) for path in read}
    path = folder / RECORD
    if path.exists():
        try:
            changed = unfinished.difference(files.read_json(path), record)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not the record of a batch ({error}).") from None
        if changed and not args.overwrite:
            raise ValueError(
                f"{folder}: holds films of a batch with {changed}; give the same to go on, another "
                "folder, or --overwrite."
            )
        if changed:
            for output in outputs:  # so that no film counts as complete
                side_files(output)["settings"].unlink(missing_ok=True)
    atomic.write_text(path, json.dumps(record, indent=2) + "\n")


def _is_complete(film: Path, output: Path) -> bool:
    """Return whether `output` was colored in this batch from `film` as it is now."""
    sides = side_files(output, with_palette=False)
    if not all(path.is_file() for path in (output, *sides.values())):
        return False
    try:
        record = files.read_json(sides["settings"])
    except (OSError, ValueError):
        return False
    if not isinstance(record, dict) or record.get("input") != str(film):
        return False
    return not film.is_file() or record.get("input_sha256") in (
        None,
        files.fingerprint([film], film.parent),
    )
