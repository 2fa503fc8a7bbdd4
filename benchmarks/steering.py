"""Measure what regions and keyframes do to clips whose colors are known, and print the tables.

    python benchmarks/steering.py --clips ../shared/footage/val

Every clip is colored under the palette of its own middle frame, then twice more:

- with its true middle frame as a keyframe: does the chroma error fall, and do colors stay steady
  (CDC of a*b*) through the keyframe?
- with a region, a box in the middle of the middle frame that follows the picture, whose palette is
  that of the frame turned to one hue: is this the mean hue inside, and what changes outside?
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from skimage.color import lab2rgb, rgb2lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import (
    DEMO,
    Keyframe,
    Model,
    Palette,
    Plan,
    Region,
    cli,
    color_film,
    default_settings,
    load_model,
    plan_film,
)
from palette_vc_jax.commands import flags
from palette_vc_jax.data.sources import list_clips
from palette_vc_jax.images import read_image
from palette_vc_jax.metrics.meters import measure
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.sampling.regions import carry_regions
from palette_vc_jax.video.image_files import find_images
from palette_vc_jax.video.resize import resize

HUE, CHROMA = 300.0, 35.0  # degrees in (a*, b*), purple, and the length of the vector
BOX = 0.3  # sides of the region's box, as shares of the frame's
MARGIN = 0.05  # shares below and above which a pixel is outside and inside


def color(plan: Plan, model: Model, palette: Palette, **steering: Any) -> np.ndarray:
    """Color a film; return its frames, uint8 `[T, H, W, 3]`."""
    with tempfile.TemporaryDirectory() as folder:
        color_film(plan, Path(folder) / "out", model, palette, **steering)
        return np.stack([read_image(path) for path in find_images(Path(folder) / "out")])


def turned(palette: Palette) -> Palette:
    """Return a palette whose colors have the hue `HUE` and keep their lightness."""
    lab = rgb2lab(palette.colors)
    angle = np.deg2rad(HUE)
    lab[:, 1:] = CHROMA * np.array([np.cos(angle), np.sin(angle)])
    return Palette.from_colors(np.clip(lab2rgb(lab), 0.0, 1.0))


def box(height: int, width: int) -> np.ndarray:
    """Return the mask of a box in the middle of a frame."""
    mask = np.zeros((height, width), np.float32)
    rows, columns = (round(side * (1.0 - BOX) / 2.0) for side in (height, width))
    mask[rows : height - rows, columns : width - columns] = 1.0
    return mask


def region_row(
    plan: Plan, model: Model, palette: Palette, plain: np.ndarray, middle: int
) -> tuple[float, float]:
    """Return the hue's error inside a region in degrees, and the change of a*b* outside."""
    region = Region(turned(palette), box(*plain.shape[1:3]), middle, "box")
    found = color(plan, model, palette, regions=[region])
    maps = carry_regions(plan.film, plan.shots, plan.latent_shape[:2], [region])
    shares = maps.shares(plan.shots)[..., 1]
    large = np.stack([resize(share, *plain.shape[1:3]) for share in shares])
    lab, before = rgb2lab(found)[..., 1:], rgb2lab(plain)[..., 1:]
    a, b = lab[large > 1.0 - MARGIN].mean(0)
    error = (np.rad2deg(np.arctan2(b, a)) - HUE + 180.0) % 360.0 - 180.0
    change = np.linalg.norm(lab - before, axis=-1)[large < MARGIN].mean()
    return abs(error), float(change)


def keyframe_row(
    plan: Plan, model: Model, palette: Palette, truth: np.ndarray, plain: np.ndarray, middle: int
) -> list[float]:
    """Return chroma error and CDC without and with the true middle frame as a keyframe."""
    keyed = color(plan, model, palette, keyframes=[Keyframe(middle, truth[middle])])
    without, given = (measure(("chroma_error", "cdc_ab"), film, truth) for film in (plain, keyed))
    return [without["chroma_error"], given["chroma_error"], without["cdc_ab"], given["cdc_ab"]]


def main(argv: list[str] | None = None) -> None:
    """Print a row for each clip as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=DEMO, help="model folder")
    add("--clips", type=Path, default=Path("../shared/footage/val"), help="folder of frame folders")
    add("--only", nargs="*", default=[], help="clips to color, by name")
    flags.add_settings(parser)
    options = parser.parse_args(argv)
    model = load_model(options.model)
    settings = default_settings(model.config, **PLAIN | flags.settings_of(options))
    print("| clip | error | with keyframe | CDC | with keyframe | hue's error | change outside |")
    print("|---|---|---|---|---|---|---|")
    for folder in list_clips(options.clips):
        if options.only and folder.name not in options.only:
            continue
        truth = np.stack([read_image(path) for path in find_images(folder)])
        middle = len(truth) // 2
        palette = Palette.from_image(truth[middle])
        plan = plan_film(folder, model, settings)
        plain = color(plan, model, palette)
        row = keyframe_row(plan, model, palette, truth, plain, middle)
        row += region_row(plan, model, palette, plain, middle)
        cells = " | ".join(f"{value:.3f}" if value < 1.0 else f"{value:.1f}" for value in row)
        print(f"| {folder.name} | {cells} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
