"""Measure how long the device has no work while a film is colored, from a trace of JAX's profiler.

    python benchmarks/idle_share.py --film examples/bikes.mp4

The film is colored twice, so that the second run, which is measured, compiles nothing. Its time is
that from the first of the device's work to the last: reading the film for the first time and
finding its shots come before it. On a CPU the device shares its cores with the host. Traces of GPUs
and TPUs were not tried.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from palette_vc_jax import DEMO, Palette, cli, color_film, default_settings, load_model, plan_film
from palette_vc_jax.parallel.xla_flags import set_xla_flags

PALETTE = "khaki,#2c4a6e,#a0522d"
# Beginning of the names of a trace's planes and of lines in them that hold the device's work.
DEVICES = {"/device:GPU": "Stream", "/device:TPU": "XLA Modules", "/host:CPU": "tf_XLA"}
GAPS = 5  # longest ones that are printed


def busy(folder: Path) -> list[tuple[float, float]]:
    """Return the times in seconds, from and to, in which a traced device worked, in order."""
    (trace,) = folder.rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    for device, lines in DEVICES.items():
        events = [
            (event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9)
            for plane in planes
            if plane.name.startswith(device)
            for line in plane.lines
            if line.name.startswith(lines)
            for event in line.events
        ]
        if events:
            return joined(events)
    raise ValueError(f"{trace}: the trace holds no work of a device.")


def joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return spans in order, in which those that overlap are one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Color the film twice, and print the share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--film", type=Path, default=Path("examples/bikes.mp4"))
    parser.add_argument("--model", type=Path, default=DEMO)
    options = parser.parse_args(argv)
    model, palette = load_model(options.model), Palette.from_spec(PALETTE)
    plan = plan_film(options.film, model, default_settings(model.config))
    tracing = jax.profiler.ProfileOptions()
    tracing.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run in ("first", "measured"):
            if run == "measured":
                jax.profiler.start_trace(folder / "trace", profiler_options=tracing)
            began = time.perf_counter()
            with cli.reporting(run, "frame", plan.frames) as report:
                color_film(plan, folder / f"{run}.mkv", model, palette, None, report)
            whole = time.perf_counter() - began
        jax.profiler.stop_trace()
        spans = busy(folder / "trace")
    first, last = spans[0][0], spans[-1][1]
    worked = sum(end - start for start, end in spans)
    gaps = sorted((b[0] - a[1] for a, b in zip(spans, spans[1:], strict=False)), reverse=True)
    print(f"device: {jax.devices()[0].device_kind}")
    print(f"the run: {whole:.2f} s; from the device's first work to its last: {last - first:.2f} s")
    print(f"without work: {100 * (1 - worked / (last - first)):.1f} %")
    print(f"longest gaps: {' '.join(f'{gap:.3f}' for gap in gaps[:GAPS])} s")


if __name__ == "__main__":
    set_xla_flags()
    cli.run(main)
