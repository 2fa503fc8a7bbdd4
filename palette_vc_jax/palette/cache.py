"""Colors that a language model proposed, kept on disk so that one question is asked once."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

from palette_vc_jax import atomic, files
from palette_vc_jax.palette import language_model
from palette_vc_jax.palette.language_model import Server
from palette_vc_jax.palette.palette import to_hex
from palette_vc_jax.palette.proposals import Proposals, Tag


def folder() -> Path:
    """Give the place of kept proposals, below `$XDG_CACHE_HOME` or `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME")
    base = Path(root) if root else Path("~/.cache").expanduser()
    return base / "palette_vc_jax" / "palettes"


def ask_once(
    server: Server,
    tags: Sequence[Tag],
    seed: int | None = None,
    temperature: float | None = None,
    propose: Callable[..., Proposals] = language_model.propose,
) -> Proposals:
    """Give what the same server, model and prompt have proposed before, or ask and keep it.

    What is refused is not kept; a file that cannot be read or written only costs a question.
    """
    path = folder() / f"{_key(server, tags, seed, temperature)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = files.read_json(path)
        return Proposals(language_model.check_colors(kept["colors"], tags), dict(kept["details"]))
    proposals = propose(server, tags, seed, temperature)
    proposals = proposals._replace(details={**proposals.details, "date": date.today().isoformat()})
    with contextlib.suppress(OSError, ValueError):
        _write(path, proposals)
    return proposals


def _key(server: Server, tags: Sequence[Tag], seed: int | None, temperature: float | None) -> str:
    place = server.host + urlsplit(server.url).path
    question = [place, server.model, language_model.prompt(tags), seed, temperature]
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()


def _write(path: Path, proposals: Proposals) -> None:
    colors = [
        {"tag": p.tag, "color": to_hex([p.color])[0], "weight": p.weight} for p in proposals.colors
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"colors": colors, "details": proposals.details}, indent=2)
    atomic.write_text(path, text + "\n")
