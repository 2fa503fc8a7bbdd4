"""Open a published or fine-tuned SVD: a diffusers folder, or SGM's single file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax.conversion import clip, sgm, unet, vae
from palette_vc_jax.conversion.config import check_positive, check_values
from palette_vc_jax.conversion.table import Table, faults, refuse, torch_faults
from palette_vc_jax.conversion.tensors import Tensor, open_sharded, open_tensors
from palette_vc_jax.files import read_json as parse_json
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.config import ImageEncoderConfig, ModelConfig, UNetConfig, VAEConfig
from palette_vc_jax.models.functional import shapes
from palette_vc_jax.models.store import NETWORKS, load_config

STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "image_encoder": "model",
}
READERS = {
    "unet": (UNetConfig, unet.read_unet_config),
    "vae": (VAEConfig, vae.read_vae_config),
    "image_encoder": (ImageEncoderConfig, clip.read_image_encoder_config),
}
TABLES = {
    "unet": unet.unet_table,
    "vae": vae.vae_table,
    "image_encoder": clip.image_encoder_table,
}
# What this package computes; a scheduler that says otherwise belongs to another model.
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",  # the noise that sampling begins with is scaled by it
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}
# As the library has it by itself; newer files spell it out.
SCHEDULER_DEFAULTS = {"final_sigmas_type": "zero", "rescale_betas_zero_snr": False}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
PALETTE_FILE = "palette_embedding.safetensors"  # the palette layer, beside the networks


class Source(NamedTuple):
    """Weights of the three networks under diffusers' and transformers' names, not read yet."""

    config: ModelConfig
    tensors: dict[str, dict[str, Tensor]]  # network -> name -> tensor
    files: tuple[Path, ...]  # what the weights are read from
    palette: Path | None = None  # the file of `files` that holds the palette layer, if any


def tables(config: ModelConfig) -> dict[str, Table]:
    """Give the table of each network."""
    return {name: TABLES[name](shapes(NETWORKS[name], getattr(config, name))) for name in NETWORKS}


def open_source(path: Path, config: ModelConfig | None = None) -> Source:
    """Open a diffusers folder or an SGM file whose tensors are those that its config asks for.

    A palette layer is read from `PALETTE_FILE` in the folder, or beside the file.

    Args:
        path: of either; `*.fp16.safetensors` and sharded files are found.
        config: of an SGM file, which has none; by default SVD's, of 25 frames where the file's
            name says `xt`.

    Raises ValueError for whatever is missing, damaged, contradictory or not supported.
    """
    if path.is_dir():
        source = _add_palette(_open_folder(path), path)
        refuse(
            "".join(
                torch_faults(table, _shapes(source.tensors[network]))
                for network, table in tables(source.config).items()
            )
        )
        return source
    if not path.is_file():
        raise ValueError(f"{path}: no such folder or file; give a diffusers folder or an SVD file.")
    _refuse_pickle(path)
    config = config or (model_config.svd_xt() if "xt" in path.stem else model_config.svd())
    return _add_palette(_open_sgm(path, config), path.parent)


def open_model(folder: Path) -> Source:
    """Open a model folder of this package, as `open_source`; tensors are under flax' paths."""
    config, tensors, wrong = load_config(folder), {}, ""
    for network, table in tables(config).items():
        tensors[network] = open_tensors(folder / f"{network}.safetensors")
        wanted = {entry.flax: entry.shape for entry in table.entries}
        wrong += faults(network, wanted, _shapes(tensors[network]))
    refuse(wrong)
    return Source(config, tensors, tuple(folder / f"{network}.safetensors" for network in tensors))


