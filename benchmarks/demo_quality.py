"""Measure how well a model colors clips whose colors are known, and print the tables.

    python benchmarks/demo_quality.py

Colors every clip under five palettes: `image` (from the clip's own true middle frame), `auto` (the
default of `sample.py`), `gmm` (from the model's mixture, by seed), `other` (the next clip's `image`
palette) and `none`. Beside them stand the truth and three films that need no model, made with the
`image` palette: `gray`, a copy of the input; `tint`, the palette's mean chroma everywhere;
`lookup`, at each pixel the chroma of the palette color nearest in luma. Films are compared at the
model's own size, and all of them have the luma of the truth, as the product's output has its
source's.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
from quality_tables import NOTES, Record, clip_table, row_table, target_table

from palette_vc_jax import (
    DEMO,
    ColorizeSettings,
    Palette,
    cli,
    color_frames,
    default_settings,
    load_model,
)
from palette_vc_jax.commands import flags
from palette_vc_jax.data.sources import list_clips
from palette_vc_jax.images import read_image
from palette_vc_jax.metrics.adherence import frame_palette
from palette_vc_jax.metrics.color import palette_distance
from palette_vc_jax.metrics.meters import measure as measures
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.networks import Networks, load_networks
from palette_vc_jax.models.store import file_hashes
from palette_vc_jax.palette import gmm
from palette_vc_jax.pixels import luma, to_gray3
from palette_vc_jax.sampling import auto
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.video.color import limit_gamut, rgb_to_chroma, ycc_to_rgb
from palette_vc_jax.video.image_files import find_images
from palette_vc_jax.video.resize import model_size, resize

MATRIX = "bt601"  # of JPEG frames
PALETTES = ("image", "auto", "gmm", "other", "none")
BASELINES = ("truth", "gray", "tint", "lookup")
SCORES = {  # column of the tables -> metric
    "correlation": "chroma_correlation",
    "colorfulness": "colorfulness",
    "histogram": "histogram_distance",
    "cdc": "cdc_ab",
    "error": "chroma_error",
}


class Clip(NamedTuple):
    """A film whose colors are known, at the model's size."""

    name: str
    truth: np.ndarray  # [T, H, W, 3] float32 sRGB in [0, 1]
    gray: np.ndarray  # [T, H, W], its Y'


def load_clip(folder: Path, frames: int, short_side: int, multiple: int) -> Clip:
    """Read the first frames of a clip at the model's size.

    Raises ValueError for fewer than 5 frames: the CDC compares frames 4 apart.
    """
    pictures = []
    for path in find_images(folder)[:frames]:
        picture = read_image(path).astype(np.float32) / 255.0
        size = model_size(*picture.shape[:2], short_side, multiple)
        pictures.append(np.clip(resize(picture, *size), 0.0, 1.0))
    if len(pictures) < 5:
        raise ValueError(f"{folder}: {len(pictures)} frames to measure; give at least 5.")
    truth = np.stack(pictures).astype(np.float32)
    return Clip(folder.name, truth, to_gray3(truth)[..., 0])


