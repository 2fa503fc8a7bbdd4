"""Propose colors from a table of everyday things and their usual colors.

`lexicon.tsv` holds the table and describes its format. A phrase is divided into groups of words at
prepositions. In each group, the last thing is the head ('an old brick wall': wall); materials
before it take precedence over it, color names take precedence over both, and modifiers shift the
result.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from palette_vc_jax.files import check_regular, read_text
from palette_vc_jax.palette.proposals import Proposal, Proposals, Tag, to_lab, to_srgb
from palette_vc_jax.palette.text import HEX, parse_colors

BUILT_IN = Path(__file__).with_name("lexicon.tsv")
COLORED = ("color", "material", "thing", "place", "time", "mood")
VISIBLE = ("material", "thing", "place", "time")  # kinds that an image can show
RANKS = (1.0, 0.7, 0.5, 0.4, 0.3)  # weights of an entry's first color, second color, ...
MINOR = 0.35  # weight of a group's other words, relative to its most important word
COLOR_SHARE = 0.75  # share of the named color in lightness and chroma; the rest is the thing's
MAX_WORDS = 3  # maximum words of an entry's name
SINGULARS = {
    "leaves": "leaf", "loaves": "loaf", "wolves": "wolf", "calves": "calf", "knives": "knife",
    "shelves": "shelf", "geese": "goose", "feet": "foot", "teeth": "tooth", "mice": "mouse",
    "men": "man", "women": "woman", "children": "child", "policemen": "policeman", "oxen": "ox",
    "algae": "alga", "cacti": "cactus", "woods": "woods",
}  # fmt: skip
SHIFT = re.compile(r"(?:L(?P<l>[+-]\d+) ?)?(?:C(?P<c>\d+(?:\.\d+)?) ?)?(?:a(?P<a>[+-]\d+) ?)?"
                   r"(?:b(?P<b>[+-]\d+))?")  # fmt: skip


class Shift(NamedTuple):
    """The change that a modifier makes to colors in CIE L*a*b*."""

    lightness: float = 0.0
    chroma: float = 1.0
    a: float = 0.0
    b: float = 0.0

    def __call__(self, lab: np.ndarray) -> np.ndarray:
        """Return shifted colors `[n, 3]`."""
        factor = np.array([1.0, self.chroma, self.chroma])
        return lab * factor + np.array([self.lightness, self.a, self.b])


@dataclass(frozen=True, eq=False)
class Word:
    """An entry of the table, for one to three words."""

    name: str
    kind: str = "ignored"
    # Colors [n, 3], the most usual first; none for a modifier.
    lab: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    shift: Shift | None = None


Lexicon = Mapping[tuple[str, ...], Word]  # normalized words -> entry


def load(extension: str | Path | None = None) -> Lexicon:
    """Read the built-in table, and replace or add the entries of a file in the same format.

    Raises:
        ValueError: if a line is not valid; the message names the file and the line.
    """
    table = _read(BUILT_IN)
    return table | _read(Path(extension)) if extension else table


def vocabulary(lexicon: Lexicon) -> list[str]:
    """Return the first names of the things, materials, places and times of a table, in order."""
    names = (word.name for word in lexicon.values() if word.kind in VISIBLE)
    return list(dict.fromkeys(names))


def propose(lexicon: Lexicon, tags: Sequence[Tag]) -> Proposals:
    """Look up the usual colors of tags.

    Raises:
        ValueError: if none of the words is in the table.
    """
    found, unknown = [], []
    for tag in tags:
        colors, missing = look_up(lexicon, tag.text)
        unknown += missing if colors or missing else [tag.text]
        rgb = to_srgb(np.array([lab for lab, _ in colors]).reshape(-1, 3))
        found += [
            Proposal(tag.text, (red, green, blue), tag.weight * weight)
            for (red, green, blue), (_, weight) in zip(rgb.tolist(), colors, strict=True)
        ]
    unknown = list(dict.fromkeys(unknown))
    if not found:
        raise ValueError(
            f"of the words {', '.join(tag.text for tag in tags)!r}, none is in the table of usual "
            "colors; name colors or common things, add entries with --lexicon, or use a language "
            "model with --words_model."
        )
    return Proposals(tuple(found), {"proposer": "table"}, tuple(unknown))


def look_up(lexicon: Lexicon, phrase: str) -> tuple[list[tuple[np.ndarray, float]], list[str]]:
    """Return a phrase's colors in CIE L*a*b* with weights, highest first, and unknown words."""
    code = phrase.strip().lower()
    if HEX.fullmatch(code):
        return [(to_lab(parse_colors(code).colors[:1])[0], 1.0)], []
    words, unknown = _words(lexicon, phrase)
    groups: list[list[Word]] = [[]]
    for word in words:
        if word.kind == "break":
            groups.append([])
        elif word.kind != "ignored":
            groups[-1].append(word)
    # A time such as night applies to the whole phrase, as does a group of modifiers alone.
    has_things = any(word.kind in COLORED and not word.shift for word in words)
    scene, colors = [], []
    for group in groups:
        scene += [word.shift for word in group if len(word.lab) and word.shift]
        if not any(len(word.lab) for word in group):
            scene += [word.shift for word in group if word.shift]
    for group in groups:
        for lab, weight, lights in _group_colors(group):
            if has_things and not lights:
                for shift in scene:
                    lab = shift(lab[None])[0]
            colors.append((np.clip(lab, (4, -90, -90), (97, 90, 90)), weight))
    return sorted(colors, key=lambda pair: -pair[1]), unknown


