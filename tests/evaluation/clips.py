"""Small clips for tests of evaluate.py, and calls of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from palette_vc_jax.commands import evaluate
from tests.commands import command

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
