"""Measure the peak host memory of writing a latent cache and of reading training batches.

    python benchmarks/data_memory.py

Makes 24 clips of 1024x576 from the footage in a temporary folder, then runs the writer of the cache
and the reader of batches, with the cache and without, each in a process of its own. Frames are
encoded on the accelerator in a real run; here a mean over 8x8 pixels takes the VAE's place, so that
only the memory of the data pipeline is measured. Prints the peak resident set size of each process
above what it held before it began, and how much was read ahead when one batch had been taken.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZE = (576, 1024)  # pixels: height, width
FACTOR = 8  # pixels a latent, as in SVD
BATCH, WINDOW, WORKERS = 6, 14, 0
STAGES = ("write", "read the cache", "read the clips")


def make_clips(footage: Path, folder: Path, count: int) -> None:
    """Write the first `count` clips of `footage`, scaled to `SIZE`, as folders of JPEGs."""
    for clip in sorted(path for path in footage.iterdir() if path.is_dir())[:count]:
        (folder / clip.name).mkdir(parents=True)
        for path in sorted(clip.glob("*.jpg")):
            with Image.open(path) as picture:
                scaled = picture.convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC)
            scaled.save(folder / clip.name / path.name, quality=92)


def measure(stage: str, folder: Path, prefetch_mib: int) -> dict[str, Any]:
    """Run one of `STAGES` in this process; return MiB and seconds."""
    from palette_vc_jax.data.latents import Encoder
    from palette_vc_jax.data.loader import LoaderConfig, batches
    from palette_vc_jax.data.samples import ClipReader, SampleConfig
    from palette_vc_jax.data.sources import open_clips
    from palette_vc_jax.models.store import load_model
    from palette_vc_jax.training import batches as runs
    from palette_vc_jax.training.config import load, read

    class Pooled(Encoder):
        """An encoder without a network."""

        def latents(self, frames: np.ndarray, seeds: Any = None) -> tuple[Any, Any]:
            count, (height, width) = len(frames), SIZE
            shape = count, height // FACTOR, FACTOR, width // FACTOR, FACTOR, 3
            pooled = np.stack([frame.reshape(shape[1:]).mean((1, 3)) for frame in frames])
            wide = np.pad(pooled, [(0, 0)] * 3 + [(0, 1)]).astype(np.float16)
            return wide, wide

        def contexts(self, pictures: np.ndarray) -> np.ndarray:
            return np.zeros((len(pictures), 2, 1, 1024), np.float32)

    config = load("davis", "runlocal")
    config.data.size, config.data.short_sides = SIZE, (SIZE[0], SIZE[0])
    config.data.frames, config.data.crops, config.data.reference_every = 32, 2, 4
    config.data.cache = "" if stage == "read the clips" else str(folder / "cache")
    config.data.prefetch_mib = prefetch_mib
    data = read(config).data
    clips = open_clips("folders", folder / "clips")
    encoder = Pooled(load_model(Path(config.init_from)), True)
    crops = runs.crop_config(data, config.seed)
    before, began = peak(), time.time()
    result: dict[str, Any] = {}
    reader = runs.open_reader(clips, crops, encoder, data, "train")
    if stage != "write":
        read = type(reader).read
        sizes: list[int] = []

        def counted(self: Any, *arguments: Any) -> Any:
            sample = read(self, *arguments)
            sizes.append(sum(array.nbytes for array in sample.values()))
            return sample

        type(reader).read = counted
        loader = LoaderConfig(BATCH, WORKERS, ahead_mib=prefetch_mib)
        stream = batches(reader, SampleConfig(WINDOW), crops.reference_every, loader)
        next(stream)
        settled = -1
        while settled != len(sizes):  # until nothing more is read ahead
            settled = len(sizes)
            time.sleep(5)
        result["MiB read ahead"] = round(sum(sizes[BATCH:]) / 2**20)
        result["batches read ahead"] = round(len(sizes) / BATCH - 1, 1)
        assert isinstance(reader, ClipReader) == (stage == "read the clips")
    return {"peak MiB": round(peak() - before), "seconds": round(time.time() - began)} | result


def peak() -> float:
    """Return the peak resident set size of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Measure all stages and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, default=ROOT.parent / "shared/footage/train")
    parser.add_argument("--clips", type=int, default=24, help="clips of 1024x576 (default: 24)")
    parser.add_argument(
        "--prefetch_mib", type=int, default=1024, help="data.prefetch_mib (default: 1024)"
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the clips are made, and kept")
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(measure(args.stage, args.folder, args.prefetch_mib)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "clips").is_dir():
            make_clips(args.footage, folder / "clips", args.clips)
        print(f"{args.clips} clips, data.prefetch_mib={args.prefetch_mib}, batches of {BATCH}")
        for stage in STAGES:
            command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
            command += ["--prefetch_mib", str(args.prefetch_mib)]
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode:
                sys.exit(ended.stderr)
            print(f"{stage}: {ended.stdout.splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
