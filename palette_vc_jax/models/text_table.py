"""A vocabulary as CLIP's text tower embeds it: what an image embedding is compared with.

The text tower that belongs to SVD's image tower (OpenCLIP ViT-H/14) is run once, by
`convert/text_table.py`; naming what a picture shows is one matrix product then (Radford et al.,
'Learning transferable visual models from natural language supervision', 2021, section 3.1).
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from palette_vc_jax import atomic, files

FILE = "text_table.safetensors"  # in a model's folder
NOTES = ("vocabulary_sha256", "tower_sha256", "templates")


class TextTable(NamedTuple):
    """Embeddings of a vocabulary.

    tags: N of them.
    embeddings: float32 [N, D] of unit length.
    logit_scale: factor from cosines to logits; OpenCLIP's is 100.
    notes: hashes of the vocabulary and of the text tower, and the sentences tags were put in.
    """

    tags: tuple[str, ...]
    embeddings: np.ndarray
    logit_scale: float
    notes: dict[str, str]


def save_table(table: TextTable, path: Path) -> None:
    """Write a table; it appears when it is whole."""
    metadata = {"tags": json.dumps(table.tags), **table.notes}
    tensors = {
        "embeddings": np.asarray(table.embeddings, np.float32),
        "logit_scale": np.array([table.logit_scale], np.float32),
    }
    with atomic.file(path) as partial:
        save_file(tensors, partial, metadata)


def load_table(folder: Path, width: int) -> TextTable:
    """Read the table of a model's folder.

    Raises ValueError in one line if there is none, or if it does not belong to an image tower
    whose embeddings have `width` numbers.
    """
    path = Path(folder) / FILE
    files.check_regular(path)
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {FILE} there, by which a film's things are named; give words "
            '(words:"autumn, a red tram"), or make a table with convert/text_table.py. The '
            "bundled model can have none: its image tower was not trained with words."
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tags = tuple(json.loads(metadata["tags"]))
            embeddings = file.get_tensor("embeddings")
            (scale,) = file.get_tensor("logit_scale")
            if not all(isinstance(tag, str) and tag.isprintable() for tag in tags):
                raise ValueError("words that are no printable text")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a table of words ({error!r}); make it again.") from None
    if embeddings.shape != (len(tags), width) or not tags:
        raise ValueError(
            f"{path}: {len(tags)} words and embeddings of shape {embeddings.shape}, where the "
            f"checkpoint's image tower gives {width} numbers; make it with the text tower that "
            "belongs to it."
        )
    if not np.isfinite(embeddings).all() or not np.isfinite(scale):
        raise ValueError(f"{path}: holds values that are not finite; make it again.")
    return TextTable(tags, embeddings, float(scale), {k: metadata.get(k, "") for k in NOTES})


@jax.jit
def probabilities(
    embeddings: jax.Array, logit_scale: jax.Array | float, images: jax.Array
) -> jax.Array:
    """Return how probable each word of a table is, `[B, N]`, for embeddings of images `[B, D]`."""
    images = images.astype(jnp.float32)
    images = images / jnp.linalg.norm(images, axis=-1, keepdims=True)
    return jax.nn.softmax(logit_scale * images @ embeddings.T, axis=-1)
