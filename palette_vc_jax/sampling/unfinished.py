"""Keep the finished parts of a film beside its output until the output is complete.

A run of shots is kept as its latents, which cost most of the time, in a folder beside the output.
The same command takes them from there after it was killed, and writes the film that an
uninterrupted run writes, bit for bit. The folder holds the record of the run that it belongs to.
"""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from palette_vc_jax import atomic, files
from palette_vc_jax.sampling.windows import Shot

RECORD = "run.json"
# What may differ: it changes the latents by rounding at most, or follows from other values.
# `palette_details` may hold a date. A run that had too little memory goes on with smaller batches.
IGNORED = (
    "latents_bytes",
    "network_evaluations",
    "output_options",
    "palette_details",
    "settings.decode_chunk",
    "settings.decode_context",
    "settings.decode_dtype",
    "settings.decode_fade",
    "settings.devices",
    "settings.encode_batch",
    "settings.leaving",
    "settings.memory",
    "settings.sampler.windows_per_batch",
    "windows",
)
# What messages call values whose keys are of files.
NAMES = {"input_sha256": "content of the film", "weights_sha256": "content of the checkpoint"}


def folder_of(output: Path) -> Path:
    """Return the folder that the finished parts of an output are kept in."""
    return output.with_name(f"{output.name}.unfinished")


def check(folder: Path, record: Mapping[str, Any], overwrite: bool = False) -> None:
    """Check that the parts in a folder, if it exists, are of the run that `record` describes.

    Args:
        folder: from `folder_of`.
        record: describes the whole film's run.
        overwrite: remove the parts of another run.

    Raises:
        ValueError: naming the first value that differs, or if the folder is not of a run.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return  # an empty one is left when the disk is full
    try:
        found = files.read_json(folder / RECORD)
    except (OSError, ValueError):
        raise ValueError(
            f"{folder}: exists, and holds no finished parts of a film; move it away."
        ) from None
    changed = difference(found, json.loads(json.dumps(record)))
    if changed and overwrite:
        remove(folder)
    elif changed:
        raise ValueError(
            f"{folder}: holds the beginning of this film with {changed}; give the same to go on, "
            "or --overwrite to begin again."
        )


def difference(before: Any, now: Any, name: str = "") -> str:
    """Return the first value that differs between two records, as text; empty if there is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            path = f"{name}.{key}" if name else key
            if path in IGNORED:
                continue
            if found := difference(before.get(key), now.get(key), path):
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        texts = (difference(one, other, f"{name}[{number}]") for number, (one, other) in pairs)
        return next(filter(None, texts), "")
    if before == now:
        return ""
    key, dot, rest = name.partition(".")
    return f"another {NAMES.get(key, key) + dot + rest or 'record'} ({before!r}, now {now!r})"


def keep(folder: Path, record: Mapping[str, Any], run: list[Shot], latents: np.ndarray) -> None:
    """Keep the latents of a run of shots.

    Args:
        folder: from `folder_of`; created if it does not exist.
        record: describes the whole film's run.
        run: the shots.
        latents: `[N, h, w, C]`.

    Raises:
        OSError: if the disk is full.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / RECORD).exists():
        atomic.write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    with atomic.file(_part(folder, run)) as partial, partial.open("wb") as file:
        np.savez(file, latents=latents)  # a ZIP file, which has a checksum


def kept(folder: Path, run: list[Shot], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the latents of a run of shots, or None if they were not kept or are damaged."""
    try:
        with np.load(_part(folder, run), allow_pickle=False) as stored:
            latents = stored["latents"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return latents if latents.shape == shape and latents.dtype == np.float32 else None


@contextlib.contextmanager
def noted(folder: Path) -> Iterator[None]:
    """Add a note that names the finished parts to an exception that ends the `with` block."""
    try:
        yield
    except BaseException as error:
        if folder.exists():
            error.add_note(f"{folder} keeps what is finished, and the same command goes on")
        raise


def remove(folder: Path) -> None:
    """Remove the parts of a film that is complete; the record last, which tells whose they are."""
    for part in folder.glob("*.npz"):
        part.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _part(folder: Path, run: list[Shot]) -> Path:
    return folder / f"{run[0][0]:07d}-{run[-1][1]:07d}.npz"
