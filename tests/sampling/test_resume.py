"""A film that was interrupted goes on, and is the film of one run, bit for bit."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import sample
from palette_vc_jax.sampling import job, plan, unfinished
from tests import films, tiny
from tests.commands import command

SHOTS, FRAMES = 4, 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def color(model, tmp_path, monkeypatch):
    """Run `sample.py` on a film of four shots, each a run of its own."""
    film = films.write_film(tmp_path / "in.mkv", films.lumas(SHOTS * FRAMES))
    rows = [f"{number},{number * FRAMES + 1}" for number in range(SHOTS)]
    (tmp_path / "cuts.csv").write_text("\n".join(["Scene Number,Start Frame", *rows]))
    monkeypatch.setattr(plan, "RUN_FRAMES", 1)

    def run(output, *flags):
        given = ["--input", film, "--output", output, "--checkpoint", model]
        given += ["--cuts", tmp_path / "cuts.csv"]
        return command(sample.main, *given, "--palette", "tomato,teal", *flags)

    return run


@pytest.fixture
def sampled(monkeypatch):
    """List the first frames of the runs of shots that are sampled."""
    calls, usual = [], job.sample_latents

    def counting(*given, shots, **named):
        calls.append(shots[0][0])
        return usual(*given, shots=shots, **named)

    monkeypatch.setattr(job, "sample_latents", counting)
    return calls


def _interrupt(monkeypatch, after):
    """Raise an error when the run after the first `after` is to be sampled."""
    usual = unfinished.keep

    def keep(folder, record, run, latents):
        usual(folder, record, run, latents)
        if len(list(folder.glob("*.npz"))) > after:
            raise OSError("the disk is full")

    monkeypatch.setattr(unfinished, "keep", keep)


def test_an_interrupted_film_goes_on(color, sampled, tmp_path, monkeypatch):
    """If this fails, a night is lost at its last shot, or its film differs from that of one run."""
    assert color(tmp_path / "whole.mkv") == 0
    assert sampled == [0, 6, 12, 18]
    with monkeypatch.context() as patch:
        _interrupt(patch, 1)
        assert color(tmp_path / "out.mkv") == 1
    kept = tmp_path / "out.mkv.unfinished"
    assert len(list(kept.glob("*.npz"))) == 2 and not (tmp_path / "out.mkv").exists()
    part = sorted(kept.glob("*.npz"))[1]
    damaged = bytearray(part.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # a bad block of the disk
    part.write_bytes(damaged)
    del sampled[:]
    assert color(tmp_path / "out.mkv") == 0
    assert sampled == [6, 12, 18]
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert not kept.exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--seed", 1], "another seed (0, now 1)"),
        (["--palette", "navy"], "another palette"),
        (["--steps", 3], "settings.sampler.steps (2, now 3)"),
        (["--luma", "model"], "another luma"),
    ],
)
def test_parts_of_another_run_are_named_and_not_used(color, tmp_path, monkeypatch, capsys, flags,
                                                      word):  # fmt: skip
    """If this fails, half of a film has the colors of other settings."""
    with monkeypatch.context() as patch:
        _interrupt(patch, 0)
        color(tmp_path / "out.mkv")
    capsys.readouterr()
    assert color(tmp_path / "out.mkv", *flags) == 2
    assert word in capsys.readouterr().err
    assert len(list((tmp_path / "out.mkv.unfinished").iterdir())) == 2
    assert color(tmp_path / "out.mkv", *flags, "--overwrite") == 0
    assert not (tmp_path / "out.mkv.unfinished").exists()


def test_a_run_that_had_too_little_memory_goes_on_with_less(color, sampled, tmp_path, monkeypatch):
    """If this fails, the flags that an error has named are refused, or the night is lost."""
    with monkeypatch.context() as patch:
        _interrupt(patch, 1)
        assert color(tmp_path / "out.mkv", "--windows_per_batch", 2) == 1
    del sampled[:]
    less = ["--encode_batch", 4, "--decode_chunk", 6, "--memory", 8, "--devices", 1]
    assert color(tmp_path / "out.mkv", *less) == 0
    assert sampled == [12, 18]


def test_another_film_or_checkpoint_is_noticed(color, model, tmp_path, monkeypatch, capsys):
    """If this fails, a film that was exchanged goes on with the colors of the film before it."""
    with monkeypatch.context() as patch:
        _interrupt(patch, 0)
        color(tmp_path / "out.mkv")
    other = shutil.copytree(model, tmp_path / "other")
    path = other / "vae.safetensors"
    weights = path.read_bytes()
    path.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    capsys.readouterr()
    assert color(tmp_path / "out.mkv", "--checkpoint", other) == 2
    assert "content of the checkpoint.vae.safetensors" in capsys.readouterr().err
    pictures = films.lumas(SHOTS * FRAMES)
    pictures[5][:] = 128
    films.write_film(tmp_path / "in.mkv", pictures)
    assert color(tmp_path / "out.mkv") == 2
    assert "another content of the film" in capsys.readouterr().err


def test_a_folder_of_another_kind_is_left_alone(color, tmp_path, capsys):
    """If this fails, --overwrite removes a folder of the user's."""
    mine = tmp_path / "out.mkv.unfinished" / "mine"
    mine.parent.mkdir()
    mine.write_text("mine")
    for flags in ([], ["--overwrite"]):
        assert color(tmp_path / "out.mkv", *flags) == 2
        assert "move it away" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_an_empty_folder_stops_no_run(color, tmp_path):
    """If this fails, a run cannot go on after the disk was full when it began to keep parts."""
    (tmp_path / "out.mkv.unfinished").mkdir()
    assert color(tmp_path / "out.mkv") == 0


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({"a": 1, "palette_details": 1}, {"a": 1, "palette_details": 2}, ""),
        ({"settings": {"memory": None}}, {"settings": {"memory": 8}}, ""),
        ({"a": [1, [2]]}, {"a": [1, [3]]}, "another a[1][0] (2, now 3)"),
        ({"a": 1}, {"a": 1, "b": None}, ""),
        ({"a": 1, "b": 2}, {"a": 1}, "another b (2, now None)"),
        ([1], {"a": 1}, "another record"),
        ({"a": [1]}, {"a": [1, 2]}, "another a"),
    ],
)
def test_the_first_difference_is_named(before, now, found):
    """If this fails, a changed setting is not named, or one without effect stops a run."""
    assert unfinished.difference(before, now).startswith(found)
    assert bool(found) == bool(unfinished.difference(before, now))


