"""Palettes of other programs, as files and as text."""

import json

import numpy as np
import pytest

from palette_vc_jax.commands import palette as script
from palette_vc_jax.palette.spec import named_file, parse_spec
from palette_vc_jax.palette.swatches import read_colors, take_five
from tests.commands import command
from tests.palette import swatch_files

COLORS = [(39, 50, 63), (122, 92, 72), (176, 137, 104), (221, 184, 146), (237, 224, 212)]
HEX = ["#27323f", "#7a5c48", "#b08968", "#ddb892", "#ede0d4"]
LINK = "-".join(code[1:] for code in HEX)
RGB = [(0, (257 * r, 257 * g, 257 * b, 0)) for r, g, b in COLORS]
FILES = {
    "x.ase": swatch_files.ase(COLORS),
    "x.aco": swatch_files.aco(RGB),
    "named.ACO": swatch_files.aco(RGB, names=True),
    "both.aco": swatch_files.aco(RGB) + swatch_files.aco(RGB, names=True),
    "x.gpl": swatch_files.gpl(COLORS),
    "x.hex": swatch_files.hexes(COLORS),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs(tmp_path, name):
    """If this fails, a palette that was made elsewhere has other colors here, or none."""
    (tmp_path / name).write_bytes(FILES[name])
    palette = parse_spec(f"file:{tmp_path / name}")
    assert palette.hex() == HEX and palette.source == f"file:{name}"


@pytest.mark.parametrize(
    ("data", "name", "wanted"),
    [
        (swatch_files.ase([0], b"CMYK", [[0, 1, 1, 0]]), "x.ase", (255, 0, 0)),
        (swatch_files.ase([0], b"LAB ", [[0.53241, 80.092, 67.203]]), "x.ase", (255, 0, 0)),
        (swatch_files.ase([0], b"Gray", [[0.4]]), "x.ase", (102, 102, 102)),
        (swatch_files.aco([(1, (21845, 65535, 65535, 0))]), "x.aco", (0, 255, 0)),
        (swatch_files.aco([(2, (65535, 0, 0, 65535))]), "x.aco", (255, 0, 0)),
        (swatch_files.aco([(7, (5324, 8009, 6720, 0))]), "x.aco", (255, 0, 0)),
        (swatch_files.aco([(7, (3230, 7919, -10786, 0))]), "x.aco", (0, 0, 255)),
        (swatch_files.aco([(8, (4000, 0, 0, 0))]), "x.aco", (102, 102, 102)),
        (swatch_files.aco([(9, (0, 10000, 10000, 0))]), "x.aco", (255, 0, 0)),
    ],
)
def test_color_models(tmp_path, data, name, wanted):
    """If this fails, swatches in print or Lab colors are read as other colors."""
    (tmp_path / name).write_bytes(data)
    np.testing.assert_allclose(255 * read_colors(tmp_path / name), [wanted], atol=1)


@pytest.mark.parametrize(
    "spec",
    [
        LINK,
        LINK.upper(),
        LINK.replace("-", ","),
        LINK.replace("-", ", "),
        f"https://coolors.co/{LINK}",
        f"https://coolors.co/palette/{LINK}",
        f"coolors.co/{LINK}/",
        f'"https://www.coolors.co/{LINK}?ref=x"',
        f"'{','.join(HEX)}'",
    ],
)
def test_links_and_bare_text(spec):
    """If this fails, colors that were copied from a browser are refused."""
    assert parse_spec(spec).hex() == HEX


def test_five_of_more_colors(tmp_path):
    """If this fails, five similar colors are taken of a large palette, or the first is left out."""
    colors = [COLORS[0], *((200, 30 + index, 30) for index in range(20)), *COLORS[1:], (0, 90, 250)]
    path = tmp_path / "x.gpl"
    path.write_bytes(swatch_files.gpl(colors + colors[:3]))
    with pytest.warns(UserWarning, match="26 colors"):
        palette = parse_spec(f"file:{path}")
    assert palette.details == {"colors_given": 26}
    assert {"#27323f", "#005afa"} < set(palette.hex())
    assert sum(code.startswith("#c8") for code in palette.hex()) == 1
    with pytest.warns(UserWarning, match="six|6 colors"):
        assert len(set(parse_spec(f"{LINK}-000000").hex())) == 5
    five = take_five(np.random.default_rng(0).random((300, 3)))
    assert np.linalg.norm(five[:, None] - five + np.eye(5)[..., None], axis=-1).min() > 0.3


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.ase", b"ASEF\0\1\0\0\xff\xff\xff\xff"),
        ("x.ase", FILES["x.ase"][:-30]),
        ("x.ase", swatch_files.ase([0], b"RGB ", [[float("nan")] * 3])),
        ("x.ase", swatch_files.ase([0], b"LAB ", [[1e38] * 3])),
        ("x.ase", swatch_files.ase([0], b"HSV ", [[0] * 3])),
        ("x.aco", FILES["x.aco"][:-1]),
        ("x.aco", swatch_files.aco([(3, (0, 0, 0, 0))])),
        ("x.aco", b""),
        ("x.gpl", b"GIMP Palette\nName: x\n"),
        ("x.gpl", swatch_files.gpl([(0, 0, 300)]) + b"\n1 2"),
        ("x.hex", b"27323f\nteal\n"),
        ("x.hex", b"27323f " * 200_000),
        ("x.hex", b""),
    ],
)
def test_damaged_files_are_refused(tmp_path, capsys, name, data):
    """If this fails, a damaged palette ends in a traceback, or in colors that nobody chose."""
    (tmp_path / name).write_bytes(data)
    output = tmp_path / "p.json"
    code = command(script.main, f"file:{tmp_path / name}", "--output", output)
    if name == "x.gpl" and b"300" in data:  # GIMP clamps values too
        assert code == 0 and json.loads(output.read_text())["colors"][0] == "#0000ff"
        return
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and len(lines) == 1 and name in lines[0] and not output.exists()


@pytest.mark.parametrize("quotes", ['""', "''", "\u201c\u201d"])
def test_quotes_around_words(quotes):
    """If this fails, words have another palette under a shell that hands quotes on."""
    given: list[str] = []
    opening, closing = quotes
    for spec in (f"words:{opening}a red tram{closing}", f"{opening}words:a red tram{closing}"):
        parse_spec(spec, words=given.append)
    assert given == ["a red tram"] * 2
    assert str(named_file(f"{opening}file:a.gpl{closing}")) == "a.gpl"
