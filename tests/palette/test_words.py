"""Words to palettes without a network: the table, how phrases are read, the choice of five."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palette_vc_jax.palette import lexicon
from palette_vc_jax.palette.file import load_palette, save_palette
from palette_vc_jax.palette.proposals import ALIKE, Proposal, Tag, choose, to_lab
from palette_vc_jax.palette.spec import parse_spec
from palette_vc_jax.palette.words import from_words, proposer, remarks, split_words

TABLE = lexicon.load()
# phrase: hue in degrees of (a*, b*), from and to; lightness L*, from and to. None: nearly gray.
PHRASES = {
    "grass": ((105, 140), (40, 70)),
    "night sky": ((260, 310), (3, 25)),
    "brick": ((25, 55), (30, 55)),
    "skin": ((40, 75), (55, 85)),
    "dark skin": ((40, 75), (25, 60)),
    "snow": (None, (88, 100)),
    "a red tram": ((15, 45), (35, 60)),
    "wet asphalt": (None, (8, 30)),
    "asphalt": (None, (22, 45)),
    "autumn leaves": ((35, 75), (40, 70)),
    "old red brick walls": ((20, 55), (28, 52)),
    "the sea at night": ((220, 290), (3, 28)),
    "a blue wooden door": ((255, 300), (25, 55)),
    "golden fields": ((65, 95), (50, 80)),
    "desert": ((60, 90), (55, 80)),
    "a clear sky": ((235, 280), (55, 85)),
    "ripe strawberries": ((10, 40), (30, 55)),
    "lemons": ((85, 105), (70, 95)),
    "chocolate": ((30, 70), (10, 35)),
    "a yellow taxi in the rain": ((80, 105), (60, 90)),
    "the white cat": (None, (72, 100)),
    "black cars": (None, (3, 25)),
    "rusty iron": ((35, 70), (28, 55)),
    "snow-covered mountains": (None, (65, 95)),
    "faded jeans": ((255, 300), (30, 60)),
    "fire": ((40, 75), (45, 75)),
    "pine forest": ((105, 160), (15, 45)),
    "pale pink roses": ((340, 40), (75, 97)),
    "copper roofs": ((40, 75), (40, 65)),
    "a farmer's wheat": ((70, 95), (60, 85)),
    "a stone bridge": (None, (45, 75)),
    "purple grapes": ((300, 345), (18, 45)),
    "lush green meadows": ((110, 150), (40, 65)),
}  # fmt: skip


def _leading(phrase):
    found = lexicon.propose(TABLE, [Tag(phrase)]).colors
    best = max(found, key=lambda proposal: proposal.weight)
    lightness, a, b = to_lab(np.array([best.color]))[0]
    return lightness, np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrases_have_their_usual_colors(phrase):
    """If this fails, a word gives a color that nobody would expect of it."""
    hues, (darkest, lightest) = PHRASES[phrase]
    lightness, chroma, hue = _leading(phrase)
    assert darkest <= lightness <= lightest
    if hues is None:
        assert chroma <= 12
    else:
        assert chroma >= 10 and (hue - hues[0]) % 360 <= (hues[1] - hues[0]) % 360
    palette = from_words(phrase, proposer())
    best = max(lexicon.propose(TABLE, [Tag(phrase)]).colors, key=lambda p: p.weight)
    gaps = np.linalg.norm(to_lab(palette.colors) - to_lab(np.array([best.color])), axis=-1)
    assert gaps.min() < 2.0  # it is in the palette


def test_names_of_colors_win():
    """If this fails, 'a red tram' takes the tram's usual color."""
    hues = {c: _leading(f"a {c} tram")[2] for c in ("red", "green", "blue", "yellow")}
    assert hues == pytest.approx({"red": 31, "green": 142, "blue": 278, "yellow": 95}, abs=12)
    assert 300 < _leading("a fuchsia tram")[2] < 345  # a color that only CSS names


@pytest.mark.parametrize(
    "one, other",
    [
        ("tomato", "tomatoes"), ("leaf", "leaves"), ("cherry", "cherries"), ("glass", "glasses"),
        ("boat", "a small sailboat"), ("sheep", "SHEEP!"), ("farmer", "farmer's"),
        ("wall", "the long high wall"),
    ],
)  # fmt: skip
def test_forms_of_a_word_are_one_word(one, other):
    """If this fails, plurals, heads of compounds or filling words hide what is known."""
    assert _leading(one) == pytest.approx(_leading(other))
    assert lexicon.look_up(TABLE, other)[1] == []


def test_modifiers_shift():
    """If this fails, wet is not darker, pale not duller, night not dark and blue."""
    plain = _leading("street")
    assert _leading("wet street")[0] < plain[0] < _leading("pale street")[0]
    assert _leading("vivid grass")[1] > _leading("grass")[1] > _leading("faded grass")[1]
    for phrase in ("street at night", "night street", "a street in the dark"):
        assert _leading(phrase)[0] < plain[0] - 12, phrase


