"""Color bars, a title, a fade, a dissolve and a wipe with and without their corrections: a picture.

    python benchmarks/restoring_sheet.py --picture docs/restoring.jpg

The film is made from the example film. Top row: the film; middle: the model's chroma as it is;
bottom: as films are colored by default.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import (
    DEMO,
    Palette,
    cli,
    color_film,
    default_settings,
    load_model,
    open_film,
    plan_film,
)
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.video import color
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.rgb import read_rgb
from palette_vc_jax.video.wipes import Wipe

PALETTE = "khaki,#2c4a6e,#a0522d"
BAR = 24  # rows of each letterbox bar
TITLE, FADE, MIXED = 8, 14, 12  # frames of a title, a fade, and a dissolve or wipe
AROUND = 6  # whole frames before and after
SECOND, THIRD = 138, 190  # frames of the source where the later shots begin
SHOWN = (4, 13, 17, 31, 37, 42, 61, 66)  # frames of the picture
WIDTH = 240  # of a frame in the picture


def make_film(source: Path) -> list[np.ndarray]:
    """Return gray frames `[H, W]`, uint8: a title, a fade from black, a dissolve and a wipe."""
    film = open_film(source)
    gray = [color.gray(frame.luma, film) for frame in read_frames(film)]
    gains = np.clip(np.arange(FADE + AROUND) / FADE, 0.0, 1.0)
    faded = [gain * frame for gain, frame in zip(gains, gray[32:], strict=False)]
    ramp = np.clip((np.arange(MIXED + 2 * AROUND) - AROUND) / MIXED, 0.0, 1.0)
    wiped = Wipe(0, 0, "left", tuple(ramp)).shares(*gray[0].shape)
    dissolve = _mixed(gray, gray[SECOND:], ramp)
    wipe = _mixed(gray[SECOND + len(ramp) :], gray[THIRD:], [one[..., 0] for one in wiped])
    noise = np.random.default_rng(0)
    frames = []
    for index, frame in enumerate([*gray[:TITLE], *faded, *dissolve, *wipe]):
        codes = np.rint(255.0 * frame).astype(np.uint8)
        if index < TITLE:
            place = 110, codes.shape[0] // 2 + 20
            cv2.putText(
                codes, "Next morning", place, cv2.FONT_HERSHEY_DUPLEX, 2, 250, 4, cv2.LINE_AA
            )
        bars = np.clip(noise.normal(6.0, 3.0, (2, BAR, codes.shape[1])), 0, 255)
        frames.append(np.vstack([bars[0], codes, bars[1]]).astype(np.uint8))
    return frames


def _mixed(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], shares: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return frames of two shots, mixed by the share of the second one."""
    return [
        (1.0 - share) * before + share * after
        for share, before, after in zip(shares, first, second, strict=False)
    ]


def write_sheet(path: Path, rows: Sequence[Sequence[np.ndarray]], width: int) -> None:
    """Write a picture of sRGB frames `[H, W, 3]` uint8 in rows, each `width` pixels wide."""
    small = []
    for row in rows:
        height = round(width * row[0].shape[0] / row[0].shape[1])
        size = (width, height)
        small.append(np.hstack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in row]))
    picture = cv2.cvtColor(np.vstack(small), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"picture: {path}")


def main(argv: Sequence[str] | None = None) -> None:
    """Color the film twice and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--film", type=Path, default=Path("examples/bikes.mp4"))
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--palette", default=PALETTE)
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args(argv)
    model, palette = load_model(options.model), Palette.from_spec(options.palette)
    frames = make_film(options.film)
    rows = [[cv2.cvtColor(frames[index], cv2.COLOR_GRAY2RGB) for index in SHOWN]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "film"
        folder.mkdir()
        for index, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"{index:03d}.png"), frame)
        for kind, changes in (("plain", PLAIN), ("default", {})):
            plan = plan_film(folder, model, default_settings(model.config, **changes))
            print(f"{kind}: shots {plan.shots}, fades {[fade[:2] for fade in plan.fades]}, "
                  f"dissolves {[one[:2] for one in plan.dissolves]}, "
                  f"wipes {[one[:2] for one in plan.wipes]}")  # fmt: skip
            with cli.reporting(kind, "frame", plan.frames) as report:
                result = color_film(plan, Path(name) / kind, model, palette, None, report)
            colored = list(read_rgb(open_film(result.film)))
            rows.append([colored[index] for index in SHOWN])
    write_sheet(options.picture, rows, WIDTH)


if __name__ == "__main__":
    cli.run(main)
