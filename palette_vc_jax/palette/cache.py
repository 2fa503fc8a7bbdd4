"""Cache the answers of language models on disk, so that each question is sent once."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

from palette_vc_jax import atomic, files
from palette_vc_jax.palette import model_proposals
from palette_vc_jax.palette.language_model import Server
from palette_vc_jax.palette.palette import to_hex
from palette_vc_jax.palette.proposals import Proposals, Tag


def folder() -> Path:
    """Return the folder of the cache, below `$XDG_CACHE_HOME` or `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME")
    base = Path(root) if root else Path("~/.cache").expanduser()
    return base / "palette_vc_jax" / "palettes"


def ask_once(
    server: Server,
    tags: Sequence[Tag],
    seed: int | None = None,
    temperature: float | None = None,
    propose: Callable[..., Proposals] = model_proposals.propose,
) -> Proposals:
    """Return cached proposals for the same server, model and prompt, or ask and cache them.

    Errors are not cached. If the cache cannot be read or written, the server is asked.

    Args:
        server: language model server.
        tags: tags to propose colors for.
        seed: sent to the server if given.
        temperature: sent to the server if given.
        propose: function that asks the server.
    """
    path = folder() / f"{_key(server, tags, seed, temperature)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        values = files.read_json(path)
        colors = model_proposals.check_colors(values["colors"], tags)
        return Proposals(colors, dict(values["details"]))
    proposals = propose(server, tags, seed, temperature)
    proposals = proposals._replace(details={**proposals.details, "date": date.today().isoformat()})
    with contextlib.suppress(OSError, ValueError):
        _write(path, proposals)
    return proposals


def _key(server: Server, tags: Sequence[Tag], seed: int | None, temperature: float | None) -> str:
    address = server.host + urlsplit(server.url).path
    question = [address, server.model, model_proposals.prompt(tags), seed, temperature]
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()


def _write(path: Path, proposals: Proposals) -> None:
    colors = [
        {"tag": p.tag, "color": to_hex([p.color])[0], "weight": p.weight} for p in proposals.colors
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"colors": colors, "details": proposals.details}, indent=2)
    atomic.write_text(path, text + "\n")
