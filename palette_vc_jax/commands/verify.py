"""Convert, compare, sample and train on this machine, and write one report that can be shared.

    palette-vc verify --weights SVD --output report

`--weights` is a diffusers folder of SVD, or a model folder, for which nothing is converted and
compared. Each stage is the command that a user runs, in a process of its own, on synthetic film.
The report (report.md and report.json) holds results, times and peaks of memory, and no names or
paths of this machine. Exit with 1 if a stage failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from palette_vc_jax import DEMO, __version__, atomic, cli
from palette_vc_jax.commands import flags

GIB = 2**30
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "diffusers")
# Runs a command as `palette-vc` does, and writes what its devices held.
CHILD = """
import json, sys
from palette_vc_jax import cli
from palette_vc_jax.commands import main
path = sys.argv.pop(1)
try:
    cli.run(lambda: main.main(sys.argv[1:]))
finally:
    if "jax" in sys.modules:
        import jax
        devices = jax.local_devices()
        held = [device.memory_stats() or {} for device in devices]
        peak = max(one.get("peak_bytes_in_use", 0) for one in held)
        found = {"device": devices[0].device_kind, "devices": len(devices), "peak": peak}
        with open(path, "w") as file:
            json.dump(found, file)
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=flags.path, default=DEMO, help="SVD, or a model folder (default: demo)")
    add("--output", type=flags.path, required=True, help="name of the report, without extension")
    add("--frames", type=int, default=14, help="frames of the film (default: %(default)s)")
    add("--height", type=int, help="height of the film (default: the model's short side)")
    add("--width", type=int, help="width of the film (default: 16/9 of the height, rounded)")
    add("--steps", type=int, help="denoising steps (default: the model's; 25 for the comparison)")
    add("--train_steps", type=int, default=20, help="training steps; 0 trains nothing")
    add("--overwrite", action="store_true", help="replace an existing report")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Run all stages, and write the report."""
    args = parse(argv)
    from palette_vc_jax.sampling.side_files import check_side_files

    if args.frames < 2 or args.train_steps < 0:
        raise ValueError("give at least 2 frames, and 0 or more training steps.")
    for name in ("height", "width", "steps"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}; give a number from 1.")
    files = report_files(args.output)
    check_side_files(files[0], files[1:], [], args.overwrite)
    folder = args.output.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ValueError(f"{args.output}: {folder} is no folder that can be written; give another.")
    if not args.weights.exists():
        raise ValueError(f"{args.weights}: no such folder; give SVD's weights or a model folder.")
    with tempfile.TemporaryDirectory(prefix="palette_vc_verify_") as name:
        work = Path(name)
        rows = list(_stages(args, work))
    facts = _machine(rows)
    values = {"facts": facts, "stages": rows}
    atomic.write_text(files[1], json.dumps(values, indent=2) + "\n")
    atomic.write_text(files[0], report(facts, rows))
    print(report(facts, rows))
    if any(row["result"] == "failed" for row in rows):
        sys.exit(cli.FAILURE)


def report_files(output: Path) -> list[Path]:
    """Return the report's files; other dots than that of an extension stay in their names."""
    base = output.with_suffix("") if output.suffix in (".md", ".json") else output
    return [base.with_name(f"{base.name}{suffix}") for suffix in (".md", ".json")]


def _stages(args: argparse.Namespace, work: Path) -> Iterator[dict[str, Any]]:
    """Run the stages one after the other; yield a row of the report for each."""
    model = args.weights
    named = {str(path): "WEIGHTS" for path in (model.resolve(), model.absolute(), model)}
    named.pop(".", None)  # it is in every sentence
    hidden = {str(work): "WORK", **named}

    def stage(name: str, *command: object) -> dict[str, Any]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        return run(name, [str(part) for part in command], work, hidden)

    if not (args.weights / "config.json").is_file() or (args.weights / "model_index.json").exists():
        model = work / "model"
        row = stage("convert", "convert", "--source", args.weights, "--output", model)
        yield row
        if row["result"] != "passed":
            return
        if args.weights.is_dir():
            steps = ["--steps", max(args.steps, 2)] if args.steps else []
            yield stage("parity", "check-parity", "--torch", args.weights, "--flax", model, *steps)
    height, width = _size(args, model)
    film, output = work / "film.mkv", work / "out.mkv"
    write_film(film, args.frames, height, width)
    command = ["sample", "--input", film, "--output", output, "--checkpoint", model]
    command += ["--palette", "tomato,teal,khaki", "--short_side", min(height, width)]
    command += ["--compile_cache", work / "cache", "--overwrite"]
    command += ["--steps", args.steps] if args.steps else []
    for name in ("sample", "sample again, compiled"):
        row = stage(name, *command)
        if row["result"] == "passed":
            row["detail"] = compare(film, output)
        yield row
    if args.train_steps:
        yield _train(args, work, model, (height, width), row["device"], stage)


