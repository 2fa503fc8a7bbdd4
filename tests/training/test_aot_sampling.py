"""What `sample.py --topology` says of hardware that is not there."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests import films, tiny
from tests.commands import runtime_environment

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
