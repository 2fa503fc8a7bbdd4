"""Print the table of `evaluate.py` for the bundled model on clips whose colors are known.

    python benchmarks/evaluation.py --clips ../shared/footage/val

Rows: the truth, its gray copy, `lookup` (at each pixel the chroma of that color of the first true
frame's palette which is nearest in luma: no model at all), and the model without a palette (A),
under its mixture (B) and under the first true frame's palette (D).
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_quality import nearest_chroma, with_chroma

import palette_vc_jax
from palette_vc_jax import cli
from palette_vc_jax.commands import evaluate
from palette_vc_jax.evaluation.ablations import first_frame
from palette_vc_jax.evaluation.films import find_films
from palette_vc_jax.metrics.chunk import Chunk
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.rgb import read_rgb


def write_lookup(name: str, path: Path, folder: Path) -> None:
    """Color one film by its palette and luma alone, into PNG frames."""
    folder.mkdir(parents=True, exist_ok=True)
    palette = first_frame(name, path, 0)
    for index, frame in enumerate(read_rgb(open_film(path))):
        gray = Chunk(frame[None]).luma / 255.0
        film = with_chroma(gray, nearest_chroma(gray, palette))
        Image.fromarray(Chunk(film).codes[0]).save(folder / f"{index:05}.png")


def main(argv: list[str] | None = None) -> None:
    """Color, measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    demo = Path(palette_vc_jax.__file__).parent / "demo"
    add("--model", type=Path, default=demo, help="model folder")
    add("--clips", type=Path, default=Path("../shared/footage/val"), help="folder of frame folders")
    add("--weights", type=Path, help="folder of the metric networks' weights")
    add("--workdir", type=Path, default=Path("runs/evaluation"), help="folder for the films")
    options = parser.parse_args(argv)
    for name, path in find_films(options.clips).items():
        write_lookup(name, path, options.workdir / "lookup" / name)
    flags = ["--checkpoint", options.model, "--data", options.clips, "--tables"]
    flags += ["--output", f"lookup={options.workdir / 'lookup'}", "--workdir", options.workdir]
    flags += ["--json", options.workdir / "evaluation.json"]
    flags += ["--weights", options.weights] if options.weights else []
    evaluate.main([str(flag) for flag in flags])


if __name__ == "__main__":
    cli.run(main)
