"""Palettes from every source: the same colors, in the same order, as one vector."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from palette_vc_jax.palette import gmm
from palette_vc_jax.palette.file import load_palette, save_palette, save_swatch
from palette_vc_jax.palette.image import from_image
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.spec import parse_spec
from palette_vc_jax.palette.text import parse_colors
from palette_vc_jax.pixels import luma

CODES = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=5)


@given(CODES, st.randoms())
def test_the_order_of_colors_does_not_matter(codes, random):
    """If this fails, one set of colors is several vectors, and the network knows only one."""
    shuffled = list(codes)
    random.shuffle(shuffled)
    one, other = (Palette.of(np.array(c) / 255.0, "") for c in (codes, shuffled))
    np.testing.assert_array_equal(one.vector(), other.vector())
    assert (np.diff(luma(one.colors)) >= -1e-6).all()
    assert {tuple(c) for c in np.rint(one.colors * 255).astype(int)} == set(codes)


def test_the_vector_is_five_colors_from_minus_one_to_one():
    """If this fails, the network reads another scale than it was trained on."""
    palette = parse_colors("black,white,red,lime,blue")
    assert palette.vector().dtype == np.float32
    expected = [-1, -1, -1, -1, -1, 1, 1, -1, -1, -1, 1, -1, 1, 1, 1]
    np.testing.assert_array_equal(palette.vector(), expected)


def test_fewer_colors_are_repeated_as_stated():
    """If this fails, two colors do not become dark, dark, dark, light, light."""
    assert parse_colors("white,black").hex() == ["#000000"] * 3 + ["#ffffff"] * 2


@pytest.mark.parametrize("text", ["#12", "#12345g", "tomatoo", "", "red,,blue", "rgb(1,2,3)"])
def test_what_is_no_color_is_refused(text):
    """If this fails, a typing mistake becomes some other color."""
    with pytest.raises(ValueError, match="is not a color"):
        parse_colors(text)


def test_seven_colors_are_refused():
    """If this fails, given colors are dropped without a warning."""
    with pytest.raises(ValueError, match="7 colors"):
        parse_colors(",".join(["red"] * 7))


def test_names_and_short_forms():
    """If this fails, CSS names or #rgb mean other colors than in CSS."""
    assert parse_colors("RebeccaPurple").hex()[0] == "#663399"
    assert parse_colors("#f80").hex() == parse_colors("#ff8800").hex()


def test_an_image_gives_its_own_colors():
    """If this fails, K-means does not find five plain patches."""
    colors = ["#102030", "#804020", "#208040", "#d0a060", "#f0f0e0"]
    patches = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)], np.uint8) for c in colors]
    picture = np.concatenate([np.tile(patch, (20, 8, 1)) for patch in patches], axis=1)
    palette = from_image(picture, "image:patches.png")
    assert sorted(palette.hex()) == sorted(colors)
    plain = from_image(np.full((4, 4, 3), 128, np.uint8), "image:plain.png")
    assert set(plain.hex()) == {"#808080"}


def test_the_mixture_finds_the_colors_it_was_fitted_on(tmp_path):
    """If this fails, grays get into the mixture or the fit is lost on its way through the file."""
    rng = np.random.default_rng(0)
    gray = np.repeat(rng.integers(0, 256, (2000, 1)), 3, axis=1)
    red = rng.normal((200, 40, 40), 3.0, (1000, 3))
    blue = rng.normal((30, 60, 180), 3.0, (1000, 3))
    pixels = np.concatenate([gray, red, blue]).clip(0, 255).astype(np.uint8)
    mixture = gmm.fit(pixels, components=2, clips=1)
    assert mixture.fitted_on == {"clips": 1, "pixels": 2000}
    gmm.save(mixture, tmp_path / "mixture.json")
    loaded = gmm.load(tmp_path / "mixture.json")
    for seed in range(5):
        palette = gmm.sample(loaded, seed)
        np.testing.assert_array_equal(palette.vector(), gmm.sample(loaded, seed).vector())
        near = [np.abs(palette.colors * 255 - c).max(1) for c in ((200, 40, 40), (30, 60, 180))]
        assert (np.minimum(*near) < 20).all()
    assert gmm.sample(loaded, 0).hex() != gmm.sample(loaded, 1).hex()


