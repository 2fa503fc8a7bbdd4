"""Find the films to compare in folders, by name."""

from pathlib import Path

from palette_vc_jax.files import check_regular, read_text
from palette_vc_jax.video.film import IMAGES
from palette_vc_jax.video.rgb import VIDEOS

ONE = "film"  # name of a single film
DAVIS_SIZES = ("Full-Resolution", "1080p", "480p")


def find_films(path: Path) -> dict[str, Path]:
    """Return films by name: video files, without their extension, and folders of frames.

    `path` may also be one film or one folder of frames. Its name is then `ONE`, so that two single
    films match, whatever their files are called. Other files in the folder are ignored.

    Raises:
        ValueError: if there is no film, or two films have the same name.
    """
    if path.suffix.lower() in VIDEOS and path.exists() and not path.is_dir():
        check_regular(path)
        return {ONE: path}
    if not path.is_dir():
        raise ValueError(f"{path}: no such film or folder; give films, or folders of frames.")
    found: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and _has_frames(entry):
            name = entry.name
        elif entry.suffix.lower() in VIDEOS and not entry.is_dir():
            check_regular(entry)
            name = entry.stem
        else:
            continue
        if name in found:
            raise ValueError(
                f"{path}: {found[name].name} and {entry.name} have one name; remove one of them."
            )
        found[name] = entry
    if not found and _has_frames(path):
        return {ONE: path}
    if not found:
        raise ValueError(f"{path}: no films; give a folder of films or of frame folders.")
    return found


def davis_films(root: Path, split: str) -> dict[str, Path]:
    """Return the clips of a DAVIS 2017 folder's `split`, at the largest size in it.

    If the folder does not have DAVIS' layout, return all its films.

    Raises:
        ValueError: if the split or clips are missing.
    """
    images = root / "JPEGImages"
    if not images.is_dir():
        return find_films(root)
    names = root / "ImageSets" / "2017" / f"{split}.txt"
    if not names.is_file():
        raise ValueError(f"{names}: not found; give --split one of the lists in that folder.")
    sizes = [images / size for size in DAVIS_SIZES if (images / size).is_dir()]
    if not sizes:
        raise ValueError(f"{images}: has none of {', '.join(DAVIS_SIZES)}; unpack one.")
    try:
        folders = {name: sizes[0] / name for name in read_text(names).split()}
    except ValueError:
        raise ValueError(f"{names}: not text; download DAVIS again.") from None
    if not folders:
        raise ValueError(f"{names}: names no clip; give --split another list.")
    lost = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if lost:
        raise ValueError(f"{lost[0]}: not found, though {names} names it; unpack all of DAVIS.")
    return folders


def pair(wanted: dict[str, Path], given: dict[str, Path], row: str) -> dict[str, Path]:
    """Return the output of each wanted film, by name.

    Raises:
        ValueError: if films have no output in `row`; the message names some of them.
    """
    lost = [name for name in wanted if name not in given]
    if lost:
        some = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        raise ValueError(
            f"{row}: outputs of {len(lost)} of {len(wanted)} films are missing: {some}; give "
            "outputs with the names of the reference."
        )
    return {name: given[name] for name in wanted}


def _has_frames(folder: Path) -> bool:
    return any(
        path.suffix.lower() in IMAGES and not path.name.startswith(".") for path in folder.iterdir()
    )
