"""A region and a keyframe in a shot of the example film: a picture.

    python benchmarks/steering_sheet.py --picture docs/steering.jpg

Top row: two frames under the palette alone, and the second one with a region that was drawn on the
first one. Bottom row: the first frame's true colors, and the second one without and with these
colors as a keyframe.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from restoring_sheet import write_sheet

from palette_vc_jax import (
    DEMO,
    Keyframe,
    Palette,
    Region,
    cli,
    color_film,
    default_settings,
    load_model,
    open_film,
    plan_film,
)
from palette_vc_jax.video.rgb import read_rgb

PALETTE = "khaki,teal"
REGION = "tomato"
SHOT = slice(84, 138)  # frames of the source
BOX = np.s_[40:272, 0:330]  # the van in the first frame
FIRST, SECOND = 12, 48  # frames of the shot
WIDTH = 320  # of a frame in the picture


def main(argv: Sequence[str] | None = None) -> None:
    """Color the shot three times and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--film", type=Path, default=Path("examples/bikes.mp4"))
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args(argv)
    model, palette = load_model(options.model), Palette.from_spec(PALETTE)
    truth = list(read_rgb(open_film(options.film)))[SHOT]
    mask = np.zeros(truth[0].shape[:2], np.float32)
    mask[BOX] = 1.0
    ways = {
        "palette": {},
        "region": {"regions": [Region(Palette.from_spec(REGION), mask, FIRST)]},
        "keyframe": {"keyframes": [Keyframe(FIRST, truth[FIRST])]},
    }
    films = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "film"
        folder.mkdir()
        for index, frame in enumerate(truth):
            cv2.imwrite(str(folder / f"{index:03d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        plan = plan_film(folder, model, default_settings(model.config))
        for way, steering in ways.items():
            with cli.reporting(way, "frame", plan.frames) as report:
                result = color_film(
                    plan, Path(name) / way, model, palette, None, report, **steering
                )
            films[way] = list(read_rgb(open_film(result.film)))
    plain = films["palette"]
    rows = [
        [plain[FIRST], plain[SECOND], films["region"][SECOND]],
        [truth[FIRST], plain[SECOND], films["keyframe"][SECOND]],
    ]
    write_sheet(options.picture, rows, WIDTH)


if __name__ == "__main__":
    cli.run(main)
