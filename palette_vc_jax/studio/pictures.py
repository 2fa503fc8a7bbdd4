"""Read single frames of a film for the page, and keep those that were read last."""

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.video.film import open_film, upright_size
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import small_gray
from palette_vc_jax.video.shrink import limited_size

WIDTH = 640  # maximum width of a frame on the page in pixels
THUMBNAIL = 160  # and of a thumbnail
TINT, OPACITY = (255, 64, 255), 0.45  # of masks
KEPT = 200  # frames
AHEAD = 60  # frames that are rather read in order than found by seeking


class Picture(NamedTuple):
    """One frame, upright, in SDR."""

    gray: np.ndarray  # Y' `[H, W]` uint8, for the page
    small: np.ndarray  # Y' `[h, w]` in [0, 1], for the model


class Pictures:
    """The frames of a film; threads take turns.

    Args:
        plan: from `plan_film`.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._frames: Iterator[Frame] = iter(())
        self._next = plan.frames  # number of the next frame of `_frames`
        self.height, self.width = limited_size(*upright_size(plan.film), WIDTH)

    def __getitem__(self, number: int) -> Picture:
        """Return a frame by its number in the film.

        Raises:
            ValueError: if there is no such frame, or it cannot be read.
        """
        if not 0 <= number < self._plan.frames:
            raise ValueError(f"frame {number}; the film has {self._plan.frames}, counted from 0.")
        with self._lock:
            if number not in self._kept:
                self._read(number)
            self._kept.move_to_end(number)
            return self._kept[number]

    def full(self, number: int) -> np.ndarray:
        """Return Y' `[H, W]` uint8 of a frame at the film's own size, upright, in SDR.

        Raises:
            ValueError: as for single frames.
        """
        self[number]
        film = self._plan.film
        frame = next(self._from(number), None)
        if frame is None:
            raise ValueError(f"frame {number} could not be read; open the film again.")
        return _codes(small_gray(frame, film, upright_size(film)))

    def _from(self, number: int) -> Iterator[Frame]:
        film = self._plan.film
        start = str(number) if number and film.kind != "image" else None
        return read_frames(open_film(film.path, film.damaged, start))

    def _read(self, number: int) -> None:
        if not self._next <= number < self._next + AHEAD:
            self._frames = self._from(number)
            self._next = number
        while self._next <= number:
            frame = next(self._frames, None)
            if frame is None:
                self._next = self._plan.frames
                raise ValueError(f"frame {number} could not be read; open the film again.")
            self._keep(replace(frame, index=self._next))
            self._next += 1

    def _keep(self, frame: Frame) -> None:
        large = small_gray(frame, self._plan.film, (self.height, self.width))
        self._kept[frame.index] = Picture(_codes(large), self._plan.gray(frame))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def jpeg(pixels: np.ndarray, width: int | None = None) -> bytes:
    """Return a JPEG of pixels `[H, W]` or `[H, W, 3]` uint8, made smaller if it is wider."""
    image = Image.fromarray(pixels)
    if width is not None and image.width > width:
        image.thumbnail((width, image.height))
    return _stored(image, "JPEG", quality=90, subsampling=0)


def png(pixels: np.ndarray) -> bytes:
    """Return a PNG of pixels `[H, W]` or `[H, W, 3]` uint8."""
    return _stored(Image.fromarray(pixels), "PNG", compress_level=1)


def overlay(cover: np.ndarray) -> bytes:
    """Return a PNG that is laid over a frame to show a mask `[H, W]`, 0 to 255."""
    tint = np.broadcast_to(np.uint8(TINT), (*cover.shape, 3))
    alpha = np.rint(OPACITY * cover)[..., None].astype(np.uint8)
    return _stored(Image.fromarray(np.concatenate([tint, alpha], axis=-1)), "PNG")


def _codes(gray: np.ndarray) -> np.ndarray:
    return np.rint(255.0 * np.clip(gray, 0.0, 1.0)).astype(np.uint8)


def _stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return stored.getvalue()
