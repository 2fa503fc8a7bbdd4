"""The benchmark's plumbing, with a fake in place of the model."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax import cli
from palette_vc_jax.models.config import demo
from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling import auto, frames

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.optimized


@pytest.fixture
def quality(monkeypatch):
    """Import the script as a module, its model replaced by one that tints by the palette."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("demo_quality")

    def colorize(networks, grays, shots, given, settings, progress):
        palette, seed = given[0].palette, given[0].seed
        tint = np.zeros(3) if palette is None else palette.colors.mean(axis=0) - 0.5
        film = np.stack(list(grays))[..., None] + 0.5 * tint + 1e-3 * seed
        assert film.shape[0] == shots[-1][1]
        yield from np.array_split(film.clip(0, 1).astype(np.float32), 2)

    monkeypatch.setattr(module, "load_model", lambda folder: Model(demo(), {}))
    monkeypatch.setattr(module, "load_networks", lambda model: Networks(demo(), *[None] * 5))
    monkeypatch.setattr(frames, "colorize", colorize)
    # The automatic palette colors frames without a palette: they stay gray.
    monkeypatch.setattr(auto, "sample_latents", lambda _, grays, *rest, **named: grays)
    monkeypatch.setattr(auto, "decode_latents", lambda _, grays, *rest: [np.stack([grays] * 3, -1)])
    monkeypatch.setattr(module.gmm, "load", lambda path: SimpleNamespace(fitted_on={}))
    gradient = np.linspace(0, 1, 15).reshape(5, 3)
    monkeypatch.setattr(module.gmm, "sample", lambda mixture, seed: Palette.of(gradient, "gmm"))
    return module


@pytest.fixture
def clips(tmp_path):
    """Write three clips of six frames, each with a color of its own on its left half."""
    rng = np.random.default_rng(0)
    for name, color in {"a": (200, 90, 40), "b": (30, 90, 220), "c": (60, 180, 60)}.items():
        (tmp_path / "clips" / name).mkdir(parents=True)
        for index in range(6):
            frame = np.repeat(rng.integers(60, 200, (32, 48, 1)), 3, axis=-1)
            frame[:, : 20 + index] = color
            frame = Image.fromarray(frame.astype(np.uint8))
            frame.save(tmp_path / "clips" / name / f"{index:03}.png")
    return tmp_path / "clips"


def test_report_is_whole(quality, clips, tmp_path, capsys):
    """If this fails, a row, a clip, a seed, a target or a file is missing from the report."""
    arguments = ["--clips", str(clips), "--short_side", "32", "--seeds", "2", "--frames", "6"]
    out = tmp_path / "out"
    arguments += ["--json", str(out / "scores.json"), "--pictures", str(out / "pictures")]
    quality.main(arguments)
    printed = capsys.readouterr().out
    for row in (*quality.BASELINES, *quality.PALETTES, "a", "b", "c"):
        assert f"\n| {row} |" in printed
    assert printed.rstrip().splitlines()[-1].startswith("| auto: (f)")
    records = json.loads((out / "scores.json").read_text())["records"]
    assert len(records) == 3 * (4 + 5 * 2)
    truth = next(record["scores"] for record in records if record["row"] == "truth")
    assert truth["correlation"] == pytest.approx(1.0)
    assert truth["colorfulness"] == pytest.approx(1.0)
    assert truth["histogram"] == pytest.approx(0.0, abs=1e-6)
    assert truth["asked"] == pytest.approx(0.0, abs=1e-6)
    assert all("asked" not in r["scores"] for r in records if r["row"] == "none")
    assert Image.open(out / "pictures" / "a.png").size == (80 + 6 * 2 * 48, 7 * 64)


def test_baselines_know_nothing_beyond_luma(quality, clips):
    """If this fails, the rows that need no model have wrong values, or another luma."""
    clip = quality.load_clip(clips / "a", 6, 32, 16)
    palette = quality.middle_palette(clip.truth, "a")
    for kind in ("gray", "tint", "lookup"):
        film = quality.baseline(kind, clip, palette)
        assert np.abs(quality.to_gray3(film)[..., 0] - clip.gray).max() < 2e-3
        scores = quality.score(film, clip, palette, [palette])
        assert abs(scores["correlation"]) < 0.15
        assert (scores["colorfulness"] < 1e-3) == (kind == "gray")


def test_palettes_do_not_depend_on_the_choice_of_clips(quality, clips, capsys):
    """If this fails, `--only` changes which palette `other` is, or what (d) compares with."""

    def scores(*extra):
        options = quality.parse(["--clips", str(clips), "--short_side", "32", "--seeds", "1"])
        options.only = list(extra)
        settings = quality.default_settings(demo(), short_side=32)
        records = quality.measure(options, quality.load_networks(None), settings)
        return {r.row: r.scores for r in records if r.clip == "b"}

    assert scores("b") == scores()


def test_targets_fail_without_color(quality):
    """If this fails, a gray film reaches a target that asks for color, or the truth misses one."""
    tables = importlib.import_module("quality_tables")

    def records(gray_film):
        good = {"correlation": 1.0, "colorfulness": 1.0, "histogram": 0.0, "error": 0.0}
        good |= {"asked": 1.0, "others": 2.0, "cdc": 0.02}
        bad = {"correlation": 0.0, "colorfulness": 0.0, "histogram": 0.5, "error": 9.0}
        bad |= {"asked": 2.0, "others": 2.0, "cdc": 0.0}
        tried = bad if gray_film else good
        films = {"truth": good, "gray": bad, "tint": bad, "lookup": bad}
        films |= {"image": tried, "auto": tried}
        return [tables.Record(f"{i}", row, 0, s) for i in range(10) for row, s in films.items()]

    assert [reached for *_, reached in tables.targets(records(False))] == [True] * 10
    steady = [False] * 5 + [True] + [False] * 4  # a gray film does not flicker
    assert [reached for *_, reached in tables.targets(records(True))] == steady


def test_mistakes_take_one_line(quality, clips, capsys):
    """If this fails, a user's mistake ends in a traceback."""
    for arguments in (
        ["--clips", str(clips / "none")],
        ["--clips", str(clips), "--only", "z"],
        ["--clips", str(clips), "--frames", "3"],
        ["--clips", str(clips), "--steps", "0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.run(lambda given=arguments: quality.main(given))
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
