"""The accelerator script, run as it is: all stages at toy size, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.stages import process
from benchmarks.stages.plan import STAGES, TRAIN, Request
from palette_vc_jax.data.cache import open_cache
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.sources import open_clips
from palette_vc_jax.models.memory import REMAT
from palette_vc_jax.models.store import load_model
from tests import films, tiny
from tests.commands import runtime_environment

ROOT = Path(__file__).resolve().parents[2]
# One case of `train` stands for all, which differ by a key of the config.
CHEAP = "attention,unet:jax,train:remat=layers,clip:jax,demo"


def run(output: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run the script as `PYTHONPATH=. python benchmarks/accelerator.py --toy ...`; hide torch."""
    command = [sys.executable, "benchmarks/accelerator.py", "--toy", "--output", output, *arguments]
    environment = runtime_environment()
    environment["PYTHONPATH"] = os.pathsep.join([".", environment["PYTHONPATH"]])
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True
    )


def results(output: Path) -> dict:
    """Read what a run wrote."""
    return json.loads((output / "accelerator.json").read_text())["stages"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Write a tiny model, of one level: its training step compiles sooner."""
    return tiny.write_model(tmp_path_factory.mktemp("model"), tiny.SMALL)


@pytest.fixture(scope="module")
def cache(model, tmp_path_factory):
    """Write the latents of two clips, and take the clips away."""
    folder, rng = tmp_path_factory.mktemp("cache"), np.random.default_rng(0)
    for clip in range(2):
        pictures = [rng.integers(0, 256, (20, 30, 3)).astype(np.uint8) for _ in range(6)]
        films.write_pictures(folder / "clips" / f"clip{clip}", pictures)
    crops = CropConfig(frames=6, size=(16, 24), short_sides=(16, 20), crops=1, reference_every=3)
    source, encoder = open_clips("folders", folder / "clips"), Encoder(load_model(model), False)
    open_cache(folder / "latents", source, crops, encoder)
    (folder / "clips").rename(folder / "away")
    return folder / "latents"


def test_all_stages_run_and_write_every_row(model, cache, tmp_path):
    """If this fails, minutes on an accelerator are lost to an error that a CPU would have shown."""
    done = run(tmp_path, "--stages", CHEAP, "--model", model, "--cache", cache, "--minutes", 20)
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stderr + log[-3000:]
    stages = results(tmp_path)
    assert [found["status"] for found in stages.values()] == ["done"] * 5, done.stderr
    named = {name: [row["name"] for row in found["rows"]] for name, found in stages.items()}
    shape = "32 x 2 x 8"
    assert named["attention"] == [f"{shape} {p}" for p in ("cudnn", "splash", "chunked *", "plain")]
    assert named["unet"] == ["jax, 2 frames"]
    assert named["train"] == ["remat=layers"]
    assert named["clip"] == ["jax, 2 frames, 2 steps"]
    for name, found in stages.items():
        assert f"### {STAGES[name].title}\n" in done.stdout
        assert not [row for row in found["rows"] if "error" in row]
    for row in stages["attention"]["rows"][2:]:
        assert max(row["relative_error"], row["gradient_error"]) < 1e-2
    for row in stages["unet"]["rows"] + stages["train"]["rows"]:
        assert row["ms"] > 0 and row["tflops"] > 0 and row["share"] > 0
    assert stages["train"]["rows"][0]["predicted_gib"] > 0
    for row in stages["clip"]["rows"]:
        parts = row["encode_s"] + row["denoise_s"] + row["decode_s"]
        assert row["encode_s"] > 0 and row["decode_s"] > 0
        assert parts == pytest.approx(row["total_s"])
    assert stages["demo"]["rows"][0]["steps"] == 3
    _check_demo(model, tmp_path / "demo")


def _check_demo(model: Path, folder: Path) -> None:
    """The parts hold every weight once, and training has moved them by little."""
    for name in ("unet", "image_encoder"):
        parts = [load_file(path) for path in sorted(folder.glob(f"{name}-*.safetensors"))]
        before = load_file(model / f"{name}.safetensors")
        assert sorted(key for part in parts for key in part) == sorted(before)
    kernel = parts[0]["visual_projection.kernel"].astype(np.float32)
    assert 0 < np.abs(kernel - before["visual_projection.kernel"]).max() < 0.1
    assert (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file()


def test_a_case_that_fails_stops_no_other(cache, tmp_path):
    """If this fails, a missing library or a wrong flag costs the stages behind it.

    `torch` cannot be imported, and the latents are those of another model than the bundled one.
    """
    stages = "demo,unet:diffusers,attention"
    done = run(tmp_path / "out", "--stages", stages, "--cache", cache)
    assert done.returncode == 1
    found = results(tmp_path / "out")
    assert [stage["status"] for stage in found.values()] == ["failed", "failed", "done"]
    lines = done.stderr.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("demo: jax: ") and "with another vae" in lines[0]
    assert lines[1].startswith("unet: diffusers: ") and "No module named 'torch'" in lines[1]
    assert "unet" in (tmp_path / "out" / "tables.md").read_text()


def test_a_budget_that_runs_out_skips_what_is_left(tmp_path):
    """If this fails, a call goes on beyond its budget, or a missing row is not reported."""
    done = run(tmp_path, "--stages", "attention,unet,train", "--minutes", 0.015)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path)
    assert [stage["status"] for stage in found.values()] == ["skipped"] * 3
    assert done.stderr.count("skipped, 0 s of 0.015 minutes were left for ") == 3


def test_a_case_ends_when_its_time_is_up(tmp_path):
    """If this fails, a case that hangs is killed with the whole call, and its tables are lost."""
    request = Request("attention", "paths", True, "cpu", seconds=process.GRACE + 0.1)
    began = time.monotonic()
    with (tmp_path / "log.txt").open("w") as log:
        rows = list(process.measure(request, log))
    assert rows[-1] == {"name": "paths", "error": "stopped: its time was up"}
    assert time.monotonic() - began < request.seconds + 10


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--stages", "attention,unets"], "stage 'unets' is not known; use some of attention,"),
        (["--stages", "train:remat=some"], "use one of remat=layers, remat=attention"),
        (["--minutes", "0"], "--minutes 0; give more than 0."),
    ],
)
def test_mistakes_take_one_line(arguments, reason, tmp_path):
    """If this fails, a mistyped flag is found out on the accelerator."""
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and reason in done.stderr and done.stderr.count("\n") == 1


def test_full_sizes_are_refused_on_a_cpu(tmp_path):
    """If this fails, a run that found no GPU takes hours instead of ending."""
    command = [sys.executable, "benchmarks/accelerator.py", "--output", str(tmp_path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "no accelerator" in done.stderr


def test_every_way_to_rematerialize_is_measured():
    """If this fails, the stage `train` leaves out a setting that a run can have."""
    assert {changes["remat"] for changes in TRAIN.values()} == set(REMAT)


def test_diffusers_networks_are_built_on_the_device():
    """If this fails, parts stay on the CPU, and diffusers is not measured on a GPU."""
    torch = pytest.importorskip("torch", reason="parity needs torch")
    pytest.importorskip("diffusers", reason="parity needs diffusers")
    from benchmarks.stages import diffusers_side, sizes

    network = diffusers_side._build(lambda: diffusers_side._unet_of(sizes.TOY), "meta")
    tensors = [*network.parameters(), *network.buffers()]
    assert {tensor.device for tensor in tensors} == {torch.device("meta")}
