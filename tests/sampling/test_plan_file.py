"""Plans that people edit: written by one run, and followed by the next."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from palette_vc_jax.commands import plan, sample
from palette_vc_jax.sampling.plan_file import located, read_film_settings, read_plan
from tests import films, tiny
from tests.commands import command

RATE = Fraction(24)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return films.write_film(tmp_path_factory.mktemp("film") / "in.mkv", films.lumas(12))


def _write(path, shots, **head):
    path.write_text(json.dumps({"version": 1, "shots": shots} | head, indent=1))
    return path


@pytest.mark.parametrize("palette", ["tomato,teal,khaki", "none", "auto"])
def test_a_written_plan_colors_the_same_film(model, film, tmp_path, palette):
    """If this fails, a plan that was written and not edited changes the film."""
    (tmp_path / "cuts.csv").write_text("Scene Number,Start Frame\n1,1\n2,6\n")
    given = ["--input", film, "--checkpoint", model, "--palette", palette]
    if palette == "auto":
        given += ["--palette_scope", "shot"]
    cuts = ["--cuts", tmp_path / "cuts.csv"]
    path = tmp_path / "film.plan.json"
    if palette == "none":
        assert command(plan.main, *given, *cuts, "--output", path) == 0
    else:
        assert command(sample.main, *given, *cuts, "--write_plan", path) == 0
    first, second = json.loads(path.read_text())["shots"]
    assert (first["start"], first["end"], second["end"]) == (0, 5, 12)
    assert second["start_time"] == "0:00:00.208"
    assert (first["palette"] == second["palette"]) == (palette != "auto")
    command(sample.main, *given, "--plan", path, "--output", tmp_path / "plan.mkv")
    if palette == "auto":  # colors in a plan have 8 bits
        assert (tmp_path / "plan.mkv").exists()
    else:
        command(sample.main, *given, *cuts, "--output", tmp_path / "flags.mkv")
        assert (tmp_path / "plan.mkv").read_bytes() == (tmp_path / "flags.mkv").read_bytes()


def test_a_plan_is_not_written_over_another_file(model, film, tmp_path, capsys):
    """If this fails, an edited plan, or the film itself, is lost."""
    path = tmp_path / "film.plan.json"
    path.write_text("mine")
    for target, flags, word in ((path, [], "--overwrite"), (film, ["--overwrite"], "reads this")):
        before = target.read_bytes()
        given = [
            "--input",
            film,
            "--checkpoint",
            model,
            "--palette",
            "none",
            "--write_plan",
            target,
        ]
        assert command(sample.main, *given, *flags) == 2
        assert word in capsys.readouterr().err and target.read_bytes() == before


def test_a_shot_is_read_with_all_its_values(tmp_path):
    """If this fails, an edit of a plan has no effect."""
    shots = [
        {"start": 0, "end": 5, "palette": ["#ff0000", "navy"], "merge_with_next": True},
        {"start": 5, "end": "0:00.5", "regions": [{"mask": "0,0,8,8@6", "palette": "teal"}]},
        {"start": 12, "end": 20, "keep_gray": True, "seed": 4, "reference": "none"},
        {"start": 20, "end": 24, "palette": None, "strength": 1.5, "keyframes": ["21=a.png"]},
    ]
    first, gray, last = read_plan(_write(tmp_path / "p.json", shots), RATE)
    assert (first.start, first.end, first.palette) == (0, 12, "#ff0000,navy")
    assert first.regions == (("0,0,8,8@6", "teal"),) and first.seed is None
    assert (gray.strength, gray.seed, gray.reference, gray.palette) == (0.0, 4, "none", None)
    assert (last.palette, last.strength, last.keyframes) == ("none", 1.5, ("21=a.png",))


@pytest.mark.parametrize(
    ("shot", "word"),
    [
        ({"start": 6, "end": 9}, "must begin at frame 5"),
        ({"start": 5, "end": 5}, "must begin at frame 5"),
        ({"start": 5}, "end is missing"),
        ({"start": 5, "end": 9, "pallete": []}, "'pallete' is not known"),
        ({"start": 5, "end": 9, "seed": -1}, "seed -1"),
        ({"start": 5, "end": 9, "seed": True}, "seed is True"),
        ({"start": 5, "end": 9, "strength": 3}, "strength 3.0"),
        ({"start": 5, "end": 9, "strength": float("nan")}, "strength nan"),
        ({"start": 5, "end": 9, "strength": 10**400}, "too large"),
        ({"start": 5, "end": 9, "palette": [1]}, "palette holds 1"),
        ({"start": 5, "end": 9, "regions": [{"mask": "x"}]}, "region"),
        ({"start": 5, "end": "soon"}, "position 'soon'"),
        ({"start": 5, "end": 9, "merge_with_next": True}, "no shot follows"),
        ("shot", "give an object"),
    ],
)
def test_an_error_names_the_shot_and_the_line(tmp_path, shot, word):
    """If this fails, a restorer searches a plan of 800 shots for a wrong letter."""
    path = _write(tmp_path / "p.json", [{"start": 0, "end": 5}, shot])
    place = r"p\.json: shot 2" + ("" if isinstance(shot, str) else r" \(line 8\)")
    with pytest.raises(ValueError, match=place) as error:
        read_plan(path, RATE)
    assert word in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1, "shots": []}', '{"shots": [{}]}',
                                  '{"version": 2, "shots": [{"start": 0, "end": 5}]}',
                                  '{"version": 1, "neutral": 0, "shots": [{"start": 0, "end": 5}]}',
                                  "[" * 100_000])  # fmt: skip
def test_a_file_that_is_no_plan_is_one_line(tmp_path, text):
    """If this fails, another file given as a plan is a traceback."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=r"p\.json: "):
        read_plan(tmp_path / "p.json", RATE)


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        ({"end": 11}, "ends at frame 11, and the film has 12"),
        ({"palette": "no color"}, "shot 1 (line 4): "),
        ({"reference": "image:none.png"}, "shot 1 (line 4): none.png"),
        ({"keyframes": ["20=none.png"]}, "shot 1 (line 4): none.png"),
        ({"regions": [{"mask": "900,0,8,8@6", "palette": "teal"}]}, "shot 1 (line 4): region"),
    ],
)
def test_what_a_plan_names_is_checked_before_coloring(model, film, tmp_path, capsys, edit, word):
    """If this fails, a wrong name in a plan stops a night's run in its middle."""
    path = _write(tmp_path / "p.json", [{"start": 0, "end": 12} | edit])
    given = ["--input", film, "--checkpoint", model, "--palette", "teal", "--plan", path]
    assert command(sample.main, *given, "--output", tmp_path / "out.mkv") == 2
    said = capsys.readouterr().err
    assert word in said and len(said.splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("value", ["0.1", True, None])
def test_settings_of_the_film_are_numbers(tmp_path, value):
    """If this fails, a setting in a plan is dropped, or a wrong one is a traceback."""
    shots = [{"start": 0, "end": 12}]
    path = _write(tmp_path / "p.json", shots, neutral_dark=0.2, neutral_bright=1)
    assert read_film_settings(path) == {"neutral_dark": 0.2, "neutral_bright": 1}
    assert len(read_plan(path, RATE)) == 1
    with pytest.raises(ValueError, match="neutral_dark is"):
        read_film_settings(_write(path, shots, neutral_dark=value))


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        ({"regions": [{"mask": "0,0,8,8", "palette": "teal"}]}, "0,0,8,8: belongs to frame 0"),
        ({"keyframes": ["4=key.png"]}, "key.png: belongs to frame 4"),
    ],
)
def test_a_region_or_keyframe_of_another_shot_is_refused(model, film, tmp_path, capsys, edit, word):
    """If this fails, what a shot of a plan names changes the colors of another shot."""
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "key.png")
    shots = [{"start": 0, "end": 5}, {"start": 5, "end": 12} | edit]
    path = _write(tmp_path / "p.json", shots)
    given = ["--input", film, "--checkpoint", model, "--palette", "teal", "--plan", path]
    assert command(sample.main, *given, "--output", tmp_path / "out.mkv") == 2
    said = capsys.readouterr().err
    assert word in said and "shot 2" in said and "@5 to @11" in said


