"""Read whole pictures in RGB: for training and for metrics, never for coloring.

Coloring sees luma alone (`read.py`).
"""

from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame

from palette_vc_jax.video import film as films
from palette_vc_jax.video.film import Film

VIDEOS = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"}
# H.273 matrices as swscale numbers them.
SWSCALE = {"bt601": 5, "bt709": 1, "bt2020": 9}
# SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND: without them swscale takes the nearest
# chroma and truncates, which costs a code in the mean.
CAREFULLY = 0x2 | 0x2000 | 0x40000


def count_frames(film: Film) -> int:
    """Count a film's frames without decoding them."""
    if film.kind != "video":
        return len(film.files)
    with films.open_video(film.path) as (container, stream):
        return sum(
            packet.pts is not None and not packet.is_discard for packet in container.demux(stream)
        )


def shown_size(film: Film) -> tuple[int, int]:
    """Give a film's height and width as it is shown."""
    return (film.height, film.width) if film.turn[0] else (film.width, film.height)


def read_rgb(film: Film) -> Iterator[np.ndarray]:
    """Yield a film's frames as it shows them, `[H, W, 3]` uint8, holding one at a time.

    Raises ValueError for a film or picture that cannot be decoded, and for frames of another size
    than the first. Damage inside a film that its decoder conceals is not noticed.
    """
    height, width = shown_size(film)
    for number, picture in enumerate(_decode(film)):
        if picture.shape[:2] != (height, width):
            raise ValueError(
                f"{film.path}: frame {number} has {picture.shape[1]}x{picture.shape[0]} pixels, "
                f"the first {width}x{height}; frames of one size are needed."
            )
        yield picture


def to_rgb(frame: VideoFrame, film: Film) -> np.ndarray:
    """Turn a decoded frame into RGB `[H, W, 3]` uint8 by the film's matrix and range."""
    if film.is_rgb:
        return frame.to_ndarray(format="rgb24")
    return frame.reformat(
        format="rgb24",
        src_colorspace=SWSCALE[film.matrix],
        src_color_range=2 if film.full_range else 1,
        interpolation=CAREFULLY,
    ).to_ndarray()


def _decode(film: Film) -> Iterator[np.ndarray]:
    if film.kind != "video":
        for path in film.files:
            picture = to_rgb(films.decode_picture(path), film)
            yield films.turned(picture, films.picture_turn(path))
        return
    with films.open_video(film.path) as (container, stream):
        for frame in container.decode(stream):
            yield films.turned(to_rgb(frame, film), film.turn)
