"""Images that the page gives: checked, and kept beside the plan under a name of their content.

Files are never changed or removed, so that undo, and copies of the plan, find them.
"""

import hashlib
import io
import re
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from palette_vc_jax import atomic
from palette_vc_jax.files import check_regular
from palette_vc_jax.images import open_with_pillow, parse_image
from palette_vc_jax.sampling.keyframes import check_aspect

MAX_PIXELS = 2**26  # of an image
NAME = re.compile(r"[0-9a-f]{32}\.png")


def keep(file: Path | BinaryIO, name: str, folder: Path, upright: tuple[int, int]) -> str:
    """Keep an image of the whole frame as a PNG; return the name of its file in `folder`.

    Args:
        file: path, or open file of the image.
        name: its name in messages.
        folder: made if it is missing.
        upright: height and width of the film's frames.

    Raises:
        ValueError: if the file is not an image, is too large, or has another aspect ratio.
    """
    if isinstance(file, Path):
        check_regular(file)
    try:
        with open_with_pillow(file) as image:  # reads the header
            width, height = image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        width = height = 0  # `parse_image` has the messages
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name}: {width}x{height} pixels; give a smaller copy.")
    rgb = parse_image(file, name)
    check_aspect(rgb.shape[:2], upright, name)
    stored = io.BytesIO()
    gray = (rgb[..., :1] == rgb).all()
    Image.fromarray(rgb[..., 0] if gray else rgb).save(stored, "PNG", compress_level=1)
    data = stored.getvalue()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.png"
    folder.mkdir(exist_ok=True)
    if not path.exists():
        with atomic.file(path) as partial:
            partial.write_bytes(data)
    return path.name
