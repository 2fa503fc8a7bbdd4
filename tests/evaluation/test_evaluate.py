"""evaluate.py on small films: what is compared, what is refused, and what is named as missing."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import evaluate
from palette_vc_jax.evaluation import EvaluationOptions, text_table, to_json
from palette_vc_jax.evaluation import evaluate as evaluate_films
from palette_vc_jax.evaluation.results import interval
from palette_vc_jax.metrics.chunk import FeatureNetwork
from palette_vc_jax.metrics.networks import load
from tests import films as made
from tests.commands import command
from tests.evaluation.clips import FAST, frames, refused, run, write


def test_python_and_command_agree(films, capsys):
    """If this fails, the function and the command measure differently."""
    assert run(films, "--output", f"twin={films / 'truth'}") == 0
    table, record = capsys.readouterr().out, json.loads((films / "out.json").read_text())
    outputs = {"mine": films / "mine", "twin": films / "truth"}
    options = EvaluationOptions(metrics=FAST.split(","), weights=films / "none")
    results = evaluate_films(films / "truth", outputs, options)
    assert text_table(results) == table.rstrip("\n")
    found = to_json(results)
    assert found.pop("seconds") < 60 and record.pop("seconds") < 60
    assert json.loads(json.dumps(found)) == record
    assert results.mean("mine", "chroma_error") > results.mean("truth", "chroma_error") == 0.0


def test_truth_is_perfect_and_rows_are_named(films, capsys):
    """If this fails, the truth does not score best, or a row or clip is missing."""
    assert run(films, "--output", f"twin={films / 'truth'}") == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("truth", "gray", "mine", "twin", "inf"))
    rows = json.loads((films / "out.json").read_text(), parse_constant=pytest.fail)["rows"]
    assert list(rows) == ["truth", "gray", "mine", "twin"]
    for row in ("truth", "twin"):
        for clip in ("a", "b"):
            values = rows[row]["clips"][clip]
            assert values["psnr_rgb"] == "inf"
            assert values["ssim_y"] == 1.0 and values["chroma_error"] == 0.0
            assert values["colorfulness"] == rows["truth"]["clips"][clip]["colorfulness"] > 5.0
    assert rows["gray"]["clips"]["a"]["ssim_y"] == 1.0
    assert rows["gray"]["clips"]["a"]["colorfulness"] == 0.0
    assert rows["mine"]["clips"]["a"]["psnr_rgb"] < 30.0
    mean = rows["mine"]["mean"]["chroma_error"]
    low, high = mean["interval_95"]
    assert low <= mean["mean"] <= high and mean["clips"] == 2


def test_a_film_equals_its_frames(films, tmp_path):
    """If this fails, a film has other frames than the folder it was made from."""
    images = frames(6, 0)
    (tmp_path / "v").mkdir()
    made.write_film(tmp_path / "v" / "a.mkv", images, pix_fmt="bgr0", codec="ffv1")
    (tmp_path / "t").mkdir()
    (films / "truth" / "a").rename(tmp_path / "t" / "a")
    code = command(
        evaluate.main, "--reference", tmp_path / "t", "--output", tmp_path / "v",
        "--metrics", "psnr_rgb", "--json", tmp_path / "o.json",
    )  # fmt: skip
    assert code == 0
    rows = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert rows["v"]["clips"]["a"]["psnr_rgb"] == "inf"


def test_single_films_match_and_single_folders_do_not(films, capsys):
    """If this fails, a film is compared with any other that is alone in its folder."""
    one = films / "mine" / "a"
    arguments = ["--metrics", "psnr_rgb", "--json", films / "o.json", "--overwrite", "--reference"]
    assert command(evaluate.main, *arguments, films / "truth" / "a", "--output", one) == 0
    for folder, name in (("m1", "a"), ("m2", "c")):
        (films / folder).mkdir()
        (films / "mine" / "a" if folder == "m2" else films / "truth" / "a").rename(
            films / folder / name
        )
    assert command(evaluate.main, *arguments, films / "m1", "--output", films / "m2") == 2
    assert "missing: a" in capsys.readouterr().err


def test_equal_frames_do_not_make_a_film_perfect(films):
    """If this fails, one black frame gives the whole film an infinite PSNR."""
    for folder in ("truth", "mine"):
        Image.new("RGB", (40, 32)).save(films / folder / "a" / "000.png")
    assert run(films, metrics="psnr_rgb") == 0
    rows = json.loads((films / "out.json").read_text())["rows"]
    assert rows["mine"]["clips"]["a"]["psnr_rgb"] < 30.0
    assert rows["truth"]["clips"]["a"]["psnr_rgb"] == "inf"


def test_missing_weights_are_named_gaps(films, capsys):
    """If this fails, a metric without weights stops the rest, or is left out without a message."""
    assert run(films, metrics="psnr_rgb,lpips_alex,fid,fvd") == 0
    table = capsys.readouterr().out
    assert "convert/metric_weights.py" in table and "PSNR" in table
    content = json.loads((films / "out.json").read_text())
    assert {"lpips_alex", "fid", "fvd"} <= set(content["gaps"])
    assert "psnr_rgb" in content["rows"]["mine"]["mean"]


def test_clips_too_short_or_small_are_named_gaps(tmp_path, capsys):
    """If this fails, a film of one frame counts as steady, or stops the others."""
    for name in ("truth", "mine"):
        write(tmp_path / name / "still", frames(1, 0))
        write(tmp_path / name / "tiny", frames(6, 1, 6, 6))
    assert run(tmp_path, metrics="psnr_rgb,cdc,ssim_y,warp_error,palette_distance") == 0
    content = json.loads((tmp_path / "out.json").read_text())
    gaps = content["gaps"]
    assert "fewer than 5 frames" in gaps["mine, still, cdc"]
    assert "7 pixels" in gaps["mine, tiny, ssim_y"]
    assert "16 pixels" in gaps["mine, tiny, warp_error"]
    assert "pair of frames" in gaps["mine, still, warp_error"]
    assert "palette" in gaps["mine, still, palette_distance"]
    assert content["rows"]["mine"]["mean"]["cdc"]["clips"] == 1
    assert "7 pixels" in capsys.readouterr().out


def test_palettes_beside_films_are_adhered_to(films):
    """If this fails, the distance is to another film's palette, or is missing."""
    exact = [[255, 0, 0], [0, 128, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]
    striped = np.repeat(np.array(exact, np.uint8)[None], 8, axis=1).repeat(32, axis=0)
    for path in (films / "mine" / "a").iterdir():
        Image.fromarray(striped).save(path)
    colors = ["#ff0000", "#008000", "#0000ff", "#ffffff", "#000000"]
    for clip in ("a", "b"):
        (films / "mine" / f"{clip}.palette.json").write_text(json.dumps({"colors": colors}))
    assert run(films, metrics="palette_distance") == 0
    clips = json.loads((films / "out.json").read_text())["rows"]["mine"]["clips"]
    assert clips["a"]["palette_distance"] == pytest.approx(0.0, abs=0.5)
    assert clips["b"]["palette_distance"] > 20.0


def test_other_sizes_are_resized_if_asked(films, capsys):
    """If this fails, films of two sizes are compared without a warning, or never."""
    for path in (films / "mine" / "a").iterdir():
        with Image.open(path) as image:
            small = image.resize((20, 16))
        small.save(path)
    refused(films, capsys, "20x16", "40x32", "--resize")
    assert run(films, "--resize") == 0
    assert json.loads((films / "out.json").read_text())["settings"]["resize"] is True


def test_what_cannot_be_compared_is_refused_in_one_line(films, capsys):
    """If this fails, a wrong number or a traceback is printed."""
    refused(films, capsys, "'psnr' is not known", "psnr_rgb", metrics="psnr")
    refused(films, capsys, "truth", flags=("--output", f"truth={films / 'mine'}"))
    refused(films, capsys, "no such film or folder", flags=("--output", f"x={films / 'x'}"))
    refused(films, capsys, "one name", flags=("--output", films / "mine"))
    refused(films, capsys, "no metric uses it", flags=("--flow", films / "truth"))
    (films / "empty").mkdir()
    refused(films, capsys, "no films", flags=("--output", f"x={films / 'empty'}"))
    last = films / "mine" / "b" / "006.png"
    last.unlink()
    refused(films, capsys, "6 frames", "has 7")
    last.write_bytes(b"no image")
    assert run(films) == 0
    content = json.loads((films / "out.json").read_text())
    assert "006.png" in content["gaps"]["b"] and list(content["rows"]["truth"]["clips"]) == ["a"]
    (films / "out.json").unlink()
    for path in (films / "mine" / "a").iterdir():
        path.write_bytes(b"no image")
    refused(films, capsys, "cannot be read")
    for path in [*(films / "mine" / "b").iterdir()]:
        path.unlink()
    refused(films, capsys, "mine", "missing: b")
    assert command(evaluate.main, "--reference", films / "truth") == 2
    assert "--output" in capsys.readouterr().err
    assert command(evaluate.main, "--checkpoint", films) == 2
    assert "--data" in capsys.readouterr().err
    assert run(films, "--json", films) == 2
    assert "--json" in capsys.readouterr().err


def test_fid_and_fvd_need_two(films, capsys, monkeypatch):
    """If this fails, the Frechet distance of one video is printed as if it meant something."""

    def color_means(frames):
        return np.asarray(frames).mean(axis=(1, 2))

    fake = {
        "inception_pytorch_fid": FeatureNetwork(color_means),
        "i3d": FeatureNetwork(color_means, videos=lambda videos: videos.mean(axis=1)),
    }
    monkeypatch.setattr(load, "BUILDERS", {k: lambda _, v=v: v for k, v in fake.items()})
    monkeypatch.setattr(load.weights, "missing", lambda *_: None)
    monkeypatch.setattr(load.weights, "load", lambda *_: None)
    monkeypatch.setattr(load.weights, "sha256", lambda *_: "0")
    assert run(films, metrics="fid,fvd") == 0
    content = json.loads((films / "out.json").read_text())
    assert content["rows"]["truth"]["pooled"]["fid"] == pytest.approx(0.0, abs=1e-6)
    assert content["rows"]["gray"]["pooled"]["fid"] > 1e-4
    assert "fewer than 2 videos of 16 frames" in content["gaps"]["fvd"]
    assert content["gaps"]["a, fvd"] == "fewer than 16 frames"
    last = films / "mine" / "b" / "006.png"
    last.write_bytes(b"no image")  # b is left out of all rows
    assert run(films, "--overwrite", metrics="fid") == 0
    content = json.loads((films / "out.json").read_text())
    assert content["pooled_items"]["fid"] == 6 and "006.png" in content["gaps"]["b"]


def test_intervals_hold_the_mean():
    """If this fails, the interval is that of single clips, or changes from run to run."""
    values = np.random.default_rng(0).normal(5.0, 1.0, 30)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(30), rel=0.25)
    assert interval(values) == (low, high)
    assert interval([1.0]) is None


def test_names_in_tables_are_one_line(films, capsys):
    """If this fails, the name of a folder breaks the table, or moves the cursor."""
    odd = (films / "mine").rename(films / "mi\nne\x1b[2J")
    given = ["--reference", films / "truth", "--output", odd, "--metrics", "colorfulness"]
    given += ["--json", films / "out.json"]
    assert command(evaluate.main, *given) == 0
    said = capsys.readouterr().out
    assert r"mi\nne\x1b[2J" in said
    assert all(line.isprintable() for line in said.splitlines())