def _group_colors(group: Sequence[Word]) -> Iterator[tuple[np.ndarray, float, bool]]:
    """Yield the colors of a group, their weights, and whether they are those of a light."""
    shifts = [word.shift for word in group if word.shift and not len(word.lab)]
    names = [word for word in group if word.kind == "color"]
    lights = [word for word in group if len(word.lab) and word.shift]
    moods = [word for word in group if word.kind in ("time", "mood") and word not in lights]
    things = [word for word in group if word.kind in ("material", "thing", "place")]
    materials = [] if names else [word for word in things if word.kind == "material"]
    # The head comes first, unless a material takes precedence.
    things = materials + [word for word in reversed(things) if word not in materials]
    for name in names:
        lab = name.lab[0]
        if things:
            lab = _tint(lab, things[0].lab[0])
        yield _shifted(lab, shifts), 1.0, False
        yield _shifted(lab - (16.0, 0.0, 0.0), shifts), 0.4, False
    ordered = moods + ([] if names else things)
    for index, word in enumerate(ordered):
        scale = 1.0 if index == 0 and not names else MINOR
        for lab, rank in zip(word.lab, RANKS, strict=False):
            yield _shifted(lab, shifts), scale * rank, False
    for word in lights:
        for lab, rank in zip(word.lab, RANKS, strict=False):
            yield lab, (1.0 if len(group) == 1 else MINOR) * rank, True


def _tint(color: np.ndarray, thing: np.ndarray) -> np.ndarray:
    """Return the hue of `color` with a mean of both lightnesses and chromas."""
    chroma, own = np.hypot(*color[1:]), np.hypot(*thing[1:])
    lightness = COLOR_SHARE * color[0] + (1.0 - COLOR_SHARE) * thing[0]
    wanted = chroma if chroma < 10.0 else COLOR_SHARE * chroma + (1.0 - COLOR_SHARE) * own
    return np.array([lightness, *(color[1:] * wanted / max(chroma, 1e-6))])


def _shifted(lab: np.ndarray, shifts: Sequence[Shift]) -> np.ndarray:
    for shift in shifts:
        lab = shift(lab[None])[0]
    return lab


def _words(lexicon: Lexicon, phrase: str) -> tuple[list[Word], list[str]]:
    """Return the entries of a phrase, the longest names first, and the words not found."""
    tokens, found, unknown, at = _tokens(phrase), [], [], 0
    keys = [singular(token) for token in tokens]
    while at < len(keys):
        sizes = range(min(MAX_WORDS, len(keys) - at), 0, -1)
        size = next((n for n in sizes if tuple(keys[at : at + n]) in lexicon), 0)
        if size:
            found.append(lexicon[tuple(keys[at : at + size])])
        elif compound := _compound(lexicon, keys[at]):
            found.append(compound)
        elif not keys[at].isdigit():
            unknown.append(tokens[at])
        at += max(size, 1)
    return found, unknown


def _compound(lexicon: Lexicon, key: str) -> Word | None:
    """Return a compound word by its last part ('sailboat' by 'boat'), or as a CSS color."""
    for cut in range(3, len(key) - 3):
        word = lexicon.get((key[cut:],))
        if word and word.kind in ("material", "thing", "place"):
            return word
    try:
        return Word(key, "color", to_lab(parse_colors(key).colors[:1]))
    except ValueError:
        return None


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"['\u2019]s?\b", "", text.casefold()))


def singular(word: str) -> str:
    """Return the singular of a word, the form of the table's keys."""
    if word in SINGULARS:
        return SINGULARS[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _read(path: Path) -> dict[tuple[str, ...], Word]:
    check_regular(path)
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a table.") from None
    except ValueError:
        raise ValueError(f"{path}: not a table of words; save it as UTF-8 text.") from None
    table: dict[tuple[str, ...], Word] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            _add(table, line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return table


def _add(table: dict[tuple[str, ...], Word], line: str) -> None:
    columns = line.rstrip().split("\t")
    names, kind, value = (columns + ["", ""])[:3]
    if len(columns) > 3 or kind not in (*COLORED, "modifier", "break", "ignored"):
        raise ValueError(f"{line[:60]!r} is not 'names, kind, colors' separated by tabs.")
    lab, shift = np.empty((0, 3)), None
    if kind in COLORED:
        lab = to_lab(np.concatenate([parse_colors(c).colors[:1] for c in value.split() or [""]]))
    elif kind == "modifier":
        match = SHIFT.fullmatch(value)
        if not match or not value:
            raise ValueError(f"{value[:40]!r} is not a shift such as 'L-12 C0.9 a+2 b-4'.")
        given = [match[key] or default for key, default in zip("lcab", "0100", strict=True)]
        shift = Shift(*map(float, given))
    first = names.split("|")[0].strip()
    for name in names.split("|"):
        key = tuple(singular(token) for token in _tokens(name))
        if not 1 <= len(key) <= MAX_WORDS:
            raise ValueError(f"{name[:40]!r}: give a name of 1 to {MAX_WORDS} words.")
        before = table.get(key)
        if before is None:
            table[key] = Word(first, kind, lab, shift)
        elif before.kind in ("time", "thing") and kind == "modifier" and before.shift is None:
            table[key] = Word(before.name, before.kind, before.lab, shift)  # a light has both
        else:
            raise ValueError(f"{name!r} occurs twice.")