def test_a_byte_order_mark_is_not_part_of_a_plan(tmp_path):
    """If this fails, a plan that a Windows editor saved is refused."""
    path = _write(tmp_path / "p.json", [{"start": 0, "end": 5}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_plan(path, RATE)) == 1


def test_files_beside_a_plan_are_found(model, film, tmp_path):
    """If this fails, a plan and its masks cannot be moved together, or flags do not override it."""
    (tmp_path / "masks").mkdir()
    Image.new("L", (64, 48), 255).save(tmp_path / "masks" / "m.png")
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "key.png")
    regions = [{"mask": "masks/m.png@2", "palette": "tomato"}]
    shot = {"start": 0, "end": 12, "regions": regions, "keyframes": ["3=key.png"]}
    path = _write(tmp_path / "p.json", [shot], neutral_dark=0.2, neutral_bright=0.8)
    given = ["--input", film, "--checkpoint", model, "--plan", path, "--neutral_bright", "1"]
    assert command(sample.main, *given, "--output", tmp_path / "out.mkv") == 0
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert record["regions"][0]["mask"] == "masks/m.png@2"
    assert record["settings"]["neutral_dark"] == 0.2
    assert record["settings"]["neutral_bright"] == 1.0


def test_palettes_and_references_beside_a_plan_are_found(
    model, film, tmp_path, monkeypatch, capsys
):
    """If this fails, a plan is moved with its palettes, and another palette or none is found."""
    place, other = tmp_path / "plans", tmp_path / "other"
    for folder, color in ((place, "#008080"), (other, "#ff0000")):
        folder.mkdir()
        (folder / "p.palette.json").write_text(json.dumps({"colors": [color]}))
        Image.new("RGB", (64, 48), color).save(folder / "r.png")
    (other / "here.json").write_text('{"colors": ["#00ff00"]}')
    Image.new("L", (64, 48), 255).save(place / "m.png")
    shots = [
        {"start": 0, "end": 5, "palette": "file:p.palette.json", "reference": "image:r.png"},
        {"start": 5, "end": 9, "palette": "'image:r.png'",
         "regions": [{"mask": "m.png@5", "palette": "file:p.palette.json"}]},
        {"start": 9, "end": 12, "palette": "file:here.json"},
    ]  # fmt: skip
    path = _write(place / "plan.json", shots)
    monkeypatch.chdir(other)
    given = ["--input", film, "--checkpoint", model, "--plan", path, "--reference", "none"]
    assert command(sample.main, *given, "--output", tmp_path / "out.mkv") == 0
    record = json.loads((tmp_path / "out.run.json").read_text())
    found = [shot["palette"][0] for shot in record["shot_settings"]]
    assert found == ["#008080", "#008080", "#00ff00"]
    assert record["regions"][0]["palette"][0] == "#008080"
    assert record["shot_settings"][0]["reference"] == f"image:{place / 'r.png'}"
    assert command(sample.main, *given, "--output", place / "p.mkv", "--overwrite") == 2
    assert "p.palette.json: the run reads this file" in capsys.readouterr().err


