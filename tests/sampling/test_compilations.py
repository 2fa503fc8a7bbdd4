"""What a film makes XLA compile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from palette_vc_jax import default_settings, load_model, plan_film
from tests import films, tiny

ROOT = Path(__file__).resolve().parents[2]
LENGTHS = (30, 20, 25, 20, 30, 25, 20)


def test_each_network_is_compiled_once_for_all_shots_and_kept(tmp_path):
    """If this fails, a film of many shots, or a second film, waits for the compiler again."""
    model = tiny.write_model(tmp_path / "model", tiny.SMALL)
    rng = np.random.default_rng(0)
    scenes = [np.kron(rng.integers(16, 235, (4, 6)), np.ones((8, 8))) for _ in LENGTHS]
    pictures = [
        np.roll(scene, step, axis=1).astype(np.uint8)
        for scene, length in zip(scenes, LENGTHS, strict=True)
        for step in range(length)
    ]
    film = films.write_film(tmp_path / "in.mkv", pictures, chroma=128)
    shots = plan_film(film, load_model(model, ()), default_settings(tiny.SMALL)).shots
    assert tuple(stop - start for start, stop in shots) == LENGTHS
    flags = (
        f"--input {film} --output {tmp_path / 'out.mkv'} --checkpoint {model} --steps 1 --overwrite"
    )
    environ = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
    }
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.sampling.compilations", *flags.split()],
                cwd=ROOT,
                env=os.environ | environ,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for _ in range(2)
    ]
    # auto colors four frames, and the film is colored in three runs of shots.
    for network in ("encode_frames", "embed_images", "velocity", "decode_latents"):
        assert sum(f"jit_{network}-" in name for name in found[0]["programs"]) == 1, network
    assert found[0]["misses"] == len(found[0]["programs"])
    assert found[1]["misses"] == 0