def test_unknown_words_are_told(tmp_path):
    """If this fails, a word without effect causes no warning."""
    palette = from_words("a frumious bandersnatch on grass, slithy toves", proposer())
    assert palette.details["unknown"] == ["frumious", "bandersnatch", "slithy", "toves"]
    assert "bandersnatch" in remarks(palette)[1]
    assert from_words("snow, very bright", proposer()).details["unknown"] == ["very bright"]
    with pytest.raises(ValueError, match="none is in the table") as error:
        from_words("slithy toves", proposer())
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="none is in the table"):
        from_words("very dark", proposer())


def test_a_palette_from_words_is_kept_and_read_again(tmp_path):
    """If this fails, one cannot see where colors came from, or edit them and go on."""
    palette = from_words("autumn, a red tram", proposer())
    save_palette(palette, tmp_path / "p.json")
    loaded = load_palette(tmp_path / "p.json")
    assert loaded.hex() == palette.hex()
    assert [tag["tag"] for tag in loaded.details["tags"]] == ["autumn", "a red tram"]
    assert loaded.details["proposer"] == "table" and loaded.details["date"]
    assert loaded.details["made_from"] == "words:autumn, a red tram"
    save_palette(loaded, tmp_path / "again.json")
    assert load_palette(tmp_path / "again.json").details == loaded.details


def test_users_extend_the_table(tmp_path):
    """If this fails, a file of own words is not merged over the table, or its faults are hidden."""
    own = tmp_path / "own.tsv"
    own.write_text("# mine\nbandersnatch|jabberwock\tthing\t#00ff80 teal\ngrass\tthing\t#ff0000\n")
    assert from_words("bandersnatches", proposer(extension=own)).details["unknown"] == []
    reds = from_words("grass", proposer(extension=own)).colors
    assert (reds[:, 0] > reds[:, 1]).all()
    for line, word in [
        ("grass\tthing\t#12", "#12"), ("grass", "by tabs"), ("x\tsmell\tred", "by tabs"),
        ("wet\tmodifier\tdarker", "darker"), ("a b c d\tthing\tred", "1 to 3"),
        ("x\tthing\tred\nX\tthing\tblue", "line 2"), ("x\tthing\t", "not a color"),
    ]:  # fmt: skip
        own.write_text(line + "\n")
        with pytest.raises(ValueError, match=word) as error:
            lexicon.load(own)
        assert "own.tsv, line" in str(error.value)
    with pytest.raises(ValueError, match=r"none\.tsv"):
        lexicon.load(tmp_path / "none.tsv")


def test_the_table_is_large_and_tagging_words_have_colors():
    """If this fails, the table has lost entries, or a tag could be named that has no color."""
    words = lexicon.vocabulary(TABLE)
    assert len(words) > 350 and len(set(words)) == len(words)
    for word in words:
        assert lexicon.look_up(TABLE, word)[1] == [] and lexicon.look_up(TABLE, word)[0]


@pytest.mark.parametrize(
    "text", ["", " , ;", ",".join(map(str, range(21))), "x" * 101, "a\x1b[2Jb"]
)
def test_words_without_bounds_are_refused(text):
    """If this fails, a slip of the shell becomes a question of a thousand words."""
    with pytest.raises(ValueError):
        split_words(text)


def test_the_spec_takes_words(tmp_path):
    """If this fails, `--palette words:...` is not what the help says."""
    parsed = parse_spec("words:grass, snow", tmp_path / "no.json")
    assert parsed.hex() == from_words("grass, snow", proposer()).hex()
    with pytest.raises(ValueError, match="give words"):
        parse_spec("words", tmp_path / "no.json")
    shown = lambda: ([Tag("snow", 0.9), Tag("pine", 0.1)], "a tagger")  # noqa: E731
    palette = from_words("", proposer(), shown)
    assert palette.details["tagger"] == "a tagger" and palette.source == "words:snow, pine"


COLORS = st.tuples(*[st.floats(0, 1)] * 3)
PROPOSALS = st.lists(
    st.builds(Proposal, st.sampled_from("abc"), COLORS, st.floats(0.01, 1)), min_size=1, max_size=40
)


@given(PROPOSALS, st.integers(0, 9), st.sampled_from([0.0, 0.7]))
def test_five_that_differ(proposals, seed, temperature):
    """If this fails, a palette holds one color twice, or is not the same when made again."""
    colors = choose(proposals, seed, temperature)
    np.testing.assert_array_equal(colors, choose(proposals, seed, temperature))
    assert colors.shape == (5, 3) and (colors >= 0).all() and (colors <= 1).all()
    gaps = np.linalg.norm(to_lab(colors)[:, None] - to_lab(colors)[None], axis=-1)
    assert (gaps + 100 * np.eye(5)).min() > ALIKE - 5  # shades are clipped to the gamut


def test_every_tag_is_heard():
    """If this fails, the colors of one thing crowd out the others."""
    for words in ("autumn, a red tram, wet asphalt", "sea, sand, a red umbrella, palms, snow"):
        tags = split_words(words)
        found = lexicon.propose(TABLE, tags).colors
        lab = to_lab(choose(found))
        for tag in tags:
            own = to_lab(np.array([p.color for p in found if p.tag == tag.text]))
            assert np.linalg.norm(lab[:, None] - own[None], axis=-1).min() < 2.0, tag.text
    seeds = {tuple(choose(found, seed, 0.7).reshape(-1)) for seed in range(8)}
    assert len(seeds) > 4
