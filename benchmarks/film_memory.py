"""Measure the peak host memory of coloring a long film and a short one, and of a resumed run.

    python benchmarks/film_memory.py

Colors films of 64x48 pixels in 500 and in 10,000 frames, in shots of 500, with a small random model
and 2 steps; then the long film again, killed after half of its shots and resumed. Prints the peak
resident set size of each process, the latents' size that the record states, and the ratio to the
short film. Exits with 1 if a ratio, without the stated latents, is above 1.1.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHOT = 500  # frames
LONG, SHORT = 20, 1  # shots of the films
LIMIT = 1.1
MIB = 2**20


def start(folder: Path, shots: int, output: str) -> subprocess.Popen:
    """Start `sample.py` on the film of `shots` shots."""
    command = [sys.executable, str(ROOT / "sample.py"), "--input", str(folder / f"{shots}.mkv")]
    command += ["--output", str(folder / output), "--checkpoint", str(folder / "model")]
    command += ["--cuts", str(folder / f"{shots}.csv"), "--steps", "2", "--palette", "teal"]
    command += ["--compile_cache", str(folder / "cache")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak(process: subprocess.Popen) -> int:
    """Wait for a process; return its peak memory in bytes."""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"sample.py ended with {os.waitstatus_to_exitcode(status)}")
    return 1024 * usage.ru_maxrss


def main() -> None:
    """Print a line for each run."""
    from tests import films, tiny

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.write_model(folder / "model")
        pictures = films.lumas(50)
        for shots in (SHORT, LONG):
            films.write_film(folder / f"{shots}.mkv", pictures * (shots * SHOT // 50))
            rows = [f"{shot + 1},{shot * SHOT + 1}" for shot in range(shots)]
            (folder / f"{shots}.csv").write_text("\n".join(["Scene Number,Start Frame", *rows]))
        peak(start(folder, SHORT, "first.mkv"))  # compiles
        found = {"short": peak(start(folder, SHORT, "short.mkv"))}
        found["long"] = peak(start(folder, LONG, "long.mkv"))
        process, parts = start(folder, LONG, "resumed.mkv"), folder / "resumed.mkv.unfinished"
        while len(list(parts.glob("*.npz"))) < LONG // 4:  # runs of 1,000 frames
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found["resumed"] = peak(start(folder, LONG, "resumed.mkv"))
        stated = {
            run: json.loads((folder / f"{run}.run.json").read_text())["latents_bytes"]
            for run in found
        }
        equal = (folder / "long.mkv").read_bytes() == (folder / "resumed.mkv").read_bytes()
    least = found["short"] - stated["short"]
    ratios = {run: (found[run] - stated[run]) / least for run in found}
    for run in found:
        sizes = f"{found[run] / MIB:7.0f} MiB, of these latents {stated[run] / MIB:5.1f} MiB"
        print(f"{run:8} {sizes}, ratio {ratios[run]:.3f}")
    print(f"the resumed film is {'equal' if equal else 'DIFFERENT'}")
    sys.exit(0 if equal and max(ratios.values()) <= LIMIT else 1)


if __name__ == "__main__":
    main()
