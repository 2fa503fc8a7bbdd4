"""Embed words with the text tower of a CLIP, by PyTorch and transformers.

SVD's image tower is that of OpenCLIP ViT-H/14; `commands/text_table.py` turns the text tower that
belongs to it into a table of words.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from palette_vc_jax import cli

# A word's embedding is the mean over these; the films are black and white.
TEMPLATES = (
    "a photo of {}.",
    "a black and white photo of {}.",
    "a frame of an old film that shows {}.",
)
BATCH = 64


def read_tower(source: str) -> tuple[Any, Any]:
    """Load a tokenizer and a text tower; pickles are not opened. Raises ValueError in one line."""
    try:
        import torch  # noqa: F401
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is needed here; pip install torch, then pip install -r "
            "requirements-tagger.txt."
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        tower = CLIPTextModelWithProjection.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source}: no CLIP text tower can be read ({reason}).") from None
    return tokenizer, tower.eval()


def embed_words(tokenizer: Any, tower: Any, words: Sequence[str]) -> np.ndarray:
    """Embed words as float32 [N, D] of unit length: the mean over templates of unit embeddings."""
    import torch

    sums = np.zeros((len(words), tower.config.projection_dim), np.float32)
    bar = cli.progress(None, "embedding", "word", len(TEMPLATES) * len(words))
    for template in TEMPLATES:
        for part in _batches(len(words)):
            texts = [template.format(word) for word in words[part]]
            tokens = tokenizer(
                texts,
                padding="max_length",
                truncation=True,
                max_length=tower.config.max_position_embeddings,
                return_tensors="pt",
            )
            with torch.no_grad():
                found = tower(tokens["input_ids"], tokens["attention_mask"]).text_embeds
            found = found.float().numpy()
            sums[part] += found / np.linalg.norm(found, axis=-1, keepdims=True)
            bar.update(len(texts))
    bar.close()
    return sums / np.linalg.norm(sums, axis=-1, keepdims=True)


def weights_hash(tower: Any) -> str:
    """Hash a tower's weights, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().numpy().tobytes())
    return digest.hexdigest()


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))
