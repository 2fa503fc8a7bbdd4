"""Keyframes: frames whose colors the user has given, and which their shots follow.

At each denoising step the known color latents take the place of the estimate at these frames, in
every window that holds them (`sampler`). What this changes is added to the other frames of the shot
too, at the places that the flow finds: at high noise levels the network sees too little of the
known colors to follow them. The colors are merged with the film's own luma first, so that a
keyframe's image may be of another size, or a repaired or painted copy. Where the flow is lost, a
pixel follows the keyframe's most similar pixel instead (docs/benchmarks.md compares both).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from palette_vc_jax.files import beside
from palette_vc_jax.images import read_image
from palette_vc_jax.sampling.settings import Known
from palette_vc_jax.sampling.tracking import read_shots, trace
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.fades import Light
from palette_vc_jax.video.film import Film, upright_size
from palette_vc_jax.video.position import parse_position
from palette_vc_jax.video.resize import resize

FORMS = "POSITION=IMAGE"
# Of pixels that the flow has lost:
LOST = 0.5  # reliability of the flow below which it has lost a pixel
NEARNESS = 0.8  # what a distance of one short side counts for, beside differences of Y' in [0, 1]
TRUST = 0.85  # of a similar pixel, where a pixel that the flow finds has 1
ASPECT = 0.02  # largest relative difference between the aspect ratios of an image and the film


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A frame of the film with its colors.

    Args:
        frame: its number, counted from 0.
        image: sRGB `[H, W, 3]` uint8, upright, of any size.
        source: name in the record.
        files: the image's file, which a run must not replace.
    """

    frame: int
    image: np.ndarray
    source: str = "image"
    files: tuple[Path, ...] = ()


def parse_keyframe(text: str, film: Film, folder: Path | None = None) -> Keyframe:
    """Return the keyframe of `POSITION=IMAGE`.

    Args:
        text: see above.
        film: from `open_film`.
        folder: of a plan, see `files.beside`.

    Raises:
        ValueError: if the text has another form, or the image is missing, is not an image, or has
            another aspect ratio than the film.
    """
    frame, name = split_keyframe(text, film)
    path = beside(name, folder)
    image = read_image(path)
    check_aspect(image.shape[:2], upright_size(film), f"keyframe {text}")
    return Keyframe(frame, image, path.name, (path,))


def split_keyframe(text: str, film: Film) -> tuple[int, str]:
    """Return the number of the frame of `POSITION=IMAGE`, and IMAGE.

    Raises:
        ValueError: if the text has another form.
    """
    position, equals, path = text.partition("=")
    if not equals or not path:
        raise ValueError(f"keyframe {text!r}; give {FORMS}, such as 48=repaired.png.")
    return parse_position(position, film.rate), path


@dataclass(frozen=True, eq=False)
class TrackedKeyframes:
    """Keyframes, and what the other frames of their shots take from them.

    Args:
        keyframes: in the order of their frames.
        sources: by the first frame of each shot with keyframes, int32 `[T, h, w, 2]`: what each
            latent pixel takes of the keyframe before it and of the one after it, as an index into
            the latents `[M * h * w]` of all keyframes.
        weights: the same with the weights of both, float32, whose sum is at most 1.
    """

    keyframes: tuple[Keyframe, ...]
    sources: dict[int, np.ndarray]
    weights: dict[int, np.ndarray]

    def images(self, shots: Sequence[Shot]) -> dict[int, np.ndarray]:
        """Return the keyframes' images in a run of shots, by the frame's number, in order."""
        first, stop = shots[0][0], shots[-1][1]
        return {k.frame: k.image for k in self.keyframes if first <= k.frame < stop}

    def known(self, shots: Sequence[Shot], latents: np.ndarray) -> Known:
        """Return what the sampler needs of a run of shots.

        Args:
            shots: consecutive half-open ranges.
            latents: `[M, h, w, C]` of `images(shots)`.
        """
        first, stop = shots[0][0], shots[-1][1]
        before = sum(keyframe.frame < first for keyframe in self.keyframes)
        shape = stop - first, *latents.shape[1:3], 2
        source, weight = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for start, end in shots:
            if start in self.sources:
                part = slice(start - first, end - first)
                source[part] = self.sources[start] - before * shape[1] * shape[2]
                weight[part] = self.weights[start]
        return Known(np.array([*self.images(shots)]) - first, latents, source, weight)


