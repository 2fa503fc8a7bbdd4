"""Embed words with the text tower of a CLIP model in PyTorch and transformers.

SVD's image tower is that of OpenCLIP ViT-H/14; `commands/text_table.py` makes a table of words
from the text tower of the same model.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from palette_vc_jax import cli

# A word's embedding is the mean over these templates, which suit black and white films.
TEMPLATES = (
    "a photo of {}.",
    "a black and white photo of {}.",
    "a frame of an old film that shows {}.",
)
BATCH = 64


def read_tower(source: str) -> tuple[Any, Any]:
    """Load a tokenizer and a text tower from safetensors; raise ValueError if impossible."""
    try:
        import torch  # noqa: F401
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the package {error.name} is needed; run `pip install torch` and `pip install -r "
            "requirements-tagger.txt`."
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        tower = CLIPTextModelWithProjection.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source}: no CLIP text tower can be read ({reason}).") from None
    return tokenizer, tower.eval()


def embed_words(tokenizer: Any, tower: Any, words: Sequence[str]) -> np.ndarray:
    """Return unit embeddings `[N, D]`, float32: means over templates of unit embeddings."""
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
    """Return the SHA-256 of a tower's weights in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().numpy().tobytes())
    return digest.hexdigest()


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))
