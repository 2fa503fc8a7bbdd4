"""evaluate.py on small films: what is compared, what is refused, and what is named as missing."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import evaluate
from palette_vc_jax.evaluation import paper
from palette_vc_jax.evaluation.films import davis_films
from palette_vc_jax.evaluation.results import Results, interval
from palette_vc_jax.metrics.chunk import FeatureNetwork
from palette_vc_jax.metrics.networks import load
from tests import films as made
from tests import tiny
from tests.commands import command
from tests.special import special

FAST = "colorfulness,psnr_rgb,ssim_y,chroma_error,cdc_ab"


def frames(count: int, seed: int, height: int = 32, width: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.integers(60, 196, (height, width, 3)) + [40, 0, -40]
    return [np.roll(base, step, axis=1).astype(np.uint8) for step in range(count)]


def write(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture
def films(tmp_path):
    """Write a reference of two clips, and an output whose clips are the reference's mirrored."""
    for seed, name in enumerate(("a", "b")):
        images = frames(6 + seed, seed)
        write(tmp_path / "truth" / name, images)
        write(tmp_path / "mine" / name, [image[:, ::-1] for image in images])
    return tmp_path


def run(folder: Path, *flags: object, metrics: str = FAST) -> int:
    return command(
        evaluate.main, "--reference", folder / "truth", "--output", folder / "mine",
        "--json", folder / "out.json", "--metrics", metrics, "--weights", folder / "none", *flags,
    )  # fmt: skip


def refused(folder: Path, capsys, *words: str, flags: tuple = (), metrics: str = FAST) -> None:
    assert run(folder, *flags, metrics=metrics) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    for word in words:
        assert word in error, error
    assert not (folder / "out.json").exists()


def test_truth_is_perfect_and_rows_are_named(films, capsys):
    """The truth would not score best, a row or clip would be missing, or the JSON not be one."""
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
    """A film would be compared as other images than the folder it was made from."""
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
    """One film would be compared with another of a folder that happens to hold one alone."""
    one = films / "mine" / "a"
    arguments = ["--metrics", "psnr_rgb", "--json", films / "o.json", "--reference"]
    assert command(evaluate.main, *arguments, films / "truth" / "a", "--output", one) == 0
    for folder, name in (("m1", "a"), ("m2", "c")):
        (films / folder).mkdir()
        (films / "mine" / "a" if folder == "m2" else films / "truth" / "a").rename(
            films / folder / name
        )
    assert command(evaluate.main, *arguments, films / "m1", "--output", films / "m2") == 2
    assert "missing: a" in capsys.readouterr().err


def test_equal_frames_do_not_make_a_film_perfect(films):
    """A black frame, the same in both, would give the whole film an infinite PSNR."""
    for folder in ("truth", "mine"):
        Image.new("RGB", (40, 32)).save(films / folder / "a" / "000.png")
    assert run(films, metrics="psnr_rgb") == 0
    rows = json.loads((films / "out.json").read_text())["rows"]
    assert rows["mine"]["clips"]["a"]["psnr_rgb"] < 30.0
    assert rows["truth"]["clips"]["a"]["psnr_rgb"] == "inf"


def test_missing_weights_are_named_gaps(films, capsys):
    """A metric without weights would stop the rest, or be left out without a word."""
    assert run(films, metrics="psnr_rgb,lpips_alex,fid,fvd") == 0
    table = capsys.readouterr().out
    assert "convert/metric_weights.py" in table and "PSNR" in table
    content = json.loads((films / "out.json").read_text())
    assert {"lpips_alex", "fid", "fvd"} <= set(content["gaps"])
    assert "psnr_rgb" in content["rows"]["mine"]["mean"]


def test_clips_too_short_or_small_are_named_gaps(tmp_path, capsys):
    """A film of one frame would get a steadiness of 0, or stop the others."""
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
    """The distance would be to another film's palette, or not be taken at all."""
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
    """Films of two sizes would be compared without a word, or never."""
    for path in (films / "mine" / "a").iterdir():
        with Image.open(path) as image:
            small = image.resize((20, 16))
        small.save(path)
    refused(films, capsys, "20x16", "40x32", "--resize")
    assert run(films, "--resize") == 0
    assert json.loads((films / "out.json").read_text())["settings"]["resize"] is True


