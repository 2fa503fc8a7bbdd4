"""Parse the `--palette` argument."""

import warnings
from collections.abc import Callable
from pathlib import Path

from palette_vc_jax import DEMO, files
from palette_vc_jax.palette import gmm
from palette_vc_jax.palette.file import fit_five, load_palette
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.text import parse_colors, parse_link, unquote
from palette_vc_jax.palette.words import from_words, proposer

FORMS = (
    'auto, image:PATH, gmm[:SEED], "#rrggbb,tomato,..." (1 to 5 colors), rrggbb-rrggbb-... or a '
    "link of coolors.co, file:PALETTE (.json, .ase, .aco, .gpl or .hex), "
    'words:"autumn, a red tram, ...", words (what the film shows) or none'
)


def parse_spec(
    spec: str,
    mixture: str | Path = DEMO / "mixture.json",
    seed: int = 0,
    words: Callable[[str], Palette] | None = None,
    auto: Callable[[], Palette] | None = None,
) -> Palette | None:
    """Return the palette that `spec` describes, or None for `none`.

    Args:
        spec: one of `FORMS`.
        mixture: file of the mixture that `gmm` samples; read for `gmm` only.
        seed: seed of `gmm` if the spec has none.
        words: function from words to a palette, where the empty text means the film's tags. By
            default the built-in table is used.
        auto: function that returns the automatic palette of the film.

    Raises:
        ValueError: if `spec` has another form, or its file or seed is not valid, or if it is
            `auto` where there is no film.
    """
    spec = unquote(spec)
    kind, colon, rest = spec.partition(":")
    kind = kind.strip().lower()
    if spec.strip().lower() == "none":
        return None
    if spec.strip().lower() == "auto":
        if auto is None:
            raise ValueError("palette auto is made from a film; give another palette here.")
        return auto()
    if kind == "gmm":
        return gmm.sample(gmm.load(mixture), _seed(rest) if colon else seed)
    if kind == "words":
        rest = unquote(rest)
        return words(rest) if words else from_words(rest, proposer())
    if kind == "image" and rest:
        return Palette.from_image(rest)
    if kind == "file" and rest:
        return load_palette(rest)
    linked = parse_link(spec)
    if linked is not None:
        return fit_five(linked, f"colors:{spec}", spec)
    if colon or not spec.strip():
        raise ValueError(f"palette {spec!r} is not known; give {FORMS}.")
    return parse_colors(spec)


def named_file(spec: str) -> Path | None:
    """Return the file that `spec` names (`image:PATH`, `file:PATH`), or None."""
    kind, _, rest = unquote(spec).partition(":")
    return Path(rest) if kind.strip().lower() in ("image", "file") and rest else None


def spec_beside(spec: str, folder: Path) -> str:
    """Return `spec` with the path of the file that it names, see `files.beside`."""
    path = named_file(spec)
    if path is None:
        return spec
    return f"{unquote(spec).partition(':')[0]}:{files.beside(str(path), folder)}"


def spec_within(spec: str, folder: Path) -> str:
    """Return `spec` as a plan in `folder` names it, so that `spec_beside` finds the same file."""
    path = named_file(spec)
    if path is None or path.is_absolute():
        return spec
    return f"{unquote(spec).partition(':')[0]}:{files.within(path, folder)}"


def mixture_for(spec: str, checkpoint: Path) -> Path:
    """Return the file of the mixture that `gmm` samples: the checkpoint's, or else the demo's.

    Warn if `spec` is `gmm` and the checkpoint has none.

    Args:
        spec: one of `FORMS`.
        checkpoint: model folder.
    """
    own = checkpoint / "mixture.json"
    if own.exists():  # reading it raises if it is not a regular file
        return own
    if spec.partition(":")[0].strip().lower() == "gmm":
        warnings.warn(
            f"{checkpoint} has no mixture.json: gmm draws colors from the demo model's mixture; "
            f"run `{gmm.FIT.format(own)}` to fit one to other clips.",
            stacklevel=2,
        )
    return DEMO / "mixture.json"


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise ValueError(f"palette gmm:{text}; the seed is a whole number from 0 to 2^32 - 1.")
    return int(text)
