"""Read image files as upright 8-bit sRGB."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from palette_vc_jax.files import check_regular

# Formats that Pillow may read. It runs Ghostscript for EPS, and knows formats without a signature,
# as which it would read damaged files.
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as upright sRGB `[H, W, 3]` uint8.

    Raises:
        ValueError: if the file is missing, is not an image, or has too many pixels for Pillow.
    """
    path = Path(path)
    check_regular(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give an image (PNG, JPEG, ...).")
    return parse_image(path, str(path))


def parse_image(file: Path | BinaryIO, name: str) -> np.ndarray:
    """Read an image from a path or an open file as upright sRGB `[H, W, 3]` uint8.

    Args:
        file: path or open file.
        name: name of the file in messages.

    Raises:
        ValueError: if the file is not an image of `FORMATS` or has too many pixels.
    """
    try:
        with open_with_pillow(file) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit gray, which Pillow would clip to 8 bits
                values = np.clip(np.asarray(upright, np.int64) >> 8, 0, 255).astype(np.uint8)
                return np.repeat(values[..., None], 3, axis=-1)
            return np.array(upright.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name}: too many pixels for an image ({error}); give a smaller copy."
        ) from None
    except PermissionError:
        raise
    except Exception as error:  # Pillow raises errors of every kind for damaged files
        raise ValueError(
            f"{name}: cannot be read as an image; use an undamaged PNG or JPEG."
        ) from error


@contextmanager
def open_with_pillow(path: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open an image of `FORMATS` without Pillow's warnings, of many pixels and damaged tags.

    Raises:
        Image.DecompressionBombError: for more than twice as many pixels as Pillow warns about.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # some builds lack AVIF
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=known) as image:
            yield image
