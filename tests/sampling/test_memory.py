"""Memory does not grow with the film, beyond the latents whose size is stated."""

import json
import subprocess
import sys
from pathlib import Path

from tests import films, tiny

ROOT = Path(__file__).resolve().parents[2]


def test_a_long_film_needs_no_more_memory_than_a_short_one(tmp_path):
    """If this fails, somewhere frames are kept, and a feature film does not fit the machine."""
    model = tiny.write_model(tmp_path / "model", tiny.SMALL)
    pictures = films.lumas(50, 300, 400)  # 300 of them are more than a twentieth of the peak
    peaks, stated = {}, {}
    for count in (50, 350):
        source = films.write_film(tmp_path / f"{count}.mkv", pictures * (count // 50))
        output = tmp_path / f"{count}_out.mkv"
        peaks[count] = _peak(source, output, model)
        record = json.loads((tmp_path / f"{count}_out.run.json").read_text())
        assert record["frames"] == count
        stated[count] = record["latents_bytes"]
    assert peaks[350] - stated[350] <= 1.05 * peaks[50], (peaks, stated)


def _peak(source: Path, output: Path, model: Path) -> int:
    """Run `sample.py` in a process of its own; return its peak memory in bytes."""
    command = [sys.executable, str(ROOT / "sample.py"), "--input", str(source)]
    command += ["--output", str(output), "--checkpoint", str(model)]
    command += ["--steps", "1", "--palette", "teal"]
    report = (
        "import resource, runpy, sys; sys.argv = sys.argv[1:];"
        "sys.path.insert(0, sys.argv[0].rsplit('/', 1)[0]);"
        "\ntry: runpy.run_path(sys.argv[0], run_name='__main__')"
        "\nfinally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [command[0], "-c", report, *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return 1024 * int(done.stdout.split("peak")[-1])
