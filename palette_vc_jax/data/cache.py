"""Latents on disk: written once, a shard of crops at a time, and read by memory map.

A cache belongs to the networks, the clips' files and the choices it was made with; with others it
is refused. An interrupted writer goes on with the shards that are missing.
"""

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from palette_vc_jax import atomic, cli
from palette_vc_jax.data.crops import CropConfig, draw_crop, read_crop, references, region_rng
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.loader import MIB
from palette_vc_jax.data.regions import palettes, split
from palette_vc_jax.data.samples import Batch, Window
from palette_vc_jax.data.sources import ClipSource
from palette_vc_jax.palette.image import from_image
from palette_vc_jax.parallel.processes import agree, wait_for_all

VERSION = 4  # of what is computed for a crop; raise it when that changes
SHARD = 256  # crops, at most
SHARD_BYTES = 128 * MIB  # of latents, about: small shards are shared evenly among processes
CROPS_AHEAD = 16  # that the writer reads ahead, at most
INDEX = "index.json"
ADDED = {"region_cell": 0}  # keys that caches lack which were written before them


def open_cache(
    folder: Path, source: ClipSource, config: CropConfig, encoder: Encoder, ahead_mib: int = 1024
) -> "CacheReader":
    """Write what is missing of the cache at `folder`, wait for the other processes, and open it.

    Args:
        folder: on a file system that all processes share.
        source: of clips.
        config: of crops.
        encoder: whose networks are taken off the devices afterward.
        ahead_mib: MiB of pixels that the writer reads ahead; one crop is read anyway.

    Raises ValueError if the folder holds the cache of something else, or a damaged one.
    """
    # The first process' key, so that hosts with copies of the clips share a cache.
    advice = "give all hosts the same clips, model and config."
    key = agree(
        "cache-key", cache_key(source, config, encoder), "listing clips", advice, ("files",)
    )
    process, processes = jax.process_index(), jax.process_count()
    write_cache(folder, key, source, config, encoder, process, processes, ahead_mib)
    encoder.release()
    wait_for_all("cache", f"encoding to {folder}")
    return CacheReader(folder, key)


