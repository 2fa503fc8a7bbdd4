"""Palettes from texts, as `--palette` takes them, for the page."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from palette_vc_jax import DEMO
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.spec import mixture_for, named_file, parse_spec
from palette_vc_jax.palette.words import from_words, proposer, remarks
from palette_vc_jax.sampling import tags
from palette_vc_jax.sampling.auto import FRAMES, palette_of_grays, spread, training_colorfulness
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.studio.device import Device
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.pictures import Pictures


def palette_of(
    spec: str,
    device: Device,
    folders: Folders,
    plan: Plan,
    seed: int,
    auto: Callable[[], Palette],
) -> Palette | None:
    """Return the palette that a text describes.

    Args:
        spec: the text; a file must be in one of the folders.
        device: with the model.
        folders: that may be read.
        plan: of the film, which `words:` looks at.
        seed: of draws from the mixture.
        auto: returns the automatic palette.

    Raises:
        ValueError: if the text is not valid.
    """
    file = named_file(spec)
    if file is not None:
        folders.check(file)
    model = device.model()

    def name_tags() -> tuple[Any, str]:
        tagger, name = tags.load_tagger("clip", model.folder or DEMO)
        with device.lock:
            return tags.tag_film(plan.film, plan.shots, tagger), name

    mixture = mixture_for("", model.folder or DEMO)
    words = functools.partial(from_words, propose=proposer(), name_tags=name_tags)
    return parse_spec(spec, mixture, seed, words, auto)


def automatic_palette(device: Device, plan: Plan, pictures: Pictures, part: Shot) -> Palette:
    """Return the automatic palette of a part of a film, as `auto_palettes` does.

    Args:
        device: with the model.
        plan: of the film.
        pictures: its frames.
        part: half-open range of frames.
    """
    target = training_colorfulness(mixture_for("auto", device.model().folder or DEMO))
    grays = np.stack([pictures[frame].small for frame in spread(part, FRAMES)])
    settings = dataclasses.replace(plan.settings, short_side=min(plan.size))
    with device.turn(plan) as networks:
        return palette_of_grays(
            grays, networks, target, settings, 0, plan.reference, plan.film.matrix
        )


def described(palette: Palette | None) -> dict[str, Any]:
    """Return a proposed palette as the page reads it."""
    if palette is None:
        return {"colors": None, "source": "none", "remarks": []}
    colors = palette.hex()
    return {"colors": colors, "source": palette.source, "remarks": remarks(palette)}
