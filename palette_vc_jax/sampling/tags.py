"""What a gray film shows, in words: a few of its frames, and what names the things on them.

A tagger is any function from pictures to tags with weights. Two are here: the checkpoint's own
image tower against a table of words, and a pretrained model read by transformers.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.store import load_config, load_model
from palette_vc_jax.models.text_table import TextTable, load_table, probabilities
from palette_vc_jax.palette.proposals import Tag
from palette_vc_jax.sampling.sampler import check_finite
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, turned
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import resize

TAGS = 6
FRAMES = 12  # looked at in a film, at most
PER_SHOT = 3  # frames of a shot, where the film has few
LONG_SIDE = 640  # pixels of a frame that a tagger is given, at most

Tagger = Callable[[np.ndarray], list[Tag]]  # gray pictures [B, H, W] in [0, 1] -> tags, best first


def load_tagger(name: str, checkpoint: Path) -> tuple[Tagger, str]:
    """Give a tagger and how the record calls it.

    Args:
        name: `clip`, or `transformers:MODEL` with a folder or a name on the hub.
        checkpoint: model folder, whose image tower and text table `clip` uses.

    Raises ValueError in one line for another name, and for what the tagger lacks.
    """
    kind, _, model = name.partition(":")
    if name == "clip":
        width = load_config(checkpoint).image_encoder.projection_dim
        table = load_table(checkpoint, width)
        return zero_shot(checkpoint, table), f"clip ({len(table.tags)} words)"
    if kind == "transformers" and model:
        from palette_vc_jax.sampling.pretrained_tagger import pretrained

        return pretrained(model), name
    raise ValueError(f"tagger {name!r} is not known; use clip or transformers:MODEL.")


def zero_shot(checkpoint: Path, table: TextTable) -> Tagger:
    """Name things with a checkpoint's image tower: those whose words lie nearest to the frames."""
    model = load_model(checkpoint, ("image_encoder",))
    config = model.config.image_encoder

    @jax.jit
    def embed(params, pictures):
        ready = clip.preprocess(pictures, config.image_size)
        return functional.apply(ImageEncoder, config, params, ready)[:, 0]

    embed = functools.partial(embed, model.params["image_encoder"])
    return lambda pictures: best_tags(table, embed(as_clip_sees(pictures)))


def as_clip_sees(pictures: np.ndarray) -> np.ndarray:
    """Turn gray pictures [B, H, W] in [0, 1] to [B, H, W, 3] in [-1, 1]."""
    return 2.0 * np.asarray(pictures, np.float32)[..., None].repeat(3, axis=-1) - 1.0


def best_tags(table: TextTable, images: jax.Array, count: int = TAGS) -> list[Tag]:
    """Give the words that are most probable in the mean over image embeddings [B, D]."""
    mean = np.asarray(probabilities(table.embeddings, table.logit_scale, images)).mean(axis=0)
    check_finite(mean, "the image encoder")
    order = np.argsort(-mean, kind="stable")[:count]
    return [Tag(table.tags[i], max(float(mean[i]), 1e-6)) for i in order]


def frames_to_tag(shots: Sequence[Shot], limit: int = FRAMES) -> list[int]:
    """Choose evenly spaced frames of each shot, or the middle ones of evenly spaced shots."""
    each = max(1, min(PER_SHOT, limit // len(shots)))
    kept = [shots[i * len(shots) // limit] for i in range(limit)] if len(shots) > limit else shots
    chosen = {a + (2 * i + 1) * (b - a) // (2 * each) for a, b in kept for i in range(each)}
    return sorted(chosen)


def tag_film(film: Film, shots: Sequence[Shot], tagger: Tagger) -> list[Tag]:
    """Name what a film shows, from a few frames of its shots; reads its luma once."""
    wanted = frames_to_tag(shots)
    pictures = [gray_frame(f, film) for f in read_frames(film) if f.index in wanted]
    return tagger(np.stack(pictures))


def frame_at(film: Film, seconds: float) -> Frame:
    """Give the frame that is shown at a time from a film's beginning; its last one after the end.

    Raises ValueError for a film that cannot be read.
    """
    first = shown = None
    for frame in read_frames(film):
        first = frame.pts if first is None else first
        # Matroska rounds times to the millisecond.
        if shown is not None and (frame.pts - first) * film.time_base > seconds + 1e-3:
            break
        shown = frame
    if shown is None:
        raise ValueError(f"{film.path}: no frame could be read; give a whole film.")
    return shown


def gray_frame(frame: Frame, film: Film) -> np.ndarray:
    """Give a frame as it is shown, upright, in gray [H, W] in [0, 1], not larger than needed."""
    gray = turned(color.gray(frame.luma, film), film.turn)
    factor = min(1.0, LONG_SIDE / max(gray.shape))
    return resize(gray, *(max(1, round(side * factor)) for side in gray.shape))
