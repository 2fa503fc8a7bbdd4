"""Kill `sample.py` at random moments, run it again, and compare the film with that of one run.

`python benchmarks/interruptions.py --times 20` colors a film of six shots, each a run of its own,
with a small random model. Every time, a process is killed with SIGKILL at a random moment, and the
same command goes on until the film is complete. Its bytes must be those of the film that was
colored without interruption.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SHOTS, FRAMES = 6, 12  # of the film
ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import os, signal, sys, threading, time
from palette_vc_jax import cli
from palette_vc_jax.commands import sample
from palette_vc_jax.sampling import plan, unfinished

plan.RUN_FRAMES = 1  # each shot is a run
check, seconds = unfinished.check, float(sys.argv.pop(1))
begun = []

def begin(*given):  # called when the coloring begins
    begun.append(time.monotonic())
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    check(*given)

unfinished.check = begin
cli.run(lambda: sample.main(sys.argv[1:]))
print("seconds", time.monotonic() - begun[0])
"""


def run(arguments: list[str], seconds: float = 1e6) -> tuple[int, str]:
    """Run the command, killed some seconds after it begins to color; return code and output."""
    command = [sys.executable, "-c", CHILD, str(seconds), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout


def main(argv: list[str] | None = None) -> None:
    """Print a line for each interruption, and exit with 1 if a film differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=20, help="interruptions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    from tests import films, tiny

    moments, differing = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write_model(folder / "model")
        film = films.write_film(folder / "in.mkv", films.lumas(SHOTS * FRAMES))
        rows = [f"{number + 1},{number * FRAMES + 1}" for number in range(SHOTS)]
        cuts = folder / "cuts.csv"
        cuts.write_text("\n".join(["Scene Number,Start Frame", *rows]))
        arguments = ["--input", str(film), "--checkpoint", str(model), "--palette", "tomato"]
        arguments += ["--cuts", str(cuts), "--compile_cache", str(folder / "cache"), "--output"]
        whole = folder / "whole.mkv"
        run([*arguments, str(whole)])  # compiles
        _, said = run([*arguments, str(whole), "--overwrite"])
        usual = float(said.split("seconds")[1])
        for number in range(options.times):
            output, kills = folder / f"{number}.mkv", []
            parts = folder / f"{output.name}.unfinished"
            while not output.exists() or parts.exists():
                moment = moments.uniform(0.0, 1.0) * usual if len(kills) < 4 else 1e6
                code, said = run([*arguments, str(output)], moment)
                if code not in (0, -signal.SIGKILL):
                    break
                if code == 0:  # the machine may be less busy than it was
                    usual = min(usual, float(said.split("seconds")[1]))
                kept = len(list(parts.glob("*.npz")))
                kills.append(f"{moment:.2f} s ({kept} kept)" if code else "complete")
            same = output.exists() and output.read_bytes() == whole.read_bytes()
            differing += not same
            print(f"{number:3} {'equal' if same else 'DIFFERS'}: {', '.join(kills)}", flush=True)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