def _add_palette(source: Source, folder: Path) -> Source:
    """Add the palette layer of `PALETTE_FILE` in `folder`, if the file exists.

    Raises ValueError for a file that is damaged or holds other tensors than the layer's, and for a
    UNet that has a palette layer as well.
    """
    path, unet_tensors = folder / PALETTE_FILE, source.tensors["unet"]
    inside = sorted(set(unet.PALETTE) & set(unet_tensors))
    if not path.exists():
        weights = [file for file in source.files if file.parent.name == "unet" and inside]
        return source._replace(palette=weights[0]) if weights else source
    if inside:
        raise ValueError(
            f"{path}: the UNet's own weights hold a palette layer too ({inside[0]}); remove one."
        )
    wanted = {
        entry.torch.removeprefix(unet.PALETTE_PREFIX): entry.torch_shape
        for entry in tables(source.config)["unet"].entries
        if entry.torch in unet.PALETTE
    }
    layer = open_tensors(path)
    refuse(faults(str(path), wanted, _shapes(layer)))
    layer = {unet.PALETTE_PREFIX + name: tensor for name, tensor in layer.items()}
    tensors = source.tensors | {"unet": unet_tensors | layer}
    return Source(source.config, tensors, (*source.files, path), path)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _open_folder(folder: Path) -> Source:
    tensors, files, parts = {}, [], {}
    for network, (kind, read) in READERS.items():
        values = read_json(folder / network / "config.json")
        parts[network] = kind(**read(values))
        weights = _find_weights(folder / network, STEMS[network])
        if weights.suffix == ".json":
            tensors[network], shards = open_sharded(weights)
            files += shards
        else:
            tensors[network] = open_tensors(weights)
            files.append(weights)
        if network == "unet":
            frames = values.get("num_frames", 14)
    preset = model_config.svd_xt() if frames == 25 else model_config.svd()
    sampling = replace(preset.sampling, num_frames=frames)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        values = read_json(scheduler)
        check_values("scheduler", values, SCHEDULER | SCHEDULER_DEFAULTS)
        for key in ("sigma_min", "sigma_max"):
            sampling = replace(sampling, **{key: values.get(key, getattr(sampling, key))})
        limits = {"sigma_min": sampling.sigma_min, "sigma_max": sampling.sigma_max}
        check_positive("scheduler", limits, limits)
        if sampling.sigma_min >= sampling.sigma_max:
            raise ValueError(
                f"scheduler: config.json says {limits}; sigma_min must be below sigma_max."
            )
    return Source(replace(preset, sampling=sampling, **parts), tensors, tuple(files))


def _find_weights(folder: Path, stem: str) -> Path:
    """Find a network's weights: whole before sharded, full precision before half."""
    names = [
        f"{stem}.safetensors",
        f"{stem}.safetensors.index.json",
        f"{stem}.fp16.safetensors",
        f"{stem}.safetensors.index.fp16.json",
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    for path in sorted(folder.glob("*")):
        _refuse_pickle(path)
    raise ValueError(f"{folder}: no weights found; {names[0]} is needed: download it too.")


def _refuse_pickle(path: Path) -> None:
    if path.suffix in PICKLES:
        raise ValueError(
            f"{path}: a pickle can run code when it is read, and is not opened; give the "
            "safetensors of the same model."
        )


def _open_sgm(path: Path, config: ModelConfig) -> Source:
    stored = open_tensors(path)
    tensors: dict[str, dict[str, Tensor]] = {}
    wanted = {}
    for network, table in tables(config).items():
        tensors[network] = {}
        for entry in table.entries:
            if entry.torch in table.zero_if_absent:
                continue
            place = sgm.place(network, entry.torch, config)
            shape = sgm.whole_shape(entry.torch_shape, place.part)
            wanted[place.name] = shape
            if place.name in stored and stored[place.name].shape == shape:
                tensors[network][entry.torch] = part_of(stored[place.name], place.part)
    given = {
        name: tensor.shape
        for name, tensor in stored.items()
        if name in wanted or not sgm.is_unused(name)
    }
    refuse(faults(path.name, wanted, given))
    return Source(config, tensors, (path,))


def part_of(tensor: Tensor, part: str) -> Tensor:
    """Give what a `sgm.Place` says of an SGM tensor."""
    shape, read = tensor
    if part == "whole":
        return tensor
    if part == "pixel":
        return Tensor(shape[:2], lambda: read().reshape(shape[:2]))
    if part == "transposed":
        return Tensor(shape[::-1], lambda: np.ascontiguousarray(read().T))
    third, index = shape[0] // 3, "qkv".index(part)
    return Tensor((third, *shape[1:]), lambda: read()[index * third : (index + 1) * third])


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a config file. Raises ValueError in one line if it is missing or no JSON object."""
    try:
        values = parse_json(path)
    except OSError:
        raise ValueError(
            f"{path}: not found; give a diffusers folder with unet/, vae/ and image_encoder/."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); download it again.") from None
    if not isinstance(values, Mapping):
        raise ValueError(f"{path}: not a JSON object; download it again.")
    return values
