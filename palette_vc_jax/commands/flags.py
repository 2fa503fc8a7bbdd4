"""The flags that commands share: paths, and palettes from words."""

import argparse
import os
from pathlib import Path
from typing import Any

from palette_vc_jax import cli

TIMEOUT = 120.0  # seconds
LEXICON = "PALETTE_LEXICON"  # variable that names a file of words


def path(text: str) -> Path:
    """Read an argument as `cli.local_path` does: `type=flags.path`."""
    try:
        return cli.local_path(text, "path")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_words_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of palettes from words, in a group of their own."""
    add = parser.add_argument_group("palettes from words").add_argument
    unset = {"default": argparse.SUPPRESS}
    add(
        "--words_model",
        **unset,
        help="language model that proposes colors, on a server that speaks OpenAI's protocol "
        "(OPENAI_MODEL); without one a built-in table does, and nothing leaves this machine",
    )
    add(
        "--words_server",
        **unset,
        help="its address, such as http://localhost:11434/v1 (OPENAI_BASE_URL; else OpenAI's own)",
    )
    add(
        "--words_key_file",
        **unset,
        help="file that holds the key (else OPENAI_API_KEY); a key on the command line could be "
        "read by everyone on the machine",
    )
    add("--words_timeout", type=float, default=TIMEOUT, help="seconds to wait for an answer")
    add(
        "--lexicon",
        **unset,
        help=f"file of words and colors over the built-in table ({LEXICON})",
    )
    add(
        "--tagger",
        default="clip",
        help="what names the things on a film where --palette is words alone: clip (the "
        "checkpoint's image tower; needs its text_table.safetensors) or transformers:MODEL",
    )


def named_files(args: argparse.Namespace) -> list[Path]:
    """Return the files that the words' flags name for reading."""
    given = vars(args)
    names = [given.get("words_key_file"), given.get("lexicon") or os.environ.get(LEXICON)]
    return [Path(name) for name in names if name]


def proposer_of(
    args: argparse.Namespace, seed: int | None = None, temperature: float | None = None
) -> Any:
    """Return the proposer (`words.Proposer`) that flags or the environment name.

    Raises:
        ValueError: for a key file or a table that cannot be read, and as `Server`.
    """
    # Imported here so that --help answers at once.
    from palette_vc_jax.palette.language_model import from_environment
    from palette_vc_jax.palette.words import proposer

    given, key = vars(args), ""
    if "words_key_file" in given:
        try:
            key = Path(args.words_key_file).read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{args.words_key_file}: no key can be read there.") from None
    server = from_environment(
        given.get("words_model"), given.get("words_server"), key, args.words_timeout
    )
    table = given.get("lexicon") or os.environ.get(LEXICON)
    return proposer(server, table, seed, temperature)