def cache_key(source: ClipSource, config: CropConfig, encoder: Encoder) -> dict[str, Any]:
    """Return all that the cached numbers depend on, as JSON has it."""
    model = encoder.model.config
    height, width = (side // model.vae.downscale for side in config.size)
    crop_bytes = 2 * 2 * config.frames * height * width * model.vae.latent_channels  # float16 twice
    clips = range(len(source))
    key = {
        "version": VERSION,
        "precision": encoder.dtype.name,
        "clips": [source.name(clip) for clip in clips],
        "files": [source.fingerprint(clip) for clip in clips],
        "shard": max(1, min(SHARD, SHARD_BYTES // crop_bytes)),
    }
    return json.loads(json.dumps(key | encoder.hashes | asdict(config)))


def stored_key(folder: Path, encoder: Encoder) -> dict[str, Any]:
    """Return the key of the cache at `folder`, to read it on a machine without its clips.

    `CacheReader(folder, stored_key(folder, encoder))` opens it. The clips and crops are those that
    it was written with; only the networks are checked, by the hashes of their weights.

    Raises ValueError if there is no cache, or if another version or other networks wrote it.
    """
    _check_present(folder)
    key = _stored(folder)
    _check(folder, key | {"version": VERSION} | encoder.hashes)
    return key


def write_cache(
    folder: Path,
    key: Mapping[str, Any],
    source: ClipSource,
    config: CropConfig,
    encoder: Encoder,
    process: int = 0,
    processes: int = 1,
    ahead_mib: int = 1024,
) -> None:
    """Write what is missing of the cache at `folder`; each process writes its share of shards.

    Raises ValueError if the folder holds the cache of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / INDEX).exists():
        _check(folder, key)
    elif process == 0:
        atomic.write_text(folder / INDEX, json.dumps(key, indent=1))
    mine = _shards(folder, key)[process::processes]
    missing = {shard: crops for shard, crops in mine if not shard.exists()}
    crop_bytes = config.frames * math.prod(config.size) * 3
    ahead = max(1, min(CROPS_AHEAD, ahead_mib * MIB // crop_bytes))
    options = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    for shard, crops in cli.progress(missing.items(), f"encoding to {folder}", "shard"):
        pixels = grain.MapDataset.source(_Pixels(source, config, crops)).to_iter_dataset(options)
        with atomic.folder(shard) as partial:
            _save(partial, (_encode(crop, config, encoder) for crop in pixels), len(crops))


class CacheReader:
    """Crops of a cache; see `samples.Reader`.

    `read` returns `color` and `gray` float16 `[T, h, w, C]`, `palette`, `hue_shifted`, `reference`
    uint8 or `context_color` and `context_gray` `[L, D]`, and what `ClipReader` returns of regions.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        """Open a complete cache.

        Raises ValueError if it was written for other data, or is damaged or incomplete.
        """
        self.folder = Path(folder)
        _check_present(self.folder)
        _check(self.folder, key)
        self.shards = _shards(self.folder, key)
        self.shard_size, self.crops = key["shard"], sum(len(crops) for _, crops in self.shards)
        missing = sum(not shard.exists() for shard, _ in self.shards)
        if missing:
            raise ValueError(
                f"{folder}: {missing} of {len(self.shards)} shards are missing; run the writer "
                "again."
            )
        _ = self._arrays  # a damaged shard is found now, not hours later

    def __len__(self) -> int:
        return self.crops

    def name(self, crop: int) -> str:
        return f"{self.folder}: crop {crop}"

    def length(self, crop: int) -> int:
        return int(self._array(crop, "length"))

    def sample_bytes(self, window: int) -> int:
        one = {name: array[0] for name, array in self._arrays[0].items()}
        frames = window * sum(one[name][0].nbytes for name in ("color", "gray"))
        return frames + sum(one[name][0].nbytes for name in one.keys() & {"reference", "context"})

    def read(self, crop: int, window: Window) -> Batch:
        result = {name: self._array(crop, name)[window.frames] for name in ("color", "gray")}
        result["palette"] = self._array(crop, "palette")[window.reference]
        result["hue_shifted"] = np.array(self._array(crop, "hue_shifted"))
        if "regions" in self._arrays[0]:
            result["regions"] = self._array(crop, "regions")[window.frames]
            result["region_palettes"] = self._array(crop, "region_palettes")[window.reference]
        if "reference" in self._arrays[0]:
            result["reference"] = self._array(crop, "reference")[window.reference]
        else:
            contexts = self._array(crop, "context")[window.reference]
            result["context_color"], result["context_gray"] = contexts[0], contexts[1]
        return result

    @cached_property
    def _arrays(self) -> list[dict[str, np.ndarray]]:
        return [_open_shard(folder, len(crops)) for folder, crops in self.shards]

    def _array(self, crop: int, name: str) -> np.ndarray:
        return self._arrays[crop // self.shard_size][name][crop % self.shard_size]

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes map the files themselves.
        return {name: value for name, value in vars(self).items() if name != "_arrays"}


class _Pixels:
    """Whole crops for the writer: a source for grain, which reads ahead."""

    def __init__(self, source: ClipSource, config: CropConfig, numbers: range):
        self.source, self.config, self.numbers = source, config, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        crop = draw_crop(self.source, self.numbers[index], self.config)
        pixels = read_crop(self.source, crop, range(crop.length), self.config)
        seen = references(crop.length, self.config)
        vectors = [from_image(pixels[frame], source="training").vector() for frame in seen]
        result = {"pixels": pixels, "palette": vectors, "hue_shifted": crop.hue_shifted}
        if cell := self.config.region_cell:
            regions = split(pixels, pixels[0], cell, region_rng(self.config, crop))
            result["regions"] = regions
            result["region_palettes"] = [
                palettes(pixels[frame], whole, regions[frame], cell)
                for frame, whole in zip(seen, vectors, strict=True)
            ]
        return result


def _encode(crop: Mapping[str, Any], config: CropConfig, encoder: Encoder) -> Batch:
    """Encode a crop and repeat its last latents up to the length of the longest."""
    pixels = crop["pixels"]
    count = len(references(config.frames, config))
    color, gray = encoder.latents(pixels)
    result = {
        "color": _repeat_last(color, config.frames),
        "gray": _repeat_last(gray, config.frames),
        "palette": _repeat_last(np.array(crop["palette"], np.float32), count),
        "hue_shifted": np.array(crop["hue_shifted"]),
        "length": np.array(len(pixels)),
    }
    if "regions" in crop:
        result["regions"] = _repeat_last(crop["regions"], config.frames)
        result["region_palettes"] = _repeat_last(np.array(crop["region_palettes"]), count)
    seen = pixels[references(len(pixels), config)]
    if encoder.embeds:
        return result | {"context": _repeat_last(encoder.contexts(seen), count)}
    return result | {"reference": _repeat_last(seen, count)}


def _repeat_last(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1), mode="edge")


def _save(folder: Path, crops: Iterable[Batch], count: int) -> None:
    """Write the arrays of `count` crops as one .npy file a name, holding one crop at a time."""
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        for crop in crops:
            for name, array in crop.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    header = {"descr": array.dtype.str, "fortran_order": False}
                    header["shape"] = (count, *array.shape)
                    np.lib.format.write_array_header_1_0(files[name], header)
                files[name].write(array.tobytes())


def _shards(folder: Path, key: Mapping[str, Any]) -> list[tuple[Path, range]]:
    """Return the folder of each shard and the crops that it holds."""
    crops, size = len(key["clips"]) * key["crops"], key["shard"]
    return [
        (folder / f"shard-{number:05d}", range(crops)[number * size : (number + 1) * size])
        for number in range(-(-crops // size))
    ]


def _open_shard(folder: Path, crops: int) -> dict[str, np.ndarray]:
    """Map a shard's files; raises ValueError in one line if one is damaged or missing."""
    try:
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        lacking = {"color", "gray", "palette", "hue_shifted", "length"} - arrays.keys()
        short = {name for name, array in arrays.items() if array.shape[:1] != (crops,)}
        if lacking | short or not arrays.keys() & {"reference", "context"}:
            raise ValueError(f"{', '.join(sorted(lacking | short)) or 'context'} is incomplete")
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{folder}: this shard of a latent cache is damaged ({error}); delete it, and the same "
            "command writes it again."
        ) from None
    return arrays


def _check(folder: Path, key: Mapping[str, Any]) -> None:
    """Raise ValueError if the cache at `folder` was written with another key than `key`."""
    stored = ADDED | _stored(folder)
    different = sorted(name for name in key if stored.get(name) != key[name])
    if different:
        raise ValueError(
            f"{folder}: a latent cache with another {', '.join(different)}; delete it, or give "
            f"config.data.cache another folder.{_changed_clip(stored, key)}"
        )


def _stored(folder: Path) -> dict[str, Any]:
    """Read the key of the cache at `folder`. Raises ValueError if its index is damaged."""
    try:
        stored = json.loads((folder / INDEX).read_text())
    except (ValueError, RecursionError):  # no JSON, or no text
        stored = None
    if not isinstance(stored, dict):
        raise ValueError(
            f"{folder / INDEX}: the index of a latent cache, damaged; delete {folder}, and the "
            "same command writes it again."
        )
    return stored


def _check_present(folder: Path) -> None:
    if not (folder / INDEX).exists():
        raise ValueError(f"{folder}: no latent cache; give the folder of one, or none.")


def _changed_clip(stored: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """Name a clip whose files have changed; return nothing if none has, or the clips differ."""
    if stored.get("clips") != key["clips"] or not isinstance(stored.get("files"), list):
        return ""
    facts = zip(key["clips"], stored["files"], key["files"], strict=False)
    names = [name for name, before, now in facts if before != now]
    return f" The files of {len(names)} clips have changed, such as {names[0]}." if names else ""