def middle_palette(film: np.ndarray, source: str) -> Palette:
    """Take the palette of a film's middle frame."""
    return frame_palette(film[len(film) // 2], source)


def with_chroma(gray: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Put chroma `[T, H, W, 2]` to luma `[T, H, W]`, scaled toward neutral where out of gamut."""
    rgb = ycc_to_rgb(gray, limit_gamut(gray, chroma, MATRIX), MATRIX)
    return np.clip(rgb, 0.0, 1.0).astype(np.float32)


def baseline(kind: str, clip: Clip, palette: Palette) -> np.ndarray:
    """Color a clip without a model; `kind` is a name in `BASELINES`."""
    if kind == "truth":
        return clip.truth
    chroma = rgb_to_chroma(palette.colors, MATRIX)  # [P, 2]
    shape = (*clip.gray.shape, 2)
    if kind == "gray":
        return with_chroma(clip.gray, np.zeros(shape, np.float32))
    if kind == "tint":
        return with_chroma(clip.gray, np.broadcast_to(chroma.mean(axis=0), shape))
    return with_chroma(clip.gray, nearest_chroma(clip.gray, palette))


def nearest_chroma(gray: np.ndarray, palette: Palette) -> np.ndarray:
    """Return `[..., 2]` the chroma of the palette color that is nearest in luma to each pixel."""
    lumas = luma(palette.colors)
    nearest = np.abs(gray[..., None] - lumas).argmin(axis=-1)
    return rgb_to_chroma(palette.colors, MATRIX)[nearest]


def color_clip(
    networks: Networks, clip: Clip, palette: Palette | None, settings: ColorizeSettings, seed: int
) -> np.ndarray:
    """Color a clip by the model, under the luma of the truth."""
    return color_frames(clip.gray, networks, palette, settings, seed=seed, matrix=MATRIX)


def score(
    film: np.ndarray, clip: Clip, asked: Palette | None, others: list[Palette]
) -> dict[str, float]:
    """Measure a film; without a requested palette, there is no (d).

    `others` are the palettes that were not requested.
    """
    found = middle_palette(film, clip.name).colors
    adherence = {}
    if asked is not None:
        distances = [palette_distance(other.colors, found) for other in others]
        adherence["asked"] = palette_distance(asked.colors, found)
        adherence["others"] = float(np.mean(distances))
    scores = measures(SCORES.values(), film, clip.truth)
    named = {key: scores[name] for key, name in SCORES.items()}
    true = measures(["colorfulness"], clip.truth)["colorfulness"]
    return adherence | named | {"colorfulness": named["colorfulness"] / max(true, 1e-6)}


def ask(
    row: str, index: int, seed: int, palettes: list[Palette], mixture: gmm.Mixture | None
) -> Palette | None:
    """Return the palette of a row for a clip; baselines have the clip's own."""
    if row == "none":
        return None
    if row == "gmm":
        return gmm.sample(mixture, seed)
    return palettes[(index + (row == "other")) % len(palettes)]


def automatic(
    networks: Networks, clip: Clip, settings: ColorizeSettings, seed: int, target: float | None
) -> Palette:
    """Return the palette that `sample.py` takes by default; `target` as in `palette_of_grays`."""
    grays = clip.gray[auto.spread((0, len(clip.gray)), auto.FRAMES)]
    return auto.palette_of_grays(grays, networks, target, settings, seed, matrix=MATRIX)


def measure(
    options: argparse.Namespace, networks: Networks, settings: ColorizeSettings
) -> list[Record]:
    """Color and score all clips, and write the contact sheet of each where asked."""
    clips, chosen = choose_clips(options, networks.config, settings)
    palettes = [middle_palette(clip.truth, f"image:{clip.name}") for clip in clips]
    fitted = options.model / "mixture.json"
    mixture = gmm.load(fitted) if "gmm" in options.palettes else None
    target = auto.training_colorfulness(fitted) if "auto" in options.palettes else None
    films = [(row, 0) for row in BASELINES]
    films += [(row, seed) for row in options.palettes for seed in range(options.seeds)]
    frames = sum(len(clips[index].gray) for index in chosen) * (len(films) - len(BASELINES))
    records = []
    with tqdm(total=frames, desc="coloring", unit="frame", disable=None) as bar:
        for index in chosen:
            clip, sheet = clips[index], {}
            times = np.linspace(0, len(clip.gray) - 1, 6).round().astype(int)
            for row, seed in films:
                if row == "auto":
                    asked = automatic(networks, clip, settings, seed, target)
                else:
                    asked = ask(row, index, seed, palettes, mixture)
                if row in BASELINES:
                    film = baseline(row, clip, asked)
                else:
                    film = color_clip(networks, clip, asked, settings, seed)
                    bar.update(len(film))
                others = [palette for palette in palettes if palette is not asked]
                records.append(Record(clip.name, row, seed, score(film, clip, asked, others)))
                sheet.setdefault(row, (film[times], asked))
            if options.pictures:
                rows = {row: sheet[row] for row in ("truth", "gray", *options.palettes)}
                save_sheet(options.pictures / f"{clip.name}.png", rows)
    return records


def choose_clips(
    options: argparse.Namespace, config: ModelConfig, settings: ColorizeSettings
) -> tuple[list[Clip], list[int]]:
    """Load all clips, and give the indices of those to color.

    Raises ValueError for fewer than two clips, which `other` needs, and for names not among them.
    """
    folders = list_clips(options.clips)
    if options.hold_out:  # those that training with `data.hold_out_every` leaves out
        folders = folders[options.hold_out - 1 :: options.hold_out]
    names = [folder.name for folder in folders]
    if len(names) < 2:
        raise ValueError(f"{options.clips}: {len(names)} clips to measure; give at least 2.")
    unknown = sorted(set(options.only) - set(names))
    if unknown:
        raise ValueError(f"{options.clips}: no clip {unknown[0]!r}; it has {', '.join(names)}.")
    clips = [
        load_clip(folder, options.frames, settings.short_side, config.pixel_multiple)
        for folder in folders
    ]
    return clips, [i for i, name in enumerate(names) if not options.only or name in options.only]


def save_sheet(path: Path, rows: dict[str, tuple[np.ndarray, Palette | None]]) -> None:
    """Write a contact sheet, two pixels a pixel: a row for each film.

    A row has the film's name over its palette at the left, then pictures `[n, H, W, 3]`.
    """
    bands = []
    for name, (pictures, palette) in rows.items():
        height = 2 * pictures.shape[1]
        label = Image.new("RGB", (80, height), "white")
        draw = ImageDraw.Draw(label)
        draw.text((4, 4), name, fill="black")
        for index, code in enumerate(palette.hex() if palette else []):
            draw.rectangle((4 + 14 * index, 24, 17 + 14 * index, 48), fill=code)
        codes = np.rint(np.concatenate(list(pictures), axis=1) * 255.0).astype(np.uint8)
        strip = Image.fromarray(codes)
        strip = strip.resize((2 * strip.width, height), Image.Resampling.BICUBIC)
        bands.append(np.concatenate([np.asarray(label), np.asarray(strip)], axis=1))
    Image.fromarray(np.concatenate(bands)).save(path)


def report(options: argparse.Namespace) -> Iterator[str]:
    """Measure, write the scores where asked, and yield the report's paragraphs."""
    for folder in (options.pictures, options.json and options.json.parent):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    model = load_model(options.model)
    settings = default_settings(model.config, **PLAIN | flags.settings_of(options))
    start = time.time()
    records = measure(options, load_networks(model), settings)
    about = {
        "model": str(options.model),
        "weights": file_hashes(options.model),
        "settings": asdict(settings),
        "clips": str(options.clips),
        "frames": options.frames,
        "seeds": options.seeds,
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.time() - start),
    }
    if options.json:
        content = about | {"records": [record._asdict() for record in records]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    yield "\n".join(f"{key}: {value}" for key, value in about.items())
    yield NOTES
    if "image" in options.palettes:
        yield clip_table(records)
    yield row_table(records)
    if {"image", "auto"} <= set(options.palettes):
        yield target_table(records)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )

    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    add = parser.add_argument
    add("--model", type=Path, default=DEMO, help="model folder")
    add("--clips", type=Path, default=Path("../shared/footage/val"), help="folder of frame folders")
    add("--hold_out", type=int, default=0, help="color each N-th clip alone; 0 colors all")
    add("--only", type=names, default=[], help="clips to color, by name, commas between")
    add("--frames", type=int, default=32, help="frames from the start of a clip")
    add("--seeds", type=int, default=3, help="films a clip and palette: seeds 0 to N - 1")
    add("--palettes", type=names, default=list(PALETTES), help="rows, commas between")
    add("--json", type=Path, help="file for all scores")
    add("--pictures", type=Path, help="folder for a contact sheet a clip, seed 0")
    flags.add_settings(parser)
    options = parser.parse_args(argv)
    unknown = sorted(set(options.palettes) - set(PALETTES))
    if unknown:
        parser.error(f"palette {unknown[0]!r}; use some of {','.join(PALETTES)}")
    if options.seeds < 1:
        parser.error(f"{options.seeds} seeds; at least 1 is needed")
    return options


def main(argv: list[str] | None = None) -> None:
    """Print the report; the tables come last."""
    print("\n\n".join(report(parse(argv))))


if __name__ == "__main__":
    cli.run(main)
