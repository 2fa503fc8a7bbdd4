"""A palette from words: tags, colors that each should have, five of these.

The paper's third source of palettes: a tagging model names what the gray frame shows, a language
model proposes a color for each tag ('Consistent Video Colorization via Palette Guidance', section
3.3). Here the tags may be the user's own words, and the colors come from a built-in table where no
language model is named.
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
MAX_LENGTH = 100  # characters of a tag

Proposer = Callable[[Sequence[Tag]], Proposals]


def split_words(text: str) -> list[Tag]:
    """Cut what the user wrote into tags, at commas, semicolons and line ends; the first count most.

    Raises ValueError for none, for more than 20, and for one of more than 100 characters.
    """
    parts = [" ".join(part.split()) for part in re.split(r"[,;\n]", text)]
    parts = list(dict.fromkeys(part for part in parts if part))
    if not 1 <= len(parts) <= MAX_TAGS:
        raise ValueError(f"words for {len(parts)} things; give 1 to {MAX_TAGS} between commas.")
    for part in parts:
        if len(part) > MAX_LENGTH or not part.isprintable():
            raise ValueError(
                f"{part[:40]!r}...: words of {len(part)} characters; give printable ones, "
                f"{MAX_LENGTH} at most between two commas."
            )
    return [Tag(part, 0.95**index) for index, part in enumerate(parts)]


def proposer(
    server: Server | None = None,
    extension: str | Path | None = None,
    seed: int | None = None,
    temperature: float | None = None,
) -> Proposer:
    """Give the proposer that is named: a language model, or else the table of usual colors.

    Args:
        server: of a language model; its answers are kept on disk.
        extension: file of words and colors over the built-in table.
        seed, temperature: sent to a server where given.
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
    """Make a palette from words, or from what a film is found to show.

    Args:
        text: the user's words; empty to have the tags named by `name_tags`.
        propose: gives colors for tags.
        name_tags: gives tags and what found them.
        seed, temperature: of the choice of five among the colors; see `proposals.choose`.

    Raises ValueError in one line for words that are missing or not known, OSError where a
    language model fails.
    """
    tagger = "words"
    if text.strip():
        tags: Sequence[Tag] = split_words(text)
    elif name_tags is not None:
        tags, tagger = name_tags()
    else:
        raise ValueError('palette words: give words, as in words:"autumn, a red tram".')
    proposals = propose(tags)
    # Whole codes, so that the palette's file gives the very same film again.
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
    """Say in lines what the user should know of a palette from words; none of other palettes."""
    if palette is None or not palette.source.startswith("words:"):
        return []
    details = palette.details
    model = f" {details['model']} on {details['server']}" if "model" in details else ""
    lines = [f"{palette.source} (colors from the {details['proposer']}{model})"]
    if details["unknown"]:
        lines.append(f"words without a known color: {', '.join(details['unknown'])}")
    return lines
