"""Make palettes from words: propose colors for each tag, and choose five of them.

This is the paper's third source of palettes: a tagging model names what the gray frame shows, and
a language model proposes a color for each tag ('Consistent Video Colorization via Palette
Guidance', section 3.3). Here, tags may also be the user's words, and without a language model the
colors come from a built-in table.
"""

import functools
import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from palette_vc_jax.palette import cache, lexicon
from palette_vc_jax.palette.language_model import Server
from palette_vc_jax.palette.palette import Palette, to_hex
from palette_vc_jax.palette.proposals import Proposals, Tag, choose

MAX_TAGS = 20
MAX_LENGTH = 100  # maximum characters of a tag

Proposer = Callable[[Sequence[Tag]], Proposals]


def split_words(text: str) -> list[Tag]:
    """Split the user's words into tags at commas, semicolons and line ends.

    Weights decrease from the first tag on.

    Raises:
        ValueError: if there are no tags or more than 20, or a tag is longer than 100 characters.
    """
    parts = [" ".join(part.split()) for part in re.split(r"[,;\n]", text)]
    parts = list(dict.fromkeys(part for part in parts if part))
    if not 1 <= len(parts) <= MAX_TAGS:
        raise ValueError(f"words for {len(parts)} things; give 1 to {MAX_TAGS} with commas.")
    for part in parts:
        if len(part) > MAX_LENGTH or not part.isprintable():
            raise ValueError(
                f"{part[:40]!r}...: words of {len(part)} characters; give at most {MAX_LENGTH} "
                "printable characters between two commas."
            )
    return [Tag(part, 0.95**index) for index, part in enumerate(parts)]


def proposer(
    server: Server | None = None,
    extension: str | Path | None = None,
    seed: int | None = None,
    temperature: float | None = None,
) -> Proposer:
    """Return a proposer: a language model if a server is given, else the table of usual colors.

    Args:
        server: server of a language model, whose answers are cached on disk.
        extension: file whose entries replace or extend the built-in table.
        seed: sent to the server if given.
        temperature: sent to the server if given.

    Raises:
        ValueError: if `extension` is not a valid table.
    """
    if server is not None:
        return functools.partial(cache.ask_once, server, seed=seed, temperature=temperature)
    table = lexicon.load(extension)
    return functools.partial(lexicon.propose, table)


def from_words(
    text: str,
    propose: Proposer,
    name_tags: Callable[[], tuple[Sequence[Tag], str]] | None = None,
    seed: int = 0,
    temperature: float = 0.0,
) -> Palette:
    """Make a palette from words, or from the tags of a film.

    Args:
        text: the user's words; if empty, `name_tags` is called.
        propose: function from tags to proposals.
        name_tags: function that returns tags and the name of the tagger.
        seed: see `proposals.choose`.
        temperature: see `proposals.choose`.

    Raises:
        ValueError: if words are missing or unknown.
        OSError: if a language model fails.
    """
    tagger = "words"
    if text.strip():
        tags: Sequence[Tag] = split_words(text)
    elif name_tags is not None:
        tags, tagger = name_tags()
    else:
        raise ValueError('palette words: give words, as in words:"autumn, a red tram".')
    proposals = propose(tags)
    # Round to 8 bits, so that the palette's file reproduces the film exactly.
    colors = np.rint(255.0 * choose(proposals.colors, seed, temperature)) / 255.0
    details = {
        "tagger": tagger,
        "tags": [
            {
                "tag": tag.text,
                "weight": round(tag.weight, 4),
                "colors": to_hex([p.color for p in proposals.colors if p.tag == tag.text]),
            }
            for tag in tags
        ],
        "unknown": list(proposals.unknown),
        "date": date.today().isoformat(),
        **proposals.details,
    }
    if temperature:
        details |= {"seed": seed, "temperature": temperature}
    return Palette.of(colors, f"words:{', '.join(tag.text for tag in tags)}", details)


def remarks(palette: Palette | None) -> list[str]:
    """Return messages about a palette from words; an empty list for other palettes."""
    if palette is None or not palette.source.startswith("words:"):
        return []
    details = palette.details
    model = f" {details['model']} on {details['server']}" if "model" in details else ""
    lines = [f"{palette.source} (colors from the {details['proposer']}{model})"]
    if details["unknown"]:
        lines.append(f"words without a known color: {', '.join(details['unknown'])}")
    return lines
