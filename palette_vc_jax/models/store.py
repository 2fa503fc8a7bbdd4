"""A model on disk: `config.json`, one safetensors file a network, and what belongs to them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from palette_vc_jax import DEMO, atomic, files
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ModelConfig, NetworkConfig
from palette_vc_jax.models.functional import Params, flatten, nest, shapes
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE

FLOATS = {"F64", "F32", "F16", "BF16"}  # types of tensors
PROVENANCE = "provenance.json"
NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "unet": UNet,
    "vae": VAE,
    "image_encoder": ImageEncoder,
}


class Model(NamedTuple):
    """A config and the parameters of its three networks, by the names of `NETWORKS`."""

    config: ModelConfig
    params: dict[str, Params]
    folder: Path | None = None  # model folder that it was read from, or whose training it is
    origin: Mapping[str, Any] | None = None  # of weights that are in no model folder


def save_model(
    folder: Path, config: ModelConfig, params: Mapping[str, Params], dtype: type = np.float32
) -> None:
    """Write the networks in `params` (all three, or some) and the config under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tree in params.items():
        flat: dict[str, np.ndarray] = {
            key: np.asarray(leaf, dtype) for key, leaf in flatten(tree).items()
        }
        save_file(flat, folder / f"{name}.safetensors")
    text = json.dumps(model_config.to_dict(config), indent=2)
    (folder / "config.json").write_text(text + "\n")


def write_model(
    folder: Path,
    model: Model,
    dtype: type = np.float32,
    also: Callable[[Path], None] = lambda partial: None,
) -> None:
    """Write a whole model with its `provenance.json`; `folder` is replaced when all is written.

    `also` may write more files into the folder that it is called with.
    """
    with atomic.folder(folder, replace=True) as partial:
        save_model(partial, model.config, model.params, dtype)
        (partial / PROVENANCE).write_text(_provenance(model, dtype))
        also(partial)


def is_written(folder: Path, model: Model, dtype: type) -> bool:
    """Return whether `write_model` has written this model there, judging by its provenance.

    The hash of the config and the trainer's version do not count: another version of this package
    has others for the same weights.
    """
    try:
        found = files.read_json(folder / PROVENANCE)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and _weights_of(found) == _weights_of(
        json.loads(_provenance(model, dtype))
    )


def _weights_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("config_sha256", "trainer")}


def _provenance(model: Model, dtype: type) -> str:
    return json.dumps(dict(origin_of(model)) | {"dtype": np.dtype(dtype).name}, indent=2) + "\n"


def origin_of(model: Model) -> Mapping[str, Any]:
    """Return where a model's weights come from: its `origin`, or the hashes of its files."""
    if model.origin is not None:
        return model.origin
    return {} if model.folder is None else {"sha256": file_hashes(model.folder)}


def load_model(
    folder: str | Path | None = None, networks: tuple[str, ...] = tuple(NETWORKS)
) -> Model:
    """Read a model folder; parameters come as float32.

    Args:
        folder: what training, `convert_svd` or `export` wrote; None for the bundled demo model.
        networks: names of those to read; for `()` the config alone is read.

    Raises:
        ValueError: in one line if the folder, the config or a tensor is missing or misshaped.
    """
    folder = Path(DEMO if folder is None else folder)
    config = load_config(folder)
    if set(networks) == set(NETWORKS):
        model_config.check_together(config)
    params = {name: _load_network(folder, name, getattr(config, name)) for name in networks}
    return Model(config, params, folder)


def load_config(folder: Path) -> ModelConfig:
    """Read a model folder's `config.json`.

    Raises ValueError if it is missing, no JSON, or says what no model can have.
    """
    path = Path(folder) / "config.json"
    if (Path(folder) / "checkpoints").is_dir():
        raise ValueError(
            f"{folder}: the workdir of a run, not a model folder; give {Path(folder) / 'model'}, "
            "or make a model folder with convert/run_to_model.py."
        )
    files.check_regular(path)
    try:
        values = files.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{folder}: not a checkpoint folder (no config.json); give the folder that "
            "convert/svd_to_flax.py or train.py wrote."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}).") from None
    try:
        return model_config.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def has_palette(model: Model) -> bool:
    """Return whether the palette layer is trained: one of zeros ignores every palette."""
    layer = model.params["unet"]["palette_embedding"]
    return any(np.any(leaf) for leaf in layer.values())


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of each weights file in a model folder."""
    files = sorted(Path(folder).glob("[!.]*.safetensors"))
    return {path.name: sha256(path) for path in files}


def sha256(path: Path) -> str:
    """Return a file's hash, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_network(folder: Path, name: str, config: NetworkConfig) -> Params:
    path = folder / f"{name}.safetensors"
    files.check_regular(path)
    if not path.is_file():
        raise ValueError(f"{folder}: {path.name} is missing; the model folder is incomplete.")
    expected = shapes(NETWORKS[name], config)
    try:
        with safe_open(path, framework="numpy") as file:
            _check_tensors(path, file, expected)  # before any is read
            flat = {key: file.get_tensor(key) for key in expected}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}).") from None
    return nest({key: value.astype(np.float32, copy=False) for key, value in flat.items()})


def _check_tensors(path: Path, file: Any, expected: Mapping[str, Any]) -> None:
    """Raise ValueError unless an open file has the expected tensors, of a type of floats."""
    slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
    wrong = sorted(
        set(slices) ^ set(expected)
        | {
            key
            for key in set(slices) & set(expected)
            if tuple(slices[key].get_shape()) != expected[key].shape
        }
    )
    if wrong:
        raise ValueError(
            f"{path}: {len(wrong)} tensors are missing, unknown or of another shape than "
            f"config.json says, such as {', '.join(name[:80] for name in wrong[:3])}."
        )
    unknown = sorted({part.get_dtype() for part in slices.values()} - FLOATS)
    if unknown:
        raise ValueError(f"{path}: values of type {unknown[0]}; one of {sorted(FLOATS)} is needed.")
