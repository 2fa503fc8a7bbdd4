"""The folders that the page may read and write, and the films and images in them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from palette_vc_jax.palette import swatches
from palette_vc_jax.video.formats import FILMS, IMAGES
from palette_vc_jax.video.image_files import natural

OF_PLAN = ".plan"  # ending of the folders of images that plans name
OWN = (".side_by_side.png", ".palette.png")  # images that are written next to colored films
DEPTH = 3  # folders inside of each other that are listed
MOST = 2000  # entries that are listed


class Folders:
    """Folders that were allowed on the command line.

    Args:
        paths: the folders.

    Raises:
        ValueError: if one of them is not a folder.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.is_dir():
                raise ValueError(f"{path}: no such folder; give --folder an existing folder.")
        self.roots = list(dict.fromkeys(path.resolve() for path in paths))

    def check(self, path: str | Path) -> Path:
        """Return a path with its links resolved, if it is in one of the folders.

        Raises:
            ValueError: if it is not, or if it is not a path.
        """
        try:
            found = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):  # a null byte, or a loop of links
            raise ValueError("this is not a path.") from None
        if not Path(path).is_absolute() or not any(map(found.is_relative_to, self.roots)):
            raise ValueError("this path is not in a folder that was allowed; give it to --folder.")
        return found

    def contents(self) -> dict[str, list[dict[str, str]]]:
        """Return the films, the images and the palette files in the folders, by kind."""
        found: dict[str, list[dict[str, str]]] = {"films": [], "images": [], "palettes": []}
        for root, path in self._entries():
            kind = _kind(path)
            if kind is not None:
                name = str(path.relative_to(root.parent))
                found[kind].append({"path": str(path), "name": name})
        return found

    def records(self, ending: str) -> list[Path]:
        """Return the files in the folders whose names end so."""
        return [path for _, path in self._entries() if path.name.endswith(ending)]

    def _entries(self) -> Iterator[tuple[Path, Path]]:
        """Yield (allowed folder, path) of what is not hidden, at most `MOST` times."""
        count = 0
        for root in self.roots:
            for path in _walk(root, DEPTH):
                try:
                    self.check(path)
                except ValueError:  # a link to elsewhere, or to itself
                    continue
                yield root, path
                count += 1
                if count >= MOST:
                    return


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural(Path(entry.name)))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.endswith(OF_PLAN):
            continue
        yield Path(entry.path)
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), depth - 1)


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if path.name.endswith(OWN):
        return None
    if path.is_dir():
        return "films" if _holds_frames(path) else None
    if suffix in FILMS:
        return "films"
    if suffix in IMAGES:
        return "images"
    if suffix in swatches.READERS or path.name.endswith(".palette.json"):
        return "palettes"
    return None


def _holds_frames(folder: Path) -> bool:
    """Return whether a folder holds two images or more, and no film."""
    try:
        suffixes = [Path(entry.name).suffix.lower() for entry in os.scandir(folder)]
    except OSError:
        return False
    return sum(suffix in IMAGES for suffix in suffixes) > 1 and not FILMS.intersection(suffixes)