@pytest.mark.parametrize(
    "text", ["", "{}", '{"weights": [1], "means": [[0, 0]], "covariances": [], "fitted_on": {}}']
)
def test_a_broken_mixture_is_refused(tmp_path, text):
    """If this fails, a damaged file gives a traceback or wrong colors."""
    (tmp_path / "mixture.json").write_text(text)
    with pytest.raises(ValueError, match=r"mixture\.json"):
        gmm.load(tmp_path / "mixture.json")


def test_a_palette_file_is_read_as_it_was_written(tmp_path):
    """If this fails, the palette kept beside a film does not give that film again."""
    palette = parse_colors("#102030,#804020,#208040")
    save_palette(palette, tmp_path / "palette.json")
    assert load_palette(tmp_path / "palette.json").hex() == palette.hex()
    save_swatch(palette, tmp_path / "palette.png")
    swatch = np.asarray(Image.open(tmp_path / "palette.png"))
    shown = swatch[swatch.shape[0] // 2, swatch.shape[1] // 10 :: swatch.shape[1] // 5]
    np.testing.assert_array_equal(shown, np.rint(palette.colors * 255))


@pytest.mark.parametrize(
    "values", ["nonsense", "[]", '{"colors": "red"}', '{"colors": [1]}', '{"colors": ["#12"]}']
)
def test_a_broken_palette_file_is_refused(tmp_path, values):
    """If this fails, a palette edited by hand gives a traceback."""
    path = tmp_path / "palette.json"
    path.write_text(values)
    with pytest.raises(ValueError, match=r"palette\.json"):
        load_palette(path)


def test_every_form_of_the_argument(tmp_path):
    """If this fails, a palette that the help names is refused."""
    mixture = gmm.Mixture(np.ones(1), np.full((1, 3), 0.5), 0.01 * np.eye(3)[None])
    path = tmp_path / "mixture.json"
    gmm.save(mixture, path)
    file = tmp_path / "my:palette.json"
    file.write_text(json.dumps({"colors": ["red"]}))

    def parse(spec):
        return parse_spec(spec, path, seed=7)

    assert parse("none") is None
    assert parse("gmm").hex() == parse("gmm:7").hex() != parse("gmm:8").hex()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    assert parse(f"image:{tmp_path / 'a.png'}").source == "image:a.png"
    assert parse(f"file:{file}").hex()[0] == "#ff0000"
    assert parse("red").hex()[0] == "#ff0000"
    for wrong in (
        "words",
        "words:xyzzy",
        "wards:autumn",
        "gmm:x",
        "gmm:-1",
        "",
        "image:",
        "file:nowhere.json",
    ):
        with pytest.raises(ValueError):
            parse(wrong)


@pytest.mark.parametrize("read", [load_palette, gmm.load])
@pytest.mark.parametrize(
    "text",
    [
        '{"colors": ["red"], "x": ' + "[" * 200 + "]" * 200 + "}",
        "[" * 5000,
        "[]",
        "null",
        "5",
        '{"colors": 5}',
        "\xff",
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, read, text):
    """If this fails, a file that is nested too deeply, or of another kind, is a traceback."""
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="p.json") as refused:
        read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": 1.0, "means": [], "covariances": []},
        {"weights": [float("nan")]},
        {"weights": [10**400]},
        {"weights": [0.0]},
        {"weights": [-1.0]},
        {"weights": [[1.0]]},
        {"means": [[0.5, 0.5, float("inf")]]},
        {"covariances": [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]]},
    ],
)
def test_a_mixture_that_cannot_be_drawn_from_is_refused(tmp_path, change):
    """If this fails, a damaged mixture is a traceback, or gives colors that are no numbers."""
    path = tmp_path / "m.json"
    gmm.save(gmm.Mixture(np.ones(1), np.full((1, 3), 0.5), 0.05 * np.eye(3)[None]), path)
    assert len(gmm.sample(gmm.load(path), 0).hex()) == 5
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="m.json") as refused:
        gmm.load(path)
    assert "\n" not in str(refused.value)
