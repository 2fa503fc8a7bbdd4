"""Make damaged and hostile inputs: a kind and a seed give the same file each time.

Each kind has sound samples. An input is a sample with a few changes: of bytes for all kinds, of
values for JSON too.
"""

import functools
import io
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import save

from palette_vc_jax.models.config import to_dict
from palette_vc_jax.models.functional import flatten
from palette_vc_jax.models.text_table import FILE as TABLE
from tests import films, tiny
from tests.palette import swatch_files

FRAMES = 4
CODECS = {  # container -> codec, pixel format, sound
    ".mp4": ("libx264", "yuv420p", "aac"),
    ".mov": ("prores_ks", "yuv422p10le", "pcm_s16le"),
    ".mkv": ("ffv1", "yuv420p", "flac"),
    ".avi": ("mpeg4", "yuv420p", "pcm_s16le"),
    ".webm": ("libvpx", "yuv420p", None),
    ".ts": ("mpeg2video", "yuv420p", "mp2"),
    ".mpg": ("mpeg2video", "yuv420p", "mp2"),
    ".flv": ("flv1", "yuv420p", None),
    ".gif": ("gif", "rgb8", None),
    ".y4m": ("wrapped_avframe", "yuv420p", None),
    ".nut": ("ffv1", "gray", None),
    ".wmv": ("wmv2", "yuv420p", None),
}
PICTURES = {
    ".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP", ".gif": "GIF",
    ".ppm": "PPM",
}  # fmt: skip
# Values in place of those of a JSON file.
WRONG = [
    None, True, False, 0, -1, 1, 2, 3, 1.5, -1e308, 1e400, float("nan"), 10**9, 10**30, "", "x",
    "\0", "#ffffff", "é" * 300, [], {}, [None], [[]], {"a": 1}, ["teal"] * 50, [1e308] * 3,
]  # fmt: skip


class Input(NamedTuple):
    """A file to try."""

    kind: str
    seed: int
    name: str
    data: bytes


def make(kind: str, seed: int) -> Input:
    """Return the input of a kind and a seed; about one in 30 is a sample as it is."""
    rng = np.random.default_rng([sorted(SAMPLES).index(kind), seed])
    samples = _samples(kind)
    name = sorted(samples)[rng.integers(len(samples))]
    data = samples[name]
    if name.endswith(".json") and rng.random() < 0.6:
        data = _change_values(data, rng)
    elif rng.random() < 0.97:
        for _ in range(rng.integers(1, 4)):
            data = CHANGES[rng.integers(len(CHANGES))](data, rng)
    return Input(kind, seed, name, data)


# ---- changes


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, max(1, len(data)), rng.integers(1, 9)) if data else ():
        changed[place] = rng.integers(256)
    return bytes(changed)


def _flip_early(data: bytes, rng: np.random.Generator) -> bytes:
    head = 1 + int(rng.integers(1, 256))
    return _flip(data[:head], rng) + data[head:]


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _remove(data: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(data) + 1)
    return data[:start] + data[start + rng.integers(1, 200) :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(data) + 1)
    part = data[start : start + rng.integers(1, 200)]
    return data[:start] + part * int(rng.integers(2, 5)) + data[start:]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(data) + 1)
    return data[:start] + rng.bytes(rng.integers(1, 64)) + data[start:]


