"""Read frames in RGB for training and metrics; coloring reads luma alone (`read.py`)."""

from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame

from palette_vc_jax.video import film as films
from palette_vc_jax.video.film import Film

VIDEOS = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"}
# H.273 matrices as swscale numbers them.
SWSCALE = {"bt601": 5, "bt709": 1, "bt2020": 9}
# SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND: without them swscale takes the nearest
# chroma and truncates, an error of one code on average.
ACCURATE = 0x2 | 0x2000 | 0x40000


def count_frames(film: Film) -> int:
    """Return the number of a film's frames without decoding them."""
    if film.kind != "video":
        return len(film.files)
    with films.open_video(film.path) as (container, stream):
        return sum(
            packet.pts is not None and not packet.is_discard for packet in container.demux(stream)
        )


def shown_size(film: Film) -> tuple[int, int]:
    """Return the height and width at which a film is displayed."""
    return (film.height, film.width) if film.orientation[0] else (film.width, film.height)


def read_rgb(film: Film) -> Iterator[np.ndarray]:
    """Yield a film's frames upright, `[H, W, 3]` uint8, with one in memory at a time.

    Damage inside a film that its decoder conceals is not detected.

    Raises:
        ValueError: if a film or image cannot be decoded, or a frame's size differs from the first.
    """
    height, width = shown_size(film)
    for number, image in enumerate(_decode(film)):
        if image.shape[:2] != (height, width):
            raise ValueError(
                f"{film.path}: frame {number} has {image.shape[1]}x{image.shape[0]} pixels, "
                f"the first {width}x{height}; all frames need the same size."
            )
        yield image


def to_rgb(frame: VideoFrame, film: Film) -> np.ndarray:
    """Convert a decoded frame to RGB `[H, W, 3]` uint8 by the film's matrix and range."""
    if film.is_rgb:
        return frame.to_ndarray(format="rgb24")
    return frame.reformat(
        format="rgb24",
        src_colorspace=SWSCALE[film.matrix],
        src_color_range=2 if film.full_range else 1,
        interpolation=ACCURATE,
    ).to_ndarray()


def _decode(film: Film) -> Iterator[np.ndarray]:
    if film.kind != "video":
        for path in film.files:
            image = to_rgb(films.decode_image(path), film)
            yield films.orient(image, films.image_orientation(path))
        return
    with films.open_video(film.path) as (container, stream):
        for frame in container.decode(stream):
            yield films.orient(to_rgb(frame, film), film.orientation)
