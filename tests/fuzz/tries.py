"""Try an input by the function or command that a user's file of its kind reaches."""

import contextlib
import io
import itertools
import json
import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from palette_vc_jax import cli
from palette_vc_jax.commands import sample
from palette_vc_jax.conversion.source import open_source
from palette_vc_jax.evaluation.paper import load_palettes
from palette_vc_jax.images import read_image
from palette_vc_jax.metrics import warp
from palette_vc_jax.metrics.networks.arrays import read_arrays
from palette_vc_jax.models.config import to_dict
from palette_vc_jax.models.store import load_config, load_model
from palette_vc_jax.models.text_table import load_table
from palette_vc_jax.palette import gmm, lexicon
from palette_vc_jax.palette.spec import parse_spec
from palette_vc_jax.sampling.auto import training_colorfulness
from palette_vc_jax.sampling.keyframes import parse_keyframe
from palette_vc_jax.sampling.reference import parse_reference
from palette_vc_jax.sampling.regions import parse_region
from palette_vc_jax.video.damage import MODES
from palette_vc_jax.video.film import IMAGES, open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.rgb import read_rgb
from palette_vc_jax.video.write import check_output
from tests import tiny
from tests.commands import command
from tests.fuzz.inputs import Input, describe

MOST_FRAMES = 200
MAX_MESSAGE = 1500  # characters


def attempt(given: Input, folder: Path) -> str:
    """Try an input in an empty folder; return `ok`, `refused`, or what is wrong."""
    path = folder / given.name
    path.write_bytes(given.data)
    try:
        result = _outcome(given, path)
    except BaseException as error:  # a traceback that the user would see
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "palette_vc_jax" in frame.filename] or list(frames)
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        return f"{type(error).__name__} at {place}: {describe(error)}"
    if not path.exists() or path.read_bytes() != given.data:
        return "the input was changed"
    left = [entry.name for entry in folder.rglob("*") if "partial" in entry.name]
    return f"left over: {left[0]}" if left else result


def _outcome(given: Input, path: Path) -> str:
    try:
        return TRIES[given.kind](path, given.seed) or "ok"
    except (UnicodeError, json.JSONDecodeError):
        raise  # their messages say nothing of the file
    except (ValueError, OSError) as error:
        text = cli.message(error) if given.kind == "spec" else str(error)  # which repeats its lines
        if "\n" in text or len(text) > MAX_MESSAGE:
            return f"a message of several lines or too long: {describe(text)}"
        if given.kind not in UNNAMED and not {path.stem, "out"} & set(re.split(r"[/.:]", text)):
            return f"a message without the file's name: {describe(text)}"
        return "refused"


def _film(path: Path, seed: int) -> None:
    film = open_film(path, MODES[seed % len(MODES)])
    if film.kind == "video" and seed % 5 == 0:
        check_output(path.with_name(f"out{('.mkv', '.mp4', '.mov')[seed % 3]}"), film)
    read = read_rgb(film) if seed % 7 == 0 else read_frames(film)
    for _ in itertools.islice(read, MOST_FRAMES):
        pass


def _picture(path: Path, seed: int) -> None:
    if seed % 4 == 0:
        read_image(path)
    elif seed % 4 == 1:
        parse_reference(f"image:{path}")
    elif seed % 4 == 2:
        sound = path.with_name("sound.png")
        Image.new("L", (32, 24)).save(sound)
        film = open_film(sound)
        parse_region(f"{path}@0", film)
        parse_keyframe(f"0={path}", film)
    else:
        _film(path, seed)


def _weights(path: Path, seed: int) -> None:
    if seed % 3 == 0:
        open_source(path)
    config = json.dumps(to_dict(tiny.MICRO))
    path.with_name("config.json").write_text(config)
    load_model(path.parent, ("vae",))


def _flow(path: Path, seed: int) -> None:
    for direction in warp.DIRECTIONS:
        (path.parent / direction).mkdir()
        shutil.copy(path, path.parent / direction)
    warp.check_flow(path.parent, 2)
    warp.read_flow(path.parent, 0)


def _source(path: Path, seed: int) -> None:
    """Open a folder one of whose configs is the input; its weights lack most tensors."""
    from tests.conversion.test_network_configs import CLIP, UNET, VAE

    for name, values in (("unet", UNET), ("vae", VAE), ("image_encoder", CLIP)):
        place = path.parent / name
        place.mkdir()
        (place / "config.json").write_text(json.dumps(values))
        stem = "model" if name == "image_encoder" else "diffusion_pytorch_model"
        save_file({"x": np.zeros(1, np.float32)}, place / f"{stem}.safetensors")
    shutil.copy(path, path.parent / path.stem / "config.json")
    try:
        open_source(path.parent)
    except ValueError as error:
        if "of its tensors" not in str(error):  # the config passed
            raise


def _mixture(path: Path, seed: int) -> None:
    gmm.sample(gmm.load(path), seed)
    training_colorfulness(path)


def _command(path: Path, seed: int) -> str | None:
    """Color a film by the whole command; an error has to be one line, and leave nothing."""
    folder = path.parent
    tiny.write_model(folder / "model", tiny.MICRO)
    before = set(folder.iterdir())
    error = io.StringIO()
    kinds = (".png", ".jpg") if path.suffix in IMAGES else (".mkv", ".mp4", ".mov", "")
    output = folder / f"out{kinds[seed % len(kinds)]}"
    flags = ["--input", path, "--output", output, "--checkpoint", folder / "model"]
    flags += ["--palette", "teal", "--steps", 1, "--damaged", MODES[seed % 3]]
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        code = command(sample.main, *flags)
    text = error.getvalue().splitlines()
    lines = [line for line in text if not line.startswith("warning:")]
    made = set(folder.iterdir()) - before
    if code == 0:
        return None if output in made and not lines else f"exit 0 and {describe(lines)}"
    if code not in (1, 2) or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"exit {code} and {len(lines)} lines: {describe(lines)}"
    return "refused" if not made else f"exit {code} and left {describe(made)}"


TRIES: dict[str, Callable[[Path, int], str | None]] = {
    "film": _film,
    "picture": _picture,
    "palette": lambda path, seed: parse_spec(f"file:{path}") and None,
    "spec": lambda path, seed: parse_spec(path.read_bytes().decode("utf-8", "replace")) and None,
    "mixture": _mixture,
    "config": lambda path, seed: load_config(path.parent) and None,
    "weights": _weights,
    "flow": _flow,
    "pickle": lambda path, seed: read_arrays(path.read_bytes(), path.name) and None,
    "source": _source,
    "table": lambda path, seed: lexicon.load(path) and None,
    "clips": lambda path, seed: load_palettes(path, ["a", "b"]) and None,
    "tags": lambda path, seed: load_table(path.parent, 8) and None,
    "command": _command,
}
# Kinds whose messages name no file (but the network: source), or whose message is checked.
UNNAMED = {"spec", "source", "command"}