def test_what_cannot_be_compared_is_refused_in_one_line(films, capsys):
    """A wrong number would be printed, or a traceback."""
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
    """A Frechet distance of one video would be printed as if it meant something."""

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
    assert run(films, metrics="fid") == 0
    content = json.loads((films / "out.json").read_text())
    assert content["pooled_items"]["fid"] == 6 and "006.png" in content["gaps"]["b"]


def test_given_flow_is_followed(films, tmp_path):
    """The flow of another pair of frames would be taken, or it would be computed all the same."""
    for clip, count in (("a", 5), ("b", 6)):
        for way, sign in (("forward", 1.0), ("backward", -1.0)):
            folder = tmp_path / "flow" / clip / way
            folder.mkdir(parents=True)
            for index in range(count):
                flow = np.zeros((32, 40, 2), np.float32)
                flow[..., 0] = sign  # `frames` moves by a pixel
                cv2.writeOpticalFlow(str(folder / f"{index:03}.flo"), flow)
    assert run(films, "--flow", tmp_path / "flow", metrics="warp_error") == 0
    rows = json.loads((films / "out.json").read_text())["rows"]
    assert rows["truth"]["clips"]["a"]["warp_error"] == pytest.approx(0.0, abs=1e-9)
    assert rows["mine"]["clips"]["a"]["warp_error"] > 0.01


def test_davis_lists_choose_clips(films, capsys):
    """The clips of training would be measured with those of the test, or a size be mixed in."""
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


def test_intervals_hold_the_mean():
    """The interval would be of single clips, or change from run to run."""
    values = np.random.default_rng(0).normal(5.0, 1.0, 30)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(30), rel=0.25)
    assert interval(values) == (low, high)
    assert interval([1.0]) is None


def test_the_papers_tables_have_its_rows_and_numbers():
    """A row would be quoted beside another's measure."""
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
    """A clip would be colored again after a stop, or an old one be taken for a new seed's."""
    model = tiny.write_model(tmp_path / "model")
    palettes = tmp_path / "palettes.json"
    palettes.write_text(json.dumps({"a": ["#ff0000"], "b": ["teal", "khaki"]}))
    arguments = [
        "--checkpoint", model, "--data", films / "truth", "--tables", "--metrics", "colorfulness",
        "--workdir", tmp_path / "work", "--json", tmp_path / "t.json", "--palettes", palettes,
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
    assert command(evaluate.main, *arguments, "--seed", 5) == 0
    other = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mkv")}
    assert all(other[path] != again[path] for path in made)


def flow_folder(folder: Path, clips: dict[str, int]) -> Path:
    """Write flow of no motion for clips of so many frames."""
    for clip, count in clips.items():
        for way in ("forward", "backward"):
            (folder / clip / way).mkdir(parents=True)
            for index in range(count - 1):
                path = folder / clip / way / f"{index:03}.flo"
                cv2.writeOpticalFlow(str(path), np.zeros((32, 40, 2), np.float32))
    return folder


def flo(width: int, height: int, values: bytes = b"", magic: bytes = b"PIEH") -> bytes:
    return magic + np.array([width, height], "<i4").tobytes() + values


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a .flo file"),
        (b"PIEH", "not a .flo file"),
        (flo(40, 32, bytes(8 * 40 * 32), b"PIEX"), "not a .flo file"),
        (flo(-1, -1), "-1x-1"),
        (flo(-40, -32, bytes(8 * 40 * 32)), "-40x-32"),
        (flo(0, 32), "0x32"),
        (flo(2**31 - 1, 2**31 - 1), "2147483647"),
        (flo(40, 32, bytes(8 * 40 * 32 - 1)), "40x32"),
        (flo(40, 32, bytes(8 * 40 * 32 + 1)), "40x32"),
    ],
)
def test_damaged_flow_is_refused_before_anything_is_measured(films, capsys, content, word):
    """The process would crash on a size that a file's header makes up."""
    flows = flow_folder(films / "flow", {"a": 6, "b": 7})
    (flows / "b" / "backward" / "003.flo").write_bytes(content)
    words = ("b/backward/003.flo", word)
    refused(films, capsys, *words, flags=("--flow", flows), metrics="warp_error")


