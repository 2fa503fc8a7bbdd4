"""Compute the published test vector of FVD: 10.138 between two sets of 128 random videos.

    python benchmarks/fvd_vector.py [--videos N] [--features FILE.npz]

The sets are numpy's RandomState(1) and (2) `.rand(128, 16, 224, 224, 3)`, fed to the network as
they are (https://github.com/universome/fvd-comparison: 10.138085 by StyleGAN-V's network). About
three minutes on two cores; with fewer videos, the distance is that of the first ones.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from palette_vc_jax import cli
from palette_vc_jax.metrics import frechet
from palette_vc_jax.metrics.networks import i3d, weights

VIDEOS, EXPECTED = 128, 10.138079
SETS = {"a": 1, "b": 2}  # name in the file of known features -> seed


def main(argv: list[str] | None = None) -> None:
    """Compute, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=VIDEOS, help="of each set, 2 to 128")
    parser.add_argument("--features", type=Path, help="known logits, a and b, to compare with")
    parser.add_argument("--weights", type=Path, default=weights.FOLDER, help="folder of weights")
    args = parser.parse_args(argv)
    params = weights.load("i3d", args.weights)
    known = dict(np.load(args.features)) if args.features else {}
    sets = {}
    for name, seed in SETS.items():
        rng = np.random.RandomState(seed)  # goes on where it was: all videos are never held
        rows = []
        for _ in tqdm(range(args.videos), desc=f"seed {seed}"):
            video = rng.rand(1, 16, i3d.SIDE, i3d.SIDE, 3).astype(np.float32)
            rows.append(np.asarray(i3d.logits(params, video))[0])
        sets[name] = frechet.moments(np.stack(rows))
        if known:
            error = np.abs(np.stack(rows) - known[name][: args.videos]).max()
            print(f"seed {seed}: logits within {error:.1e} of those known")
    print(f"distance of {args.videos} and {args.videos} videos: {frechet.frechet(**sets):.6f}")
    if args.videos == VIDEOS:
        print(f"expected: {EXPECTED}")
    elif known:
        first = {name: frechet.moments(rows[: args.videos]) for name, rows in known.items()}
        print(f"by the logits known: {frechet.frechet(**first):.6f}")


if __name__ == "__main__":
    cli.run(main)
