"""Count the fades, dissolves and wipes that are found in clips of one shot, and in made ones.

    python benchmarks/transitions.py --clips CLIPS

CLIPS holds a folder of images for each clip, each a single shot. What is found in a clip itself is
false. Dissolves and wipes are made from random pairs of clips of equal size, fades from the clips.
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
from palette_vc_jax.video.wipes import SIDES, Wipe

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


def mixed(first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return `first` that becomes `second` by its shares `[T, 1 or h, 1 or w]` of each frame."""
    index = np.arange(len(shares))
    before = first[np.minimum(index, len(first) - 1)]
    after = second[np.clip(index - AROUND, 0, len(second) - 1)]
    return (1.0 - shares) * before + shares * after


def ramp(length: int) -> np.ndarray:
    """Return the share of the second shot in each frame, with whole frames at both ends."""
    return np.clip((np.arange(length + 2 * AROUND) - AROUND) / length, 0.0, 1.0)


def wiped(length: int, side: str, size: tuple[int, int]) -> np.ndarray:
    """Return the shares `[T, h, w]` of a wipe."""
    return np.stack(list(Wipe(0, 0, side, tuple(ramp(length))).shares(*size)))[..., 0]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    rng = np.random.default_rng(options.seed)
    clips = {path.name: read_clip(path) for path in sorted(options.clips.iterdir())}
    false = [name for name, clip in clips.items() if any(divide(clip)[1:])]
    print(f"clips with a false transition: {len(false)} of {len(clips)} {' '.join(false)}")
    found = {"dissolves": 0, "wipes": 0, "fades": 0}
    made = dict(found)
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
            second = clips[str(rng.choice(others))]
            side = str(rng.choice(list(SIDES)))
            for kind, shares in {
                "dissolves": ramp(length)[:, None, None],
                "wipes": wiped(length, side, clip.shape[1:]),
            }.items():
                made[kind] += 1
                division = divide(mixed(clip, second, shares))
                middles = [(one.first + one.last) / 2 for one in getattr(division, kind)]
                found[kind] += any(abs(m - AROUND - length / 2) <= 3 for m in middles)
    for kind, count in found.items():
        print(f"{kind} found: {count} of {made[kind]}")


if __name__ == "__main__":
    cli.run(main)
