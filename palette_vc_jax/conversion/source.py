"""Open the weights of an SVD model: a diffusers folder, or SGM's single file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax.conversion import clip, sgm, unet, vae
from palette_vc_jax.conversion.config import check_positive, check_values
from palette_vc_jax.conversion.table import Table, mismatches, raise_mismatches, torch_mismatches
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
# The values that this package implements; a scheduler with others belongs to another model.
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",  # determines the scale of the initial noise
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}
# The library's defaults, which only newer files contain.
SCHEDULER_DEFAULTS = {"final_sigmas_type": "zero", "rescale_betas_zero_snr": False}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
PALETTE_FILE = "palette_embedding.safetensors"  # the palette layer, next to the networks


class Source(NamedTuple):
    """Weights of the three networks under diffusers' and transformers' names, read lazily."""

    config: ModelConfig
    tensors: dict[str, dict[str, Tensor]]  # network -> name -> tensor
    files: tuple[Path, ...]  # files of the weights
    palette: Path | None = None  # file with the palette layer, if any


def tables(config: ModelConfig) -> dict[str, Table]:
    """Return the table of each network."""
    return {name: TABLES[name](shapes(NETWORKS[name], getattr(config, name))) for name in NETWORKS}


def open_source(path: Path, config: ModelConfig | None = None) -> Source:
    """Open a diffusers folder or an SGM file, and check its tensors against its config.

    The palette layer is read from `PALETTE_FILE` in the folder, or next to the file.

    Args:
        path: folder or file; a folder may have `*.fp16.safetensors` or sharded files.
        config: config of an SGM file, which contains none; by default SVD's, with 25 frames if
            the file's name contains `xt`.

    Raises:
        ValueError: if anything is missing, damaged, inconsistent or not supported.
    """
    if path.is_dir():
        source = _add_palette(_open_folder(path), path)
        raise_mismatches(
            "".join(
                torch_mismatches(table, _shapes(source.tensors[network]))
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
    """Open a model folder of this package as `open_source` does, with tensors by flax path."""
    config, tensors, found = load_config(folder), {}, ""
    for network, table in tables(config).items():
        tensors[network] = open_tensors(folder / f"{network}.safetensors")
        wanted = {entry.flax: entry.shape for entry in table.entries}
        found += mismatches(network, wanted, _shapes(tensors[network]))
    raise_mismatches(found)
    return Source(config, tensors, tuple(folder / f"{network}.safetensors" for network in tensors))


def _add_palette(source: Source, folder: Path) -> Source:
    """Add the palette layer of `PALETTE_FILE` in `folder`, if the file exists.

    Raises:
        ValueError: if the file is damaged or has other tensors, or the UNet has a palette layer
            as well.
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
    raise_mismatches(mismatches(str(path), wanted, _shapes(layer)))
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
    sampling = replace(preset.sampling, window=frames)
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
    config = model_config.check(replace(preset, sampling=sampling, **parts))
    return Source(config, tensors, tuple(files))


def _find_weights(folder: Path, stem: str) -> Path:
    """Return a network's weights, preferring single files to shards and full precision to half."""
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
    raise ValueError(f"{folder}: no weights found; download {names[0]} too.")


def _refuse_pickle(path: Path) -> None:
    if path.suffix in PICKLES:
        raise ValueError(
            f"{path}: pickles are not read, because they can run code; give the safetensors of "
            "the same model."
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
            location = sgm.locate(network, entry.torch, config)
            shape = sgm.sgm_shape(entry.torch_shape, location.part)
            wanted[location.name] = shape
            if location.name in stored and stored[location.name].shape == shape:
                tensors[network][entry.torch] = part_of(stored[location.name], location.part)
    given = {
        name: tensor.shape
        for name, tensor in stored.items()
        if name in wanted or not sgm.is_unused(name)
    }
    raise_mismatches(mismatches(path.name, wanted, given))
    return Source(config, tensors, (path,))


def part_of(tensor: Tensor, part: str) -> Tensor:
    """Return a part of an SGM tensor, as named by `sgm.Location`."""
    shape, read = tensor
    if part == "full":
        return tensor
    if part == "conv1x1":
        return Tensor(shape[:2], lambda: read().reshape(shape[:2]))
    if part == "transposed":
        return Tensor(shape[::-1], lambda: np.ascontiguousarray(read().T))
    third, index = shape[0] // 3, "qkv".index(part)
    return Tensor((third, *shape[1:]), lambda: read()[index * third : (index + 1) * third])


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a config file; raise ValueError if it is missing or is not a JSON object."""
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