def test_a_written_plan_names_the_reference_that_was_given(model, film, tmp_path, monkeypatch):
    """If this fails, a plan in another folder names an image of that folder, or none."""
    place, other = tmp_path / "plans", tmp_path / "other"
    for folder, color in ((place, "#008080"), (other, "#ff0000")):
        folder.mkdir()
        Image.new("RGB", (64, 48), color).save(folder / "r.png")
    monkeypatch.chdir(other)
    path = place / "plan.json"
    for name in ("r.png", other / "r.png"):
        given = ["--input", film, "--checkpoint", model, "--reference", f"image:{name}"]
        out = ["--output", tmp_path / "out.mkv"]
        assert command(sample.main, *given, *out, "--write_plan", path) == 0
        monkeypatch.chdir(tmp_path)
        shot, *_ = located(read_plan(path, Fraction(24)), place)
        assert Path(shot.reference.removeprefix("image:")).samefile(other / "r.png")
        path.unlink()
        monkeypatch.chdir(other)


def test_a_written_plan_has_the_regions_and_keyframes(model, film, tmp_path, monkeypatch):
    """If this fails, a plan that was written and not edited loses what steers the film."""
    masks, place = tmp_path / "masks", tmp_path / "plans"
    for folder in (masks, place):
        folder.mkdir()
    for number in range(3):
        Image.new("L", (64, 48), 255 * (number % 2)).save(masks / f"{number}.png")
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "key.png")
    (tmp_path / "cuts.csv").write_text("Scene Number,Start Frame\n1,1\n2,6\n")
    monkeypatch.chdir(tmp_path)
    steering = ["--region", "0,0,20,20=tomato", "--region", "masks@6=navy"]
    steering += ["--region", "masks/1.png@0:00.1=gold", "--keyframe", "7=key.png"]
    given = ["--input", film, "--checkpoint", model]
    flags = [*given, "--palette", "khaki", "--cuts", "cuts.csv", *steering, "--neutral_dark", "0"]
    assert command(sample.main, *flags, "--write_plan", "plans/a.json") == 0
    first, second = json.loads((place / "a.json").read_text())["shots"]
    assert [one["mask"] for one in first["regions"]] == ["0,0,20,20", "../masks/1.png@2"]
    assert [one["mask"] for one in second["regions"]] == ["../masks@6"]
    assert second["keyframes"] == ["7=../key.png"] and "keyframes" not in first
    copied = [*given, "--plan", "plans/a.json", "--write_plan", "b.json"]
    assert command(sample.main, *copied) == 0
    assert command(sample.main, *flags, "--output", "flags.mkv") == 0
    for name in ("plans/a.json", "b.json"):
        out = Path(name).with_suffix(".mkv")
        assert command(sample.main, *given, "--plan", name, "--output", out) == 0
        assert out.read_bytes() == Path("flags.mkv").read_bytes()


def test_what_words_mean_is_said_once(model, film, tmp_path, capsys):
    """If this fails, a film of 800 shots prints the same line 800 times."""
    (tmp_path / "cuts.csv").write_text("Scene Number,Start Frame\n1,1\n2,6\n3,9\n")
    given = ["--input", film, "--checkpoint", model, "--cuts", tmp_path / "cuts.csv"]
    given += ["--palette", "words:grass, qwzx", "--write_plan", tmp_path / "plan.json"]
    assert command(sample.main, *given) == 0
    assert capsys.readouterr().err.count("words without a known color: qwzx") == 1
