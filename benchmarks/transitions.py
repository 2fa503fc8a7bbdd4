"""Count the fades and dissolves that are found in clips of one shot, and in made ones.

    python benchmarks/transitions.py --clips CLIPS

CLIPS holds a folder of images for each clip, each a single shot. What is found in a clip itself is
false. Dissolves are made from random pairs of clips of equal size, fades from the clips.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import cli, open_film
from palette_vc_jax.video import color
from palette_vc_jax.video.film import orient
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.resize import model_size, resize
from palette_vc_jax.video.shots import divide

ROWS = 112  # short side of the frames, as the demo model has it
LENGTHS = (8, 12, 16, 20)  # frames of a dissolve or fade
AROUND = 8  # whole frames before and after


def read_clip(folder: Path) -> np.ndarray:
    """Return a clip's Y' `[T, h, w]` in [0, 1] at the size of the model's frames."""
    film = open_film(folder)
    size = model_size(film.height, film.width, ROWS, 8)
    return np.stack(
        [
            resize(orient(color.gray(f.luma, film), film.orientation), *size)
            for f in read_frames(film)
        ]
    )


def dissolve(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """Return `first` mixed over to `second`, after and before `AROUND` whole frames."""
    index = np.arange(length + 2 * AROUND)
    weights = np.clip((index - AROUND) / length, 0.0, 1.0)[:, None, None]
    before = first[np.minimum(index, len(first) - 1)]
    after = second[np.clip(index - AROUND, 0, len(second) - 1)]
    return (1.0 - weights) * before + weights * after


def main(argv: Sequence[str] | None = None) -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    rng = np.random.default_rng(options.seed)
    clips = {path.name: read_clip(path) for path in sorted(options.clips.iterdir())}
    false = [name for name, clip in clips.items() if any(divide(clip)[1:])]
    print(f"clips with a false fade or dissolve: {len(false)} of {len(clips)} {' '.join(false)}")
    found = {"dissolves": 0, "fades": 0}
    made = {"dissolves": 0, "fades": 0}
    for name, clip in clips.items():
        length = int(rng.choice(LENGTHS))
        gains = np.clip(np.arange(len(clip)) / length, 0.0, 1.0)[:, None, None]
        if len(clip) > length + AROUND:
            made["fades"] += 1
            codes = np.rint(219.0 * gains * clip) / 219.0
            found["fades"] += len(divide(codes).fades) == 1
        others = [
            n for n, other in clips.items() if other.shape[1:] == clip.shape[1:] and n != name
        ]
        if others:
            made["dissolves"] += 1
            film = dissolve(clip, clips[str(rng.choice(others))], length)
            middles = [(one.first + one.last) / 2 for one in divide(film).dissolves]
            found["dissolves"] += any(abs(m - AROUND - length / 2) <= 3 for m in middles)
    for kind, count in found.items():
        print(f"{kind} found: {count} of {made[kind]}")


if __name__ == "__main__":
    cli.run(main)
