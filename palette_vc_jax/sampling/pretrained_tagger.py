"""Tag films with an image-text-to-text model of transformers, imported only when it is used.

Code that comes with a model is never run.
"""

from typing import Any

import numpy as np
from PIL import Image

from palette_vc_jax.palette.proposals import Tag

QUESTION = (
    "Name the main things, materials and places that this black and white picture shows, in at "
    "most six short noun phrases between commas. Write nothing else."
)
NEW_TOKENS = 64
TAGS = 6
MAX_FRAMES = 3  # frames that the model is asked about
MAX_LENGTH = 40  # characters of a tag; longer text is a sentence


def pretrained(model: str) -> Any:
    """Load a model (a folder, or a name on the hub) as a tagger.

    Raises:
        ValueError: if transformers or torch is missing, or the model cannot be read.
    """
    try:
        import torch  # noqa: F401
        from transformers import pipeline
    except ModuleNotFoundError as error:
        raise ValueError(
            f"tagger transformers:{model} needs the package {error.name}; run `pip install torch` "
            "and `pip install -r requirements-tagger.txt`, or give words."
        ) from None
    try:
        ask = pipeline(
            "image-text-to-text",
            model=model,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"tagger transformers:{model}: not an image-text-to-text model that transformers "
            f"reads ({reason})."
        ) from None
    return lambda frames: name_things(ask, frames)


def name_things(ask: Any, frames: np.ndarray) -> list[Tag]:
    """Return the tags that a pipeline names for up to three of `frames`, best first.

    Args:
        ask: pipeline of transformers.
        frames: gray `[B, H, W]` in [0, 1].

    Raises:
        ValueError: if no answer names anything.
    """
    spaced = np.linspace(0, len(frames) - 1, min(MAX_FRAMES, len(frames))).round().astype(int)
    counts: dict[str, float] = {}
    for index in dict.fromkeys(spaced):
        codes = np.rint(255.0 * np.clip(frames[index], 0.0, 1.0)).astype(np.uint8)
        parts = [
            {"type": "image", "image": Image.fromarray(codes).convert("RGB")},
            {"type": "text", "text": QUESTION},
        ]
        answer = ask(
            text=[{"role": "user", "content": parts}],
            max_new_tokens=NEW_TOKENS,
            return_full_text=False,
        )
        for rank, tag in enumerate(read_tags(str(answer[0]["generated_text"]))):
            counts[tag] = counts.get(tag, 0.0) + 1.0 / (1 + rank)
    if not counts:
        raise ValueError("the tagger's model named nothing on this film; give words.")
    best = sorted(counts, key=lambda tag: -counts[tag])[:TAGS]
    return [Tag(tag, counts[tag]) for tag in best]


def read_tags(answer: str) -> list[str]:
    """Return the short printable phrases in a model's comma-separated list."""
    parts = [part.strip(" .*-\t\"'").lower() for part in answer.replace("\n", ",").split(",")]
    short = [part for part in parts if 0 < len(part) <= MAX_LENGTH and part.isprintable()]
    return list(dict.fromkeys(short))[:TAGS]
