"""Latents on disk: written once, a shard of crops at a time, and read by memory map.

A cache belongs to the networks, the clips and the choices it was made with; with others it is
refused. An interrupted writer goes on with the shards that are missing.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import grain
import numpy as np
from tqdm import tqdm

from palette_vc_jax.data.crops import CropConfig, draw_crop, read_crop, references
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.samples import Batch, Window
from palette_vc_jax.data.sources import ClipSource
from palette_vc_jax.models.store import sha256
from palette_vc_jax.palette.image import from_image

VERSION = 1  # of what is computed for a crop; raise it when that changes
SHARD = 64  # crops
INDEX = "index.json"


def cache_key(source: ClipSource, config: CropConfig, encoder: Encoder) -> dict[str, Any]:
    """Give all that the cached numbers depend on, as JSON has it."""
    folder = encoder.model.folder
    tower = sha256(folder / "image_encoder.safetensors") if encoder.embeds else None
    key = {
        "version": VERSION,
        "vae": sha256(folder / "vae.safetensors"),
        "image_encoder": tower,
        "clips": [source.name(clip) for clip in range(len(source))],
    }
    return json.loads(json.dumps(key | asdict(config)))


def stored_key(folder: Path, encoder: Encoder) -> dict[str, Any]:
    """Return the key of the cache at `folder`, to read it on a machine without its clips.

    `CacheReader(folder, stored_key(folder, encoder))` opens it. The clips and crops are those that
    it was written with; only the networks are checked, by the hashes of their weights.

    Raises ValueError if there is no cache, or if other networks than the encoder's wrote it.
    """
    try:
        key = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError):
        raise ValueError(
            f"{folder}: no latent cache; give a folder that holds {INDEX}, such as "
            "DATA_CACHE/train of a run."
        ) from None
    for network, used in (("vae", True), ("image_encoder", encoder.embeds)):
        expected = sha256(encoder.model.folder / f"{network}.safetensors") if used else None
        if key.get(network) != expected:
            raise ValueError(
                f"{folder}: the latents are not those of {encoder.model.folder} ({network}); "
                "give the model that they were written with."
            )
    return key


def write_cache(
    folder: Path,
    source: ClipSource,
    config: CropConfig,
    encoder: Encoder,
    process: int = 0,
    processes: int = 1,
) -> None:
    """Write what is missing of the cache at `folder`; each process writes its share of shards.

    Raises ValueError if the folder holds the cache of something else.
    """
    key = cache_key(source, config, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / INDEX).exists():
        _check(folder, key)
    elif process == 0:
        partial = folder / f".{INDEX}"
        partial.write_text(json.dumps(key, indent=1))
        partial.rename(folder / INDEX)
    crops = len(source) * config.crops
    shards = range(process, -(-crops // SHARD), processes)
    missing = [shard for shard in shards if not _shard(folder, shard).exists()]
    for shard in tqdm(missing, desc=f"encoding to {folder}", unit="shard", disable=None):
        numbers = range(shard * SHARD, min((shard + 1) * SHARD, crops))
        pixels = grain.MapDataset.source(_Pixels(source, config, numbers)).to_iter_dataset()
        encoded = [_encode(crop, config, encoder) for crop in pixels]
        partial = folder / f".shard-{shard:05d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in encoded[0]:
            np.save(partial / f"{name}.npy", np.stack([crop[name] for crop in encoded]))
        partial.rename(_shard(folder, shard))


class CacheReader:
    """Crops of a cache; see `samples.Reader`.

    `read` gives `color` and `grey` float16 `[T, h, w, C]`, `palette`, `turned`, and `reference`
    uint8 or `context_color` and `context_grey` `[L, D]`.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        """Open a whole cache; raises ValueError for one of something else, or not whole."""
        self.folder = Path(folder)
        if not (self.folder / INDEX).exists():
            raise ValueError(f"{folder}: no latent cache; give the folder of one, or none.")
        _check(self.folder, key)
        self.crops = len(key["clips"]) * key["crops"]
        shards = [_shard(self.folder, n) for n in range(-(-self.crops // SHARD))]
        missing = sum(not shard.exists() for shard in shards)
        if missing:
            raise ValueError(
                f"{folder}: {missing} of {len(shards)} shards are missing; run the writer again."
            )

    def __len__(self) -> int:
        return self.crops

    def name(self, crop: int) -> str:
        return f"{self.folder}: crop {crop}"

    def length(self, crop: int) -> int:
        return int(self._array(crop, "length"))

    def read(self, crop: int, window: Window) -> Batch:
        result = {name: self._array(crop, name)[window.frames] for name in ("color", "grey")}
        result["palette"] = self._array(crop, "palette")[window.reference]
        result["turned"] = np.array(self._array(crop, "turned"))
        if "reference" in self._shards[0]:
            result["reference"] = self._array(crop, "reference")[window.reference]
        else:
            contexts = self._array(crop, "context")[window.reference]
            result["context_color"], result["context_grey"] = contexts[0], contexts[1]
        return result

    def palettes(self) -> np.ndarray:
        """Give the palettes of all crops, `[N, 15]` in [-1, 1]."""
        return np.concatenate(
            [np.asarray(shard["palette"]).reshape(-1, 15) for shard in self._shards]
        )

    @cached_property
    def _shards(self) -> list[dict[str, np.ndarray]]:
        folders = [_shard(self.folder, n) for n in range(-(-self.crops // SHARD))]
        return [
            {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
            for folder in folders
        ]

    def _array(self, crop: int, name: str) -> np.ndarray:
        return self._shards[crop // SHARD][name][crop % SHARD]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "crops": self.crops}  # workers map the files themselves


class _Pixels:
    """Whole crops for the writer: a source for grain, which reads ahead."""

    def __init__(self, source: ClipSource, config: CropConfig, numbers: range):
        self.source, self.config, self.numbers = source, config, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        crop = draw_crop(self.source, self.numbers[index], self.config)
        pixels = read_crop(self.source, crop, range(crop.length), self.config)
        seen = pixels[references(crop.length, self.config)]
        palettes = [from_image(picture, source="training").vector() for picture in seen]
        return {"pixels": pixels, "reference": seen, "palette": palettes, "turned": crop.turned}


def _encode(crop: Mapping[str, Any], config: CropConfig, encoder: Encoder) -> Batch:
    """Encode a crop and repeat its last frame up to the length of the longest."""
    pixels, seen = crop["pixels"], crop["reference"]
    count = len(references(config.frames, config))
    color, grey = encoder.latents(_repeat_last(pixels, config.frames))
    result = {
        "color": color,
        "grey": grey,
        "palette": _repeat_last(np.array(crop["palette"], np.float32), count),
        "turned": np.array(crop["turned"]),
        "length": np.array(len(pixels)),
    }
    seen = _repeat_last(seen, count)
    return result | ({"context": encoder.contexts(seen)} if encoder.embeds else {"reference": seen})


def _repeat_last(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1), mode="edge")


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}"


def _check(folder: Path, key: Mapping[str, Any]) -> None:
    stored = json.loads((folder / INDEX).read_text())
    different = sorted(name for name in key if stored.get(name) != key[name])
    if different:
        raise ValueError(
            f"{folder}: a latent cache with another {', '.join(different)}; delete it, or give "
            "config.data.cache another folder."
        )
