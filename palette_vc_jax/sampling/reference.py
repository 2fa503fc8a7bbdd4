"""The reference: the image that the image tower (CLIP) sees."""

import warnings
from typing import NamedTuple

import numpy as np

from palette_vc_jax.images import read_image
from palette_vc_jax.models.config import SamplingConfig

FORMS = "gray (the middle frame of each shot), image:PATH (a color image) or none"


class Reference(NamedTuple):
    """The image that the image tower sees, and its name in the record.

    Args:
        source: `gray` (the middle frame of each shot), `none` (the embedding is zero), or any
            other name of `image`.
        image: sRGB `[H, W, 3]` uint8 of any size, for all shots; None for `gray` and `none`.
    """

    source: str
    image: np.ndarray | None = None


GRAY, NONE = Reference("gray"), Reference("none")


def parse_reference(spec: str) -> Reference:
    """Return the reference that the text `spec` (one of `FORMS`) names.

    Raises:
        ValueError: if `spec` is another text, or its file is missing or is not an image.
    """
    kind, _, path = spec.partition(":")
    if spec in (GRAY.source, NONE.source):
        return Reference(spec)
    if kind == "image" and path:
        return Reference(spec, read_image(path))
    raise ValueError(f"reference {spec!r} is not known; use {FORMS}.")


def default_reference(sampling: SamplingConfig) -> Reference:
    """Return the kind of reference that a model was mostly trained with.

    If that is a color image, which only a user can give, warn and return `GRAY`.
    """
    if sampling.reference == "color":
        warnings.warn(
            "the model was mostly trained with a color reference, and none is given: the gray "
            "middle frame of each shot is used; give --reference image:PATH for better colors.",
            stacklevel=2,
        )
        return GRAY
    return Reference(sampling.reference)
