"""Name what a gray film shows, from a few of its frames.

A tagger is any function from gray frames to weighted tags. There are two: the checkpoint's image
tower with a table of words, and a pretrained model of transformers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.models.store import load_config, load_model
from palette_vc_jax.models.text_table import TextTable, load_table, probabilities
from palette_vc_jax.palette.proposals import Tag
from palette_vc_jax.sampling.sampler import check_finite
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, orient
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import resize

TAGS = 6
FRAMES = 12  # maximum number of frames of a film
PER_SHOT = 3  # frames per shot if the film has few shots
LONG_SIDE = 640  # maximum longer side, in pixels, of a tagger's frames

Tagger = Callable[[np.ndarray], list[Tag]]  # gray frames [B, H, W] in [0, 1] -> tags, best first


def load_tagger(name: str, checkpoint: Path) -> tuple[Tagger, str]:
    """Return a tagger and its name for the record.

    Args:
        name: `clip`, or `transformers:MODEL` with a folder or a name on the hub.
        checkpoint: model folder, whose image tower and text table `clip` uses.

    Raises:
        ValueError: if the name is unknown, or a file or package of the tagger is missing.
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
    """Return a tagger that picks the words closest to the frames in CLIP's embedding space."""
    networks = load_networks(load_model(checkpoint, ("image_encoder",)))

    def tag(frames: np.ndarray) -> list[Tag]:
        return best_tags(table, networks.embed(signed_rgb(frames))[:, 0])

    return tag


def signed_rgb(frames: np.ndarray) -> np.ndarray:
    """Convert gray frames `[B, H, W]` in [0, 1] to `[B, H, W, 3]` in [-1, 1]."""
    return 2.0 * np.asarray(frames, np.float32)[..., None].repeat(3, axis=-1) - 1.0


def best_tags(table: TextTable, images: jax.Array, count: int = TAGS) -> list[Tag]:
    """Return the words of highest mean probability over image embeddings `[B, D]`, best first."""
    mean = np.asarray(probabilities(table.embeddings, table.logit_scale, images)).mean(axis=0)
    check_finite(mean, "the image encoder")
    order = np.argsort(-mean, kind="stable")[:count]
    return [Tag(table.tags[i], max(float(mean[i]), 1e-6)) for i in order]


def frames_to_tag(shots: Sequence[Shot], limit: int = FRAMES) -> list[int]:
    """Return evenly spaced frames of each shot, or the middle frames of evenly spaced shots."""
    each = max(1, min(PER_SHOT, limit // len(shots)))
    kept = [shots[i * len(shots) // limit] for i in range(limit)] if len(shots) > limit else shots
    chosen = {a + (2 * i + 1) * (b - a) // (2 * each) for a, b in kept for i in range(each)}
    return sorted(chosen)


def tag_film(film: Film, shots: Sequence[Shot], tagger: Tagger) -> list[Tag]:
    """Return the tags of a film from a few frames of its shots; read its luma once."""
    wanted = frames_to_tag(shots)
    frames = [gray_frame(f, film) for f in read_frames(film) if f.index in wanted]
    return tagger(np.stack(frames))


def frame_at(film: Film, seconds: float) -> Frame:
    """Return the frame shown `seconds` after the film's beginning, or its last frame.

    Raises:
        ValueError: if the film cannot be read.
    """
    first = shown = None
    for frame in read_frames(film):
        first = frame.pts if first is None else first
        # Matroska rounds times to the millisecond.
        if shown is not None and (frame.pts - first) * film.time_base > seconds + 1e-3:
            break
        shown = frame
    if shown is None:
        raise ValueError(f"{film.path}: no frame could be read; use a complete copy.")
    return shown


def gray_frame(frame: Frame, film: Film) -> np.ndarray:
    """Return a frame upright, as gray `[H, W]` in [0, 1], with sides of at most `LONG_SIDE`."""
    gray = orient(color.gray(frame.luma, film), film.orientation)
    factor = min(1.0, LONG_SIDE / max(gray.shape))
    return resize(gray, *(max(1, round(side * factor)) for side in gray.shape))