def test_a_shot_that_stays_gray_is_not_sampled(color, sampled, tmp_path, model):
    """If this fails, a gray shot costs time, or has colors."""
    text = json.dumps(
        {
            "version": 1,
            "shots": [
                {"start": 0, "end": 12},
                {"start": 12, "end": 18, "keep_gray": True},
                {"start": 18, "end": 24, "strength": 0.5, "seed": 3, "palette": ["navy"]},
            ],
        }
    )
    (tmp_path / "plan.json").write_text(text)
    given = ["--input", tmp_path / "in.mkv", "--checkpoint", model, "--palette", "tomato,teal"]
    given += ["--plan", tmp_path / "plan.json"]
    assert command(sample.main, *given, "--output", tmp_path / "out.mkv") == 0
    assert sampled == [0, 18]
    chroma = films.chroma(tmp_path / "out.mkv")
    mean = np.abs(chroma - 128.0).mean(axis=(1, 2, 3))
    assert mean[12:18].max() == 0.0 and mean[:12].min() > 1.0 and mean[18:].min() > 0.1
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert [one["strength"] for one in record["shot_settings"]] == [1.0, 0.0, 0.5]
    assert not (tmp_path / "out.palette.json").exists()


def test_a_changed_keyframe_is_noticed(color, tmp_path, monkeypatch, capsys):
    """If this fails, a frame that was repaired once more has no effect on the shots before."""
    image = np.zeros((48, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "key.png")
    with monkeypatch.context() as patch:
        _interrupt(patch, 0)
        color(tmp_path / "out.mkv", "--keyframe", f"20={tmp_path / 'key.png'}")
    Image.fromarray(image + 9).save(tmp_path / "key.png")
    capsys.readouterr()
    assert color(tmp_path / "out.mkv", "--keyframe", f"20={tmp_path / 'key.png'}") == 2
    assert "another keyframes[0].image_sha256" in capsys.readouterr().err