def track_keyframes(
    film: Film,
    shots: Sequence[Shot],
    shape: tuple[int, int],
    keyframes: Sequence[Keyframe],
    lights: Mapping[int, Light] | None = None,
) -> TrackedKeyframes:
    """Follow keyframes through their shots; read the film's luma once.

    Between two keyframes of a shot, the weight of one falls evenly as that of the other rises.

    Args:
        film: from `open_film`.
        shots: half-open ranges that cover the film.
        shape: height and width of the latents.
        keyframes: frames with known colors.
        lights: see `read_shots`.

    Raises:
        ValueError: as `check_keyframes`.
    """
    check_keyframes(keyframes, shots[-1][1])
    ordered = sorted(keyframes, key=lambda keyframe: keyframe.frame)
    numbers = {keyframe.frame: number for number, keyframe in enumerate(ordered)}
    wanted = [shot for shot in shots if any(shot[0] <= frame < shot[1] for frame in numbers)]
    tracked = TrackedKeyframes(tuple(ordered), {}, {})
    for (start, stop), frames in read_shots(film, wanted, lights):
        source = np.zeros((stop - start, *shape, 2), np.int32)
        weight = np.zeros((stop - start, *shape, 2), np.float32)
        own = [frame for frame in numbers if start <= frame < stop]
        for frame, previous, following in zip(own, [None, *own], [*own[1:], None], strict=False):
            offset = numbers[frame] * shape[0] * shape[1]
            for side, other, end, step in ((0, following, stop, 1), (1, previous, start - 1, -1)):
                last = end if other is None else other
                path = range(frame, last, step)
                followed = _follow(frames[[number - start for number in path]], shape)
                for now, (pixels, trust) in zip(path, followed, strict=True):
                    share = 1.0 if other is None else 1.0 - abs(now - frame) / abs(other - frame)
                    source[now - start, ..., side] = offset + pixels
                    weight[now - start, ..., side] = share * trust
            weight[frame - start] = (1.0, 0.0)
        tracked.sources[start], tracked.weights[start] = source, weight
    return tracked


def _follow(frames: np.ndarray, shape: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which latent pixels of the first of `frames` `[T, H, W]` uint8 each frame follows.

    Yields:
        Latent pixels counted by rows, `[h, w]`, and how far they are to be trusted, in [0, 1].
    """
    from sklearn.neighbors import KDTree  # its import takes a second

    first = KDTree(_features(frames[0], shape))
    for frame, (places, reliable) in zip(frames, trace(frames), strict=True):
        pixels, trust = _cells(places, shape), resize(reliable, *shape)
        lost = trust < LOST
        if lost.any():
            wanted = _features(frame, shape)[lost.ravel()]
            pixels[lost] = first.query(wanted, return_distance=False)[:, 0]
        yield pixels, np.where(lost, np.float32(TRUST), trust)


def _cells(places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the latent pixels `[h, w]`, counted by rows, that hold the pixels `[H, W, 2]`."""
    height, width = places.shape[:2]
    columns, rows = np.moveaxis(resize(places, *shape), -1, 0)
    column = np.clip(((columns + 0.5) * shape[1] / width).astype(int), 0, shape[1] - 1)
    row = np.clip(((rows + 0.5) * shape[0] / height).astype(int), 0, shape[0] - 1)
    return row * shape[1] + column


def _features(frame: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return `[h * w, 6]`: Y' at three scales, its variation, and the place."""
    gray = resize(frame, *shape) / np.float32(255.0)
    near, wide = cv2.blur(gray, (3, 3)), cv2.blur(gray, (9, 9))
    variance = cv2.blur(gray * gray, (5, 5)) - np.square(cv2.blur(gray, (5, 5)))
    variation = 2.0 * np.sqrt(np.maximum(variance, 0.0))
    place = NEARNESS / min(shape) * np.mgrid[: shape[0], : shape[1]]
    return np.stack([gray, near, wide, variation, *place], axis=-1).reshape(-1, 6)


def check_keyframes(keyframes: Sequence[Keyframe], frames: int) -> None:
    """Raise ValueError unless the keyframes are images of different frames of a film.

    Args:
        keyframes: frames with known colors.
        frames: number of the film's frames.
    """
    for key in keyframes:
        if key.image.dtype != np.uint8 or key.image.ndim != 3 or key.image.shape[2] != 3:
            raise ValueError(
                f"keyframe {key.frame}: an image of shape {key.image.shape} and type "
                f"{key.image.dtype}; give sRGB [H, W, 3] uint8."
            )
    for number, images in Counter(keyframe.frame for keyframe in keyframes).items():
        if not 0 <= number < frames:
            raise ValueError(
                f"keyframe {number} of a film of {frames} frames; give 0 to {frames - 1}."
            )
        if images > 1:
            raise ValueError(f"{images} images for keyframe {number}; give one.")


def check_aspect(shape: tuple[int, ...], upright: tuple[int, int], what: str) -> None:
    """Raise ValueError, beginning with `what`, if an image is not of the film's aspect ratio."""
    ratio = (shape[0] * upright[1]) / (shape[1] * upright[0])
    if abs(ratio - 1.0) > ASPECT:
        raise ValueError(
            f"{what}: {shape[1]}x{shape[0]} pixels, but the film has {upright[1]}x{upright[0]}; "
            "give an image of the whole frame."
        )
