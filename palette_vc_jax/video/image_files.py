"""Find and decode image files, and turn them upright."""

import re
import warnings
from pathlib import Path

import av
import cv2
from av.error import FFmpegError
from av.video.frame import VideoFrame

from palette_vc_jax.files import check_regular
from palette_vc_jax.images import open_with_pillow
from palette_vc_jax.video.formats import IMAGES, OTHER_IMAGES, readable_formats, refuse_playlist

# EXIF orientation -> (a, b, c, d): a stored pixel (x, y) is displayed at (a x + c y, b x + d y).
EXIF_ORIENTATIONS = {
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
UPRIGHT = (1, 0, 0, 1)


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return a folder's images as `find_images` does.

    Raises:
        ValueError: if there is no image, or one is not a regular file.
    """
    found = find_images(folder)
    if not found:
        kinds = " ".join(sorted(IMAGES))
        others = sorted({p.suffix.lower() for p in folder.iterdir()} & OTHER_IMAGES)
        way_out = (
            f"convert {' '.join(others)} to PNG or TIFF" if others else f"add images ({kinds})"
        )
        raise ValueError(f"{folder}: the folder holds no frames; {way_out}.")
    for path in found:
        check_regular(path)
        if not path.exists():
            raise ValueError(f"{path}: the link leads nowhere; remove it.")
    return found


def find_images(folder: Path) -> tuple[Path, ...]:
    """Return a folder's images in time order (frame 2 before 10), without hidden files."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.name[0] != "."]
    return tuple(sorted(found, key=natural))


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key of a file name that compares digits as numbers."""
    parts = re.split(r"(\d+)", path.stem.lower())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts], path.name


def decode_image(path: Path) -> VideoFrame:
    """Decode an image file without applying its orientation.

    Raises:
        ValueError: if the file is missing or is not an image.
    """
    check_regular(path)
    try:
        # Without the option, FFmpeg fills the missing part of a truncated image with gray.
        return _decode_image(path, {"err_detect": "explode"})
    except (FFmpegError, StopIteration, IndexError) as error:
        if path.suffix.lower() in (".tif", ".tiff") and _is_whole(path):
            return _decode_image(path, {})  # the option also refuses tags in another order
        refuse_playlist(path)
        if count_images(path) > 1:
            raise ValueError(f"{path}: an animation; convert it to a film first.") from error
        raise ValueError(
            f"{path}: cannot be read as an image; it is damaged or of an unknown format. "
            "Give PNG, JPEG or TIFF."
        ) from error


def _decode_image(path: Path, options: dict[str, str]) -> VideoFrame:
    # Pass an open file, because FFmpeg would read a % in the name as a frame number.
    formats = {"format_whitelist": f"{readable_formats()},image2"}
    with open(path, "rb") as file, av.open(file, container_options=formats) as container:
        context = container.streams.video[0].codec_context
        if context is None:  # FFmpeg knows the format but has no decoder, as for SVG
            raise StopIteration
        context.options = options
        return next(container.decode(video=0))


def _is_whole(path: Path) -> bool:
    """Return whether OpenCV, which is strict about the data, reads an image."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None
    except cv2.error:
        return False
    finally:
        cv2.utils.logging.setLogLevel(level)


def count_images(path: Path) -> int:
    """Return the number of images in a file, such as a TIFF of several pages or an animation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged tags
            with open_with_pillow(path) as image:
                return getattr(image, "n_frames", 1)
    except Exception:  # Pillow raises errors of every kind for damaged files
        return 1


def image_orientation(path: Path) -> tuple[int, int, int, int]:
    """Return an image's EXIF orientation in the form of `EXIF_ORIENTATIONS`."""
    try:
        with open_with_pillow(path) as image:
            return EXIF_ORIENTATIONS.get(image.getexif().get(0x0112, 1), UPRIGHT)
    except Exception:
        return UPRIGHT  # formats that only FFmpeg reads have no EXIF data
