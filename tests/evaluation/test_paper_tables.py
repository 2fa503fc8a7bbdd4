"""The paper's tables: which clips are colored, by what, and only once."""

import json

import numpy as np
import pytest

from palette_vc_jax.commands import evaluate
from palette_vc_jax.evaluation import paper
from palette_vc_jax.evaluation.films import davis_films
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.palette import gmm
from palette_vc_jax.sampling.plain import PLAIN
from tests import tiny
from tests.commands import command


def test_davis_lists_choose_clips(films, capsys):
    """If this fails, clips of training are measured with those of the test, or sizes are mixed."""
    root = films / "DAVIS"
    (root / "JPEGImages").mkdir(parents=True)
    (films / "truth").rename(root / "JPEGImages" / "480p")
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("b\n")
    assert davis_films(root, "val") == {"b": root / "JPEGImages" / "480p" / "b"}
    with pytest.raises(ValueError, match="test-dev.txt: not found"):
        davis_films(root, "test-dev")
    (lists / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="names no clip"):
        davis_films(root, "empty")
    (lists / "val.txt").write_text("b\nc\n")
    with pytest.raises(ValueError, match="names it"):
        davis_films(root, "val")
    assert list(davis_films(films / "mine", "val")) == ["a", "b"]


def test_the_papers_tables_have_its_rows_and_numbers():
    """If this fails, a published value stands next to another row's."""
    rows = {name: {"clip": {"colorfulness": float(i)}} for i, name in enumerate("ABD")}
    rows["TCVC"] = {"clip": {"colorfulness": 9.0}}
    results = Results(rows, {row: {} for row in rows})
    text = paper.tables(results, {"A": paper.NULL, "B": "mixture", "D": "first true frame"})
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "9.0000 / 21.77" in lines["TCVC"]
    assert "1.0000 / 22.64" in lines["ours (B)"]
    assert "0.0000 / 19.34" in lines[f"A: {paper.NULL}"]
    assert "2.0000 / 25.55" in lines["D: first true frame"]
    assert "C:" not in text


def test_the_ablations_are_sampled_once(films, tmp_path, capsys):
    """If this fails, a stopped run colors clips again, or takes those of another seed."""
    model = tiny.write_model(tmp_path / "model")
    palettes = tmp_path / "palettes.json"
    palettes.write_text(json.dumps({"a": ["#ff0000"], "b": ["teal", "khaki"]}))
    arguments = [
        "--checkpoint", model, "--data", films / "truth", "--tables", "--metrics", "colorfulness",
        "--workdir", tmp_path / "work", "--json", tmp_path / "t.json", "--palettes", palettes,
        "--overwrite",
    ]  # fmt: skip
    assert command(evaluate.main, *arguments) == 0
    out = capsys.readouterr().out
    assert "Table I" in out and "C: words" in out and paper.NULL in out and "34.92" in out
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mkv")}
    assert len(made) == 8
    seen = {
        row: json.loads((tmp_path / "work" / row / "a.run.json").read_text())["reference"]
        for row in "ABCD"
    }
    assert seen == {"A": "gray", "B": "gray", "C": "gray", "D": "first frame of a"}
    kept = json.loads((tmp_path / "work" / "A" / "a.run.json").read_text())["settings"]
    assert {name: kept[name] for name in PLAIN} == PLAIN  # the tables show the model's own chroma
    (tmp_path / "work" / "D" / "b.mkv").unlink()
    assert command(evaluate.main, *arguments) == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mkv")}
    assert [p.parent.name + p.stem for p in made if made[p] != again[p]] == ["Db"]
    record = tmp_path / "work" / "A" / "a.run.json"
    record.write_text(record.read_text()[:9])  # as if its writer was stopped
    assert command(evaluate.main, *arguments, "--output", f"A={films / 'truth'}") == 2
    assert "'A'" in capsys.readouterr().err
    assert command(evaluate.main, *arguments) == 0
    assert json.loads(record.read_text())["seed"] == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mkv")}
    mixture = tmp_path / "blue.json"
    gmm.save(gmm.Mixture(np.ones(1), np.array([[0.1, 0.1, 0.9]]), 1e-4 * np.eye(3)[None]), mixture)
    changes = "--seed", 5, "--mixture", mixture, "--preset", "paper", "--steps", 1
    assert command(evaluate.main, *arguments, *changes) == 0
    changed = json.loads((tmp_path / "work" / "B" / "a.run.json").read_text())
    sampler = changed["settings"]["sampler"]
    assert (sampler["steps"], sampler["blending"]) == (1, "final")
    assert all(color.startswith("#1") and color[5] in "de" for color in changed["palette"])
    other = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mkv")}
    assert all(other[path] != again[path] for path in made)


def test_a_checkpoint_that_is_none_is_named(films, tmp_path, capsys):
    """If this fails, a typo in --checkpoint is answered with advice about mixtures."""
    arguments = ["--checkpoint", tmp_path / "none", "--data", films / "truth"]
    assert command(evaluate.main, *arguments, "--json", tmp_path / "t.json") == 2
    assert "none: not a checkpoint folder" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("--steps", 3), ("--preset", "paper")])
def test_settings_of_coloring_need_something_to_color(films, tmp_path, capsys, flag, value):
    """If this fails, a flag has no effect, without an error, or an error names another flag."""
    arguments = ["--reference", films / "truth", "--output", films / "mine", flag, value]
    assert command(evaluate.main, *arguments, "--json", tmp_path / "t.json") == 2
    assert f"{flag} is a setting of coloring" in capsys.readouterr().err


def test_a_film_of_another_origin_is_no_ablation(films, tmp_path, capsys):
    """If this fails, a film of the user is replaced, because its folder has an ablation's name."""
    model = tiny.write_model(tmp_path / "model")
    (tmp_path / "work" / "A").mkdir(parents=True)
    (tmp_path / "work" / "A" / "a.mkv").write_text("mine")
    arguments = ["--checkpoint", model, "--data", films / "truth", "--metrics", "colorfulness",
                 "--workdir", tmp_path / "work", "--json", tmp_path / "t.json"]  # fmt: skip
    assert command(evaluate.main, *arguments) == 2
    assert "a.mkv: exists" in capsys.readouterr().err
    assert (tmp_path / "work" / "A" / "a.mkv").read_text() == "mine"


def test_a_model_without_a_mixture_is_told_the_command(films, tmp_path, capsys):
    """If this fails, a converted model cannot be tabulated, and the message does not say how."""
    model = tiny.write_model(tmp_path / "model")
    (model / "mixture.json").unlink()
    arguments = ["--checkpoint", model, "--data", films / "truth", "--tables"]
    assert command(evaluate.main, *arguments, "--workdir", tmp_path / "work") == 2
    said = capsys.readouterr().err
    assert "palette_vc_jax mixture --clips CLIPS --output" in said
    assert str(model / "mixture.json") in said and said.count("\n") == 1
