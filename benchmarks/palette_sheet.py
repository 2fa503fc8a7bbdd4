"""Color one shot under six palettes: the picture of the README, and what blue and orange do.

    python benchmarks/palette_sheet.py --picture docs/palettes.png

Prints, for each palette, the mean of a* and b* and where it lies between blue and orange, for the
model and for `tint` (the palette's mean chroma everywhere), which any palette moves.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import DEMO, Film, Palette, cli, color_frames, load_model, open_film
from palette_vc_jax.models.networks import load_networks
from palette_vc_jax.video import color
from palette_vc_jax.video.read import read_frames

PALETTES = {
    "none": None,
    "blues": "#0b1d3a,#1d4e89,#3a7ca5,#81b1d5,#d9e8f5",
    "oranges": "#3b1c0a,#8a3d0f,#d2691e,#f4a259,#fbe3c0",
    "greens": "#12240f,#2f4f1f,#5b7f3a,#9ab973,#e3ecc8",
    "street": "#2b2b2b,#5a4a42,#8c6a4f,#7fa3c7,#e6dccb",
    "night": "#120c24,#3c1f5b,#7b2d8b,#d1495b,#f2c14e",
}
ORANGE = np.array([0.5, 0.866])  # in (a*, b*): 60 degrees; blue lies opposite


def color_shot(
    film: Film,
    first: int,
    count: int,
    model: Path,
    seed: int,
    palettes: Mapping[str, Palette | None],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Color frames `first` to `first + count`, as one shot, under each of `palettes`.

    Returns Y' `[H, W]` of the middle frame, and its RGB `[H, W, 3]` by the palette's name.
    """
    networks = load_networks(load_model(model))
    frames = itertools.islice(read_frames(film), first, first + count)
    gray = np.stack([color.gray(frame.luma, film) for frame in frames])
    middle = len(gray) // 2
    films = {
        name: color_frames(gray, networks, palette, seed=seed, matrix=film.matrix)
        for name, palette in palettes.items()
    }
    return gray[middle], {name: frames[middle] for name, frames in films.items()}


def to_rgb(gray: np.ndarray, chroma: np.ndarray, film: Film) -> np.ndarray:
    """Merge Y' and chroma, within the gamut."""
    limited = color.limit_gamut(gray, chroma, film.matrix)
    return np.clip(color.ycc_to_rgb(gray, limited, film.matrix), 0.0, 1.0)


def tint(palette: Palette, gray: np.ndarray, film: Film) -> np.ndarray:
    """Set every pixel to the mean chroma of a palette."""
    mean = color.rgb_to_chroma(palette.colors, film.matrix).mean(axis=0)
    return np.broadcast_to(mean, (*gray.shape, 2))


def picture(
    films: Mapping[str, np.ndarray], palettes: Mapping[str, Palette | None], columns: int = 3
) -> Image.Image:
    """Lay out one frame per palette, with the palette's colors along its lower edge."""
    tiles = []
    for name, rgb in films.items():
        tile = np.rint(255.0 * rgb).astype(np.uint8)
        height, width = tile.shape[:2]
        swatch = np.full((height // 12, width, 3), 255, np.uint8)
        if palettes[name] is not None:
            codes = np.rint(255.0 * palettes[name].colors).astype(np.uint8)
            swatch[:] = codes[np.arange(width) * len(codes) // width]
        tiles.append(np.pad(np.concatenate([tile, swatch]), [(0, 6), (0, 6), (0, 0)],
                            constant_values=255))  # fmt: skip
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return Image.fromarray(np.concatenate(rows))


def main(argv: list[str] | None = None) -> None:
    """Color, print the table, write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", default="examples/bikes.mp4", help="film")
    parser.add_argument("--model", type=Path, default=DEMO, help="model folder")
    parser.add_argument("--first", type=int, default=160, help="frame to begin with")
    parser.add_argument("--frames", type=int, default=12, help="frames to color")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--picture", type=Path, help="file for the middle frame under each palette")
    args = parser.parse_args(argv)
    film = open_film(args.input)
    palettes = {
        name: Palette.from_colors(spec) if spec else None for name, spec in PALETTES.items()
    }
    gray, films = color_shot(film, args.first, args.frames, args.model, args.seed, palettes)
    print("| palette | model a* | model b* | model toward orange | tint toward orange |")
    print("|---|---|---|---|---|")
    for name, rgb in films.items():
        palette = palettes[name]
        a, b = rgb2lab(rgb)[..., 1:].mean(axis=(0, 1))
        tinted = "-"
        if palette is not None:
            flat = rgb2lab(to_rgb(gray, tint(palette, gray, film), film))
            tinted = f"{flat[..., 1:].mean(axis=(0, 1)) @ ORANGE:+.1f}"
        print(f"| {name} | {a:+.1f} | {b:+.1f} | {np.array([a, b]) @ ORANGE:+.1f} | {tinted} |")
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        picture(films, palettes).save(args.picture)


if __name__ == "__main__":
    cli.run(main)
