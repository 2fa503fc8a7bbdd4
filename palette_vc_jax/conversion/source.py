"""Open the weights of an SVD model: a diffusers folder, or SGM's single file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from palette_vc_jax.conversion import clip, recognize, unet, vae
from palette_vc_jax.conversion.config import check_positive, check_values
from palette_vc_jax.conversion.layouts import from_diffusers, from_sgm, shapes_of, tables
from palette_vc_jax.conversion.table import (
    Entry,
    mismatches,
    raise_mismatches,
    torch_array,
    torch_mismatches,
)
from palette_vc_jax.conversion.tensors import Tensor, open_sharded, open_tensors
from palette_vc_jax.files import read_json as parse_json
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.config import (
    ImageEncoderConfig,
    ModelConfig,
    SamplingConfig,
    UNetConfig,
    VAEConfig,
)
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
CLASSES = {"unet": unet.CLASS, "vae": vae.CLASS, "image_encoder": clip.CLASS}
PIPELINE = "StableVideoDiffusionPipeline"
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


def open_source(path: Path, config: ModelConfig | None = None, base: Path | None = None) -> Source:
    """Open a diffusers folder or a single file, and check its tensors against its config.

    The palette layer is read from `PALETTE_FILE` in the folder, or next to the file.

    Args:
        path: folder or file; a folder may have `*.fp16.safetensors` or sharded files. A file has
            SGM's layout, or diffusers' names, perhaps with prefixes of other tools.
        config: config of a file, which contains none; by default that of `base`, or else SVD's
            with 25 frames if the file's name contains `xt`.
        base: a whole model, for the networks that `path` lacks: as `path`, or a model folder of
            this package.

    Raises:
        ValueError: if anything is missing, damaged, inconsistent or not supported.
    """
    if path.is_dir() and not _single_file(path):
        source = _add_palette(_open_folder(path, base), path)
        raise_mismatches(
            "".join(
                torch_mismatches(table, shapes_of(source.tensors[network]))
                for network, table in tables(source.config).items()
            )
        )
        return source
    path = _single_file(path) or path
    if not path.is_file():
        raise ValueError(f"{path}: no such folder or file; give a diffusers folder or an SVD file.")
    _refuse_pickle(path)
    return _add_palette(_open_file(path, config, base), path.parent)


def open_model(folder: Path) -> Source:
    """Open a model folder of this package as `open_source` does, with tensors by flax path."""
    config, tensors, found = load_config(folder), {}, ""
    for network, table in tables(config).items():
        tensors[network] = open_tensors(folder / f"{network}.safetensors")
        wanted = {entry.flax: entry.shape for entry in table.entries}
        found += mismatches(network, wanted, shapes_of(tensors[network]))
    raise_mismatches(found)
    return Source(config, tensors, tuple(folder / f"{network}.safetensors" for network in tensors))


def _open_base(path: Path) -> Source:
    """Open a whole model with its tensors under torch names."""
    if not (path / "config.json").is_file() or (path / "unet").is_dir():
        return open_source(path)
    opened = open_model(path)
    tensors = {
        network: {
            entry.torch: _as_torch(entry, opened.tensors[network][entry.flax])
            for entry in table.entries
        }
        for network, table in tables(opened.config).items()
    }
    return opened._replace(tensors=tensors, palette=path / "unet.safetensors")


def _as_torch(entry: Entry, tensor: Tensor) -> Tensor:
    return Tensor(entry.torch_shape, lambda: torch_array(entry, tensor.read()))


def _complete(
    base: Path | None,
    networks: Collection[str],
    what: str,
    config: ModelConfig,
    tensors: dict[str, dict[str, Tensor]],
    files: Sequence[Path],
) -> Source:
    """Return a source with `networks`, and with those of `base` that it lacks.

    Args:
        base: the whole model.
        networks: those that are given.
        what: their file or folder, for messages.
        config: the given networks' config.
        tensors: the given networks' tensors.
        files: the given networks' files.

    Raises:
        ValueError: if networks are lacking and there is no base, or the other way round.
    """
    lacking = [network for network in NETWORKS if network not in networks]
    if not lacking:
        if base is not None:
            raise ValueError(f"{what}, with all networks; leave out --base.")
        return Source(config, tensors, tuple(files))
    if base is None:
        raise ValueError(
            f"{what}; add --base SVD for {' and '.join(lacking)}: a diffusers folder, SVD's single "
            "file or a converted model."
        )
    whole = _open_base(base)
    parts = {network: getattr(whole.config, network) for network in lacking}
    files = [*files, *(file for file in whole.files if _network_of(file) not in networks)]
    palette = None if "unet" in networks else whole.palette
    return Source(replace(config, **parts), whole.tensors | tensors, tuple(files), palette)


def _network_of(file: Path) -> str:
    """Return the network of a weights file in a folder of networks or of this package."""
    return file.stem if file.stem in NETWORKS else file.parent.name


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
    raise_mismatches(mismatches(str(path), wanted, shapes_of(layer)))
    layer = {unet.PALETTE_PREFIX + name: tensor for name, tensor in layer.items()}
    tensors = source.tensors | {"unet": unet_tensors | layer}
    return Source(source.config, tensors, (*source.files, path), path)


def _open_folder(folder: Path, base: Path | None) -> Source:
    _check_pipeline(folder)
    tensors, files, parts = {}, [], {}
    places = {network: folder / network for network in NETWORKS}
    alone = _network_folder(folder)
    if alone is not None:
        places = {alone: folder}
    elif base is not None:
        places = {name: place for name, place in places.items() if place.is_dir()} or places
    frames = None
    for network, place in places.items():
        kind, read = READERS[network]
        values = read_json(place / "config.json")
        parts[network] = kind(**read(values))
        weights = _find_weights(place, STEMS[network])
        if weights.suffix == ".json":
            tensors[network], shards = open_sharded(weights)
            files += shards
        else:
            tensors[network] = open_tensors(weights)
            files.append(weights)
        if network == "unet":
            frames = values.get("num_frames", 14)
    what = f"{folder}: {' and '.join(places)} alone" if len(places) < 3 else f"{folder}: a model"
    if len(places) < len(NETWORKS) or base is not None:
        begun = _open_base(base).config if base is not None else model_config.svd()
        if frames not in (None, begun.sampling.window):
            begun = replace(begun, sampling=_trained_for(frames))
        config = replace(begun, **parts)
        return _complete(base, places, what, model_config.check(config), tensors, files)
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


def _trained_for(frames: int) -> SamplingConfig:
    preset = model_config.svd_xt() if frames == 25 else model_config.svd()
    return replace(preset.sampling, window=frames)


def _check_pipeline(folder: Path) -> None:
    """Raise ValueError if a diffusers folder is of another pipeline."""
    index = folder / "model_index.json"
    name = str(read_json(index).get("_class_name", PIPELINE))[:60] if index.is_file() else PIPELINE
    if name != PIPELINE:
        raise ValueError(f"{folder}: a {name} of diffusers; give a {PIPELINE}.")


def _network_folder(folder: Path) -> str | None:
    """Return the network whose own folder this is, by its config; None for other folders."""
    if not (folder / "config.json").is_file():
        return None
    values = read_json(folder / "config.json")
    if set(NETWORKS) <= set(values):
        raise ValueError(f"{folder}: a converted model; give it to sample.py --checkpoint.")
    kinds = values.get("architectures")
    names = [values.get("_class_name"), *(kinds if isinstance(kinds, list) else [])]
    return next((network for network, kind in CLASSES.items() if kind in names), None)


def _single_file(folder: Path) -> Path | None:
    """Return the only safetensors file of a folder that holds no network's folder or config."""
    if not folder.is_dir() or any((folder / name).exists() for name in (*NETWORKS, "config.json")):
        return None
    found = [path for path in folder.glob("*.safetensors") if path.name != PALETTE_FILE]
    return found[0] if len(found) == 1 else None


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


def _open_file(path: Path, config: ModelConfig | None, base: Path | None) -> Source:
    stored = open_tensors(path)
    names = recognize.tidy(stored)
    if len(set(names.values())) < len(names):
        raise ValueError(f"{path.name}: holds several copies of tensors, such as an average too.")
    stored = {names[name]: tensor for name, tensor in stored.items()}
    found = recognize.recognize(shapes_of(stored))
    if not found.networks:
        raise ValueError(f"{path.name}: {found.what}; {found.advice}.")
    if config is None:
        preset = model_config.svd_xt() if "xt" in path.stem else model_config.svd()
        config = preset if base is None else _open_base(base).config
        if "unet" in found.networks and "xt" in path.stem:
            config = replace(config, sampling=preset.sampling)
    what = f"{path.name}: {found.what}"
    source = _complete(base, found.networks, what, config, {}, [path])
    read = from_sgm if found.layout == "sgm" else from_diffusers
    tensors, wrong = read(stored, found.networks, config, path.name)
    raise_mismatches(wrong)
    return source._replace(tensors=source.tensors | tensors)


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