def test_flow_that_is_not_finite_is_a_gap(films):
    """A warp error would be a mean over nowhere."""
    flows = flow_folder(films / "flow", {"a": 6, "b": 7})
    values = np.full((32, 40, 2), np.nan, "<f4").tobytes()
    (flows / "a" / "forward" / "002.flo").write_bytes(flo(40, 32, values))
    assert run(films, "--flow", flows, metrics="warp_error") == 0
    gaps = json.loads((films / "out.json").read_text())["gaps"]
    assert "002.flo" in gaps["mine, a, warp_error"] and "mine, b, warp_error" not in gaps


@pytest.mark.parametrize("name", ["negative.flo", "huge.flo"])
def test_flow_files_that_crashed_opencv_are_refused(films, shared, capsys, name):
    """The process would end in a signal, or in a traceback."""
    path = shared / "reviews" / "inputs" / name
    if not path.is_file():
        pytest.skip("needs ../shared/reviews/inputs")
    flows = flow_folder(films / "flow", {"a": 6, "b": 7})
    (flows / "a" / "forward" / "000.flo").write_bytes(path.read_bytes())
    refused(films, capsys, "000.flo", flags=("--flow", flows), metrics="warp_error")


@pytest.mark.parametrize("kind", ["device", "fifo", "socket", "folder"])
def test_the_report_replaces_nothing_but_a_file(films, capsys, kind):
    """/dev/null would be a file of JSON from then on."""
    place = special(films / "place", kind)
    before = place.stat()
    assert run(films, "--json", place) == 2
    assert "place" in capsys.readouterr().err
    assert (place.stat().st_mode, place.stat().st_ino) == (before.st_mode, before.st_ino)


def test_the_report_replaces_no_input_and_no_other_file(films, capsys):
    """A frame, a palette file or another file of the user's would be gone for a mistyped flag."""
    (films / "mine.txt").write_text("mine")
    (films / "link.json").symlink_to(films / "truth" / "a" / "000.png")
    before = {path: path.read_bytes() for path in films.rglob("*") if path.is_file()}
    for name in ("truth/a/000.png", "mine/b/003.png", "link.json", "mine.txt"):
        assert run(films, "--json", films / name) == 2
        assert name in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: path.read_bytes() for path in films.rglob("*") if path.is_file()} == before
    assert run(films) == run(films) == 0  # its own is replaced


def test_a_film_of_another_origin_is_no_ablation(films, tmp_path, capsys):
    """A film of the user's would be colored over, since a folder has an ablation's name."""
    model = tiny.write_model(tmp_path / "model")
    (tmp_path / "work" / "A").mkdir(parents=True)
    (tmp_path / "work" / "A" / "a.mkv").write_text("mine")
    arguments = ["--checkpoint", model, "--data", films / "truth", "--metrics", "colorfulness",
                 "--workdir", tmp_path / "work", "--json", tmp_path / "t.json"]  # fmt: skip
    assert command(evaluate.main, *arguments) == 2
    assert "a.mkv: exists" in capsys.readouterr().err
    assert (tmp_path / "work" / "A" / "a.mkv").read_text() == "mine"


def test_a_model_without_a_mixture_is_told_the_command(films, tmp_path, capsys):
    """A converted model could not be tabulated, and nobody would know how to go on."""
    model = tiny.write_model(tmp_path / "model")
    (model / "mixture.json").unlink()
    arguments = ["--checkpoint", model, "--data", films / "truth", "--tables"]
    assert command(evaluate.main, *arguments, "--workdir", tmp_path / "work") == 2
    said = capsys.readouterr().err
    assert "palette_vc_jax.training.mixture --clips CLIPS --output" in said
    assert str(model / "mixture.json") in said and said.count("\n") == 1