def _extreme(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite four bytes by the ends of what integers and floats hold."""
    start = rng.integers(len(data) + 1)
    ends = ("00000000", "ffffffff", "7fffffff", "ffffff7f", "80000000", "0000c07f", "ffff0000")
    return data[:start] + bytes.fromhex(ends[rng.integers(len(ends))]) + data[start + 4 :]


CHANGES: list[Callable[[bytes, np.random.Generator], bytes]] = [
    _flip, _flip_early, _cut, _remove, _repeat, _insert, _extreme,
]  # fmt: skip


def _change_values(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace, remove or nest values of a JSON file."""
    values = json.loads(data)
    for _ in range(rng.integers(1, 3)):
        place = values
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = keys[rng.integers(len(keys))]
            inner = isinstance(place[key], dict | list) and place[key]
            if inner and rng.random() < 0.8:
                place = place[key]
                continue
            if rng.random() < 0.15:
                del place[key]
            elif rng.random() < 0.1:
                place[key] = "NESTED"
            else:
                place[key] = WRONG[rng.integers(len(WRONG))]
            break
    text = json.dumps(values, ensure_ascii=bool(rng.integers(2)))
    return text.replace('"NESTED"', "[" * 3000 + "]" * 3000).encode("utf-8", "surrogatepass")


# ---- samples


@functools.cache
def _samples(kind: str) -> dict[str, bytes]:
    return SAMPLES[kind]()


def _films() -> dict[str, bytes]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, (codec, pix_fmt, sound) in CODECS.items():
            path = Path(folder, f"film{suffix}")
            rgb = suffix == ".gif"
            pictures = films.lumas(FRAMES, 32, 48, 10 if "10" in pix_fmt else 8)
            if rgb:
                pictures = [np.repeat(picture[..., None], 3, axis=-1) for picture in pictures]
            films.write_film(path, pictures, pix_fmt, codec, sound=sound, chroma=128)
            found[path.name] = path.read_bytes()
    return found


def _pictures() -> dict[str, bytes]:
    found = {}
    pixels = np.repeat(films.lumas(1, 24, 32)[0][..., None], 3, axis=-1)
    for suffix, form in PICTURES.items():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        found[f"picture{suffix}"] = file.getvalue()
    deep = io.BytesIO()
    Image.fromarray(films.lumas(1, 24, 32, 16)[0]).save(deep, "PNG")
    return found | {"deep.png": deep.getvalue()}


def _palettes() -> dict[str, bytes]:
    values = {"colors": ["#102030", "teal", "#abc"], "source": "x", "tags": [{"tag": "sky"}]}
    codes = [(39, 50, 63), (122, 92, 72), (176, 137, 104), (0, 90, 250)]
    swatches = [(space, (9000, 5000, 4000, 3000)) for space in (0, 1, 2, 7, 8, 9)]
    return {
        "palette.json": json.dumps(values).encode(),
        "palette.ase": swatch_files.ase(codes),
        "lab.ase": swatch_files.ase(codes, b"LAB ", [[0.5, 20, -40]] * 4),
        "palette.aco": swatch_files.aco(swatches),
        "named.aco": swatch_files.aco(swatches, names=True),
        "palette.gpl": swatch_files.gpl(codes),
        "palette.hex": swatch_files.hexes(codes),
    }


def _specs() -> dict[str, bytes]:
    texts = [
        "#102030,tomato,#fff", "gmm:7", "none", "image:x.png", "words:a red tram, the sea",
        "file:x.json", "auto", "27323f-7a5c48-b08968-ddb892-ede0d4",
        "https://coolors.co/27323f-7a5c48-b08968-ddb892-ede0d4",
    ]  # fmt: skip
    return {f"spec{number}.txt": text.encode() for number, text in enumerate(texts)}


def _mixtures() -> dict[str, bytes]:
    covariances = (0.05 * np.eye(3)).tolist()
    values = {
        "fitted_on": {"colorfulness": 20.0, "pixels": 9},
        "weights": [0.5, 0.5],
        "means": [[0.5] * 3, [0.2] * 3],
        "covariances": [covariances] * 2,
    }
    return {"mixture.json": json.dumps(values).encode()}


def _configs() -> dict[str, bytes]:
    return {"config.json": json.dumps(to_dict(tiny.CONFIG)).encode()}


def _weights() -> dict[str, bytes]:
    tensors = flatten(tiny.random_params(tiny.MICRO)["vae"])
    return {"vae.safetensors": save(tensors, {"made": "for tests"})}


def _flows() -> dict[str, bytes]:
    size = np.array([6, 4], "<i4").tobytes()
    return {"flow.flo": b"PIEH" + size + np.ones((4, 6, 2), "<f4").tobytes()}


def _pickles() -> dict[str, bytes]:
    value = {"AlexNet_0": {"Conv_0": {"kernel": np.ones((2, 3), np.float32)}}}
    return {f"protocol{n}.ckpt": pickle.dumps(value, protocol=n) for n in (2, 3, 4, 5)}


def _sources() -> dict[str, bytes]:
    from tests.conversion.test_network_configs import CLIP, UNET, VAE

    names = {"unet.json": UNET, "vae.json": VAE, "image_encoder.json": CLIP}
    return {name: json.dumps(values).encode() for name, values in names.items()}


def _tables() -> dict[str, bytes]:
    lines = "sky\tplace\t#87ceeb #aaccee\nold tram\tthing\ttomato\ndusk\ttime\tL-10 C0.8 a+4\n"
    return {"words.tsv": lines.encode()}


def _clips() -> dict[str, bytes]:
    return {"clips.json": json.dumps({"a": ["teal", "#fff"], "b": ["#102030"]}).encode()}


def _tags() -> dict[str, bytes]:
    tensors = {"embeddings": np.ones((2, 8), np.float32), "logit_scale": np.ones(1, np.float32)}
    return {TABLE: save(tensors, {"tags": json.dumps(["sky", "tram"])})}


SAMPLES: dict[str, Callable[[], dict[str, bytes]]] = {
    "film": _films,
    "picture": _pictures,
    "palette": _palettes,
    "spec": _specs,
    "mixture": _mixtures,
    "config": _configs,
    "weights": _weights,
    "flow": _flows,
    "pickle": _pickles,
    "source": _sources,
    "table": _tables,
    "clips": _clips,
    "tags": _tags,
    "command": lambda: _films() | _pictures(),
}
KINDS: tuple[str, ...] = tuple(SAMPLES)


def describe(value: Any) -> str:
    """Return a text as one short line, for reports."""
    line = " ".join(str(value).split())
    return line if len(line) < 300 else f"{line[:300]}..."