def _train(
    args: argparse.Namespace,
    work: Path,
    model: Path,
    size: tuple[int, int],
    device: str | None,
    stage: Callable[..., dict[str, Any]],
) -> dict[str, Any]:
    """Fine-tune a model on synthetic clips; return the row of the report."""
    for number in range(3):  # one is held out
        write_pictures(work / "clips" / str(number), args.frames, *size, number)
    values = {
        "init_from": model,
        "batch_size": 1,
        "compute_dtype": "float32" if device == "cpu" else "bfloat16",
        "data.source": "folders",
        "data.cache": "",
        "data.root": work / "clips",
        "data.hold_out_every": 3,
        "data.frames": args.frames,
        "data.window": min(args.frames, 14),
        "data.size": size,
        "data.short_sides": (min(size),) * 2,
        "optimizer.steps": args.train_steps,
        "optimizer.warmup_steps": 1,
        "optimizer.learning_rate": 1e-5,
        "log_every": max(1, args.train_steps // 4),
        "save_every": args.train_steps,
        "validate_every": 0,
        "previews_every": 0,
    }
    given = [f"--config.{key}={value}" for key, value in values.items()]
    row = stage("train", "train", "--config", "davis", "--workdir", work / "run", *given)
    metrics = work / "run" / "metrics.jsonl"
    if metrics.exists():
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        logged = [line for line in lines if "loss" in line]
        if len(logged) > 1:
            first, last = logged[0], logged[-1]
            steps = last["step"] - first["step"]
            seconds = (last["seconds"] - first["seconds"]) / max(1, steps)
            row["detail"] = (
                f"{seconds:.2f} s a step, loss {first['loss']:.3f} to {last['loss']:.3f}"
            )
    return row


def _size(args: argparse.Namespace, model: Path) -> tuple[int, int]:
    """Return the film's height and width, multiples of what the model takes."""
    from palette_vc_jax.models.store import load_config

    config = load_config(model)
    one = config.pixel_multiple
    height = args.height or config.sampling.short_side
    width = args.width or height * 16 // 9
    return max(1, round(height / one)) * one, max(1, round(width / one)) * one


def run(name: str, command: Sequence[str], work: Path, hidden: dict[str, str]) -> dict[str, Any]:
    """Run a command in a process of its own, and return its row of the report.

    Args:
        name: of the stage.
        command: arguments of `palette-vc`.
        work: folder for its log.
        hidden: texts that the report must not hold, and what stands for them.
    """
    log, held = work / "log", work / "held.json"
    held.unlink(missing_ok=True)
    start = time.monotonic()
    with log.open("w") as file:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), number) for number in (1, 2)]
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", CHILD, str(held), *command],
            os.environ,
            file_actions=actions,
        )
        try:
            _, status, usage = os.wait4(child, 0)
        except BaseException:  # a signal, which may have come to this process alone
            with contextlib.suppress(OSError):  # it has ended
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)
            raise
    seconds = time.monotonic() - start
    devices = json.loads(held.read_text()) if held.exists() else {}
    code = os.waitstatus_to_exitcode(status)
    last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
    for text, word in hidden.items():
        last = last.replace(text, word)
    return {
        "stage": name,
        "result": "passed" if code == 0 else "failed",
        "seconds": round(seconds, 1),
        "host_gib": round(usage.ru_maxrss / 2**20, 2),
        "device_gib": round(devices["peak"] / GIB, 2) if devices.get("peak") else None,
        "device": devices.get("device"),
        "devices": devices.get("devices"),
        "detail": "" if code == 0 else f"exit code {code}: {re.sub(r'/[^ ]*/', '', last)}",
    }


def write_film(path: Path, frames: int, height: int, width: int) -> None:
    """Write a gray film of a moving pattern."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        for index in range(frames):
            gray = _pattern(index, height, width)
            frame = av.VideoFrame.from_ndarray(np.rint(255.0 * gray).astype(np.uint8), "gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_pictures(folder: Path, frames: int, height: int, width: int, number: int) -> None:
    """Write a clip in color as a folder of frames."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    color = np.random.default_rng(number).uniform(0.5, 1.0, 3)
    for index in range(frames):
        codes = np.rint(255.0 * _pattern(index, height, width)[..., None] * color)
        Image.fromarray(codes.astype(np.uint8)).save(folder / f"{index:04d}.png")


def _pattern(index: int, height: int, width: int):
    import numpy as np

    rows, columns = np.mgrid[:height, :width]
    return 0.5 + 0.4 * np.sin(columns / 23 + index / 3) * np.cos(rows / 17)


def compare(source: Path, output: Path) -> str:
    """Return what a colored film keeps of its source, and how colorful it is."""
    import av
    import numpy as np

    with av.open(str(source)) as given, av.open(str(output)) as colored:
        pairs = list(zip(given.decode(video=0), colored.decode(video=0), strict=True))
    same = all(
        np.array_equal(one.to_ndarray(format="gray"), other.to_ndarray()[0]) for one, other in pairs
    )
    chroma = np.mean(
        [np.abs(other.to_ndarray()[1:].astype(float) - 128).mean() for _, other in pairs]
    )
    kept = "every bit of luma kept" if same else "LUMA CHANGED"
    return f"{len(pairs)} frames, {kept}, mean chroma {chroma:.1f} codes"


def _machine(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return facts of the machine that do not name it."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"palette_vc_jax": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    used = next((row for row in rows if row["device"]), {})
    found |= {"device": used.get("device"), "devices": used.get("devices")}
    found |= {"cpu": platform.machine(), "cpus": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    return found


def report(facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Return the report as Markdown."""
    lines = ["# palette_vc_jax: verification", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        "",
        "| stage | result | seconds | host GiB | device GiB | |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        device = "-" if row["device_gib"] is None else row["device_gib"]
        cells = row["stage"], row["result"], row["seconds"], row["host_gib"], device, row["detail"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
