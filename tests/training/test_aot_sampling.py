"""What `sample.py --topology` says of hardware that is not there."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from palette_vc_jax import default_settings
from palette_vc_jax.commands import sample
from palette_vc_jax.models import config as model_config
from palette_vc_jax.sampling.memory_plan import fit
from palette_vc_jax.training.aot import targets
from tests import films, tiny
from tests.commands import command, runtime_environment

ROOT = Path(__file__).resolve().parents[2]


def test_the_memory_of_each_stage_is_reported(tmp_path, monkeypatch):
    """If this fails, nobody learns before renting a GPU whether a film's frames fit it."""
    monkeypatch.syspath_prepend(Path(sys.prefix) / "cuda_compiler")
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        pytest.skip("compiling needs jax_cuda13_plugin; make test installs it")
    film = films.write_film(tmp_path / "in.mkv", films.lumas(9), chroma=128)
    model = tiny.write_model(tmp_path / "model", tiny.MICRO)
    flags = ["--input", film, "--output", tmp_path / "out.mkv", "--checkpoint", model]
    done = subprocess.run(
        [sys.executable, "sample.py", *map(str, flags), "--topology", "h100:2"],
        cwd=ROOT,
        env=runtime_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    title, head, *rows = done.stdout.splitlines()
    assert title == "NVIDIA H100 80GB HBM3, for each device:" and head.split()[0] == "stage"
    assert [row.split()[0] for row in rows] == ["encode", "embed", "denoise", "decode"]
    assert all(row.endswith("  yes") for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "model"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--dtype", "fp8"), "dtype 'fp8' is not known"),
        (("--attention", "splash"), "attention 'splash' on NVIDIA H100"),
        (("--devices", "3"), "3 devices of 2; give a number from 1 to 2"),
        (("--memory", "0.0001"), "(denoise), and 0.00 may be used"),
    ],
)
def test_flags_are_checked_against_the_named_hardware(tmp_path, monkeypatch, capsys, flags, said):
    """If this fails, a flag is a traceback, or it is ignored and the numbers are of another run."""
    gpu = SimpleNamespace(
        platform="gpu", device_kind="NVIDIA H100", compute_capability="9.0", memory_stats=None
    )
    monkeypatch.setattr(targets, "topology_devices", lambda name: [gpu, gpu])
    film = films.write_film(tmp_path / "in.mkv", films.lumas(3), chroma=128)
    model = tiny.write_model(tmp_path / "model", tiny.MICRO)
    given = ["--input", film, "--output", tmp_path / "out.mkv", "--checkpoint", model]
    given += ["--compile_only", "--topology", "h100:2", *flags]
    assert command(sample.main, *given) == 2
    assert said in capsys.readouterr().err


def test_the_named_hardware_chooses_the_types():
    """If this fails, --memory plans a GPU's networks in the type of this machine."""
    gpu = SimpleNamespace(platform="gpu", compute_capability="9.0", memory_stats=None)
    config = model_config.PRESETS["svd_xt"]()
    settings = default_settings(config, memory=14)
    assert fit(config, settings, (576, 1024), gpu).leaving is False
    assert fit(config, settings, (576, 1024)).leaving is True  # float32 on the CPU
    assert fit(config, default_settings(config), (576, 1024), gpu) == default_settings(config)
