"""The reference: the picture that the image tower (CLIP) sees."""

import warnings
from typing import NamedTuple

import numpy as np

from palette_vc_jax.images import read_image
from palette_vc_jax.models.config import SamplingConfig

FORMS = "gray (the middle frame of each shot), image:PATH (a picture in color) or none"


class Reference(NamedTuple):
    """What the image tower sees, and what the record calls it.

    source: `gray` (the middle frame of each shot), `none` (the embedding is zero), or any other
        name of `picture`.
    picture: [H, W, 3] uint8 sRGB of any size, for all shots; None for `gray` and `none`.
    """

    source: str
    picture: np.ndarray | None = None


GRAY, NONE = Reference("gray"), Reference("none")


def parse_reference(spec: str) -> Reference:
    """Return the reference that the text `spec` (one of `FORMS`) asks for.

    Raises ValueError for other text, and for a file that is missing or no picture.
    """
    kind, _, path = spec.partition(":")
    if spec in (GRAY.source, NONE.source):
        return Reference(spec)
    if kind == "image" and path:
        return Reference(spec, read_image(path))
    raise ValueError(f"reference {spec!r} is not known; use {FORMS}.")


def default_reference(sampling: SamplingConfig) -> Reference:
    """Return the reference that a model was mostly trained with; `gray` in place of `color`.

    Warns if that is a picture in color, which only a user can give.
    """
    if sampling.reference == "color":
        warnings.warn(
            "the model was mostly trained with a reference in color and none is given: the middle "
            "frame of each shot is used in gray; give --reference image:PATH for the better one.",
            stacklevel=2,
        )
        return GRAY
    return Reference(sampling.reference)
