"""Color one shot under palettes from words: the picture of the README.

    python benchmarks/words_sheet.py --input CLIP --picture docs/words.png

The words' colors come from the built-in table. Prints each palette, and the mean of a* and b* of
the middle frame under it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.color import rgb2lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_sheet import color_shot, picture

from palette_vc_jax import DEMO, Palette, cli, open_film
from palette_vc_jax.palette.words import remarks

WORDS = (
    "a garden, green leaves, a red rose",
    "autumn, a red tram, wet asphalt",
    "a lake in the moonlight, violet flowers",
)
LINE = 26  # pixels of a caption


def captioned(rgb: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text above a picture `[H, W, 3]` in [0, 1]."""
    line = Image.new("RGB", (rgb.shape[1], LINE), "white")
    font = ImageFont.load_default(LINE * 5 // 8)
    ImageDraw.Draw(line).text((2, LINE // 2), text, fill="black", font=font, anchor="lm")
    return np.concatenate([np.asarray(line, np.float32) / 255.0, rgb])


def main(argv: list[str] | None = None) -> None:
    """Color, print the table, write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", default="examples/bikes.mp4", help="film or folder of frames")
    parser.add_argument("--model", type=Path, default=DEMO, help="model folder")
    parser.add_argument("--first", type=int, default=0, help="frame to begin with")
    parser.add_argument("--frames", type=int, default=12, help="frames to color")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--words", action="append", help="words; may be given more than once")
    parser.add_argument("--picture", type=Path, help="file for the middle frame under each palette")
    args = parser.parse_args(argv)
    film = open_film(args.input)
    palettes = {text: Palette.from_words(text) for text in args.words or WORDS}
    _, films = color_shot(film, args.first, args.frames, args.model, args.seed, palettes)
    print("| words | palette | a* | b* |")
    print("|---|---|---|---|")
    for name, rgb in films.items():
        a, b = rgb2lab(rgb)[..., 1:].mean(axis=(0, 1))
        print(f"| {name} | {' '.join(palettes[name].hex())} | {a:+.1f} | {b:+.1f} |")
        for remark in remarks(palettes[name])[1:]:
            print(remark, file=sys.stderr)
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        tiles = {name: captioned(rgb, name) for name, rgb in films.items()}
        picture(tiles, palettes).save(args.picture)


if __name__ == "__main__":
    cli.run(main)
