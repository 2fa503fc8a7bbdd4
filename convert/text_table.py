"""Embed the words that films are tagged with: `python convert/text_table.py --text_tower CLIP`.

SVD's image tower is that of OpenCLIP ViT-H/14; the text tower that belongs to it is published in
transformers' layout as laion/CLIP-ViT-H-14-laion2B-s32B-b79K. It is needed once: what comes out is
a table of some 430 words that lies in the model's folder, and PyTorch is needed no more.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from palette_vc_jax import atomic, cli
from palette_vc_jax.models.store import load_config
from palette_vc_jax.models.text_table import FILE, TextTable, save_table
from palette_vc_jax.palette import lexicon

# A word's embedding is the mean over these; the films are black and white.
TEMPLATES = (
    "a photo of {}.",
    "a black and white photo of {}.",
    "a frame of an old film that shows {}.",
)
BATCH = 64
OPENCLIP_SCALE = 100.0


def main(argv: list[str] | None = None) -> None:
    """Read the flags, embed, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--text_tower",
        required=True,
        help="folder of a CLIP with its tokenizer, as transformers saves it (safetensors), or its "
        "name on the hub",
    )
    add("--model", required=True, type=cli.path, help="converted model, where the table is written")
    add("--lexicon", type=cli.path, help="file of words and colors over the built-in table")
    add("--logit_scale", type=float, default=OPENCLIP_SCALE, help="from cosines to logits")
    options = parser.parse_args(argv)

    path = options.model / FILE
    atomic.check_targets([path], [options.lexicon] if options.lexicon else [])
    width = load_config(options.model).image_encoder.projection_dim
    words = lexicon.vocabulary(lexicon.load(options.lexicon))
    tokenizer, tower = read_tower(options.text_tower)
    if tower.config.projection_dim != width:
        raise ValueError(
            f"{options.text_tower}: embeddings of {tower.config.projection_dim} numbers, where "
            f"{options.model}'s image tower gives {width}; give the text tower that belongs to it."
        )
    notes = {
        "vocabulary_sha256": hashlib.sha256("\n".join(words).encode()).hexdigest(),
        "tower_sha256": weights_hash(tower),
        "templates": " | ".join(TEMPLATES),
    }
    embeddings = embed_words(tokenizer, tower, words)
    save_table(TextTable(tuple(words), embeddings, options.logit_scale, notes), path)
    print(f"{len(words)} words: {path}")


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


if __name__ == "__main__":
    cli.run(main)
