"""The example script and the notebook run as they are, on a small film and a small model."""

import ast
import dataclasses
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.conversion.svd import flax_to_svd
from palette_vc_jax.models import store
from palette_vc_jax.models.config import UNetConfig, VAEConfig
from palette_vc_jax.models.store import has_palette
from tests import films, tiny

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
# Of the norm groups that diffusers builds networks with.
SVD = dataclasses.replace(
    tiny.CONFIG,
    name="small_svd",
    unet=UNetConfig(
        block_out_channels=(32,), attention=(True,), num_attention_heads=(2,),
        layers_per_block=1, cross_attention_dim=8, addition_time_embed_dim=4,
    ),
    vae=VAEConfig(block_out_channels=(32,), layers_per_block=1),
)  # fmt: skip
SHELL = ("!", "%")  # cells that begin so are commands for a shell or for Jupyter


@pytest.fixture
def place(tmp_path, tmp_path_factory, monkeypatch):
    """Go to a folder that holds a film of three frames, with a small model as the demo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "DEMO", tiny.write_model(tmp_path_factory.mktemp("demo")))
    film = tmp_path / "palette_vc_jax" / "examples" / "bikes.mp4"
    film.parent.mkdir(parents=True)
    films.write_film(film, films.lumas(3), codec="libx264")
    return tmp_path


def test_the_script_colors_a_film(place, monkeypatch, capsys):
    """If this fails, the example that users copy does not run."""
    film = place / "palette_vc_jax" / "examples" / "bikes.mp4"
    monkeypatch.setattr(sys, "argv", ["color_a_film.py", str(film), "colored.mkv"])
    runpy.run_path(str(ROOT / "examples" / "color_a_film.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 frames in 1 shots" and "3 3" in printed
    assert printed[-5] == "colored.mkv" and all(Path(name).is_file() for name in printed[-5:])


def test_the_script_compares_palettes(place, monkeypatch, capsys):
    """If this fails, `make demo` ends without its picture, or all palettes look the same."""
    film = place / "palette_vc_jax" / "examples" / "bikes.mp4"
    arguments = [str(film), "out.png", "navy,skyblue", "tomato,khaki"]
    monkeypatch.setattr(sys, "argv", ["compare_palettes.py", *arguments])
    runpy.run_path(str(ROOT / "examples" / "compare_palettes.py"), run_name="__main__")
    assert capsys.readouterr().out == "out.png\n"
    first, second = np.split(np.asarray(Image.open("out.png")), 2)
    height = len(first) - 24  # of the frame, above the palette's colors
    assert [135, 206, 235] in first[-1].tolist()  # sky blue
    assert np.abs(first[:height].astype(int) - second[:height]).max() > 8


def test_the_notebook_runs(place, capsys):
    """If this fails, the quickstart stops at a cell, or loses the palette layer on the way."""
    names, svd = {}, "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
    small = tiny.write_model(place / "small_svd", SVD)
    (place / svd).parent.mkdir()
    flax_to_svd(small, place / svd, "diffusers")
    for cell in NOTEBOOK["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.startswith(SHELL):
            _run_cell(source.replace("FRAMES = 6", "FRAMES = 3"), names)
    assert (place / "colored.mp4").stat().st_size > 0
    assert names["stronger"].shape == (3, 48, 64, 3)
    assert has_palette(names["svd"]) and "parameters" in capsys.readouterr().out


def test_the_notebook_is_stored_without_outputs():
    """If this fails, a diff of the notebook shows what one machine printed."""
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] == "markdown" or not cell["outputs"]


def _run_cell(source: str, names: dict) -> None:
    """Execute a cell as Jupyter does: the value of its last expression must be there to show."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        eval(compile(ast.Expression(last.value), "cell", "eval"), names)
