"""Convert models from diffusers or SGM to this package's model folder, and back."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import palette_vc_jax
from palette_vc_jax import atomic, cli
from palette_vc_jax.conversion import clip, hub, sgm, unet, vae
from palette_vc_jax.conversion.source import (
    PALETTE_FILE,
    SCHEDULER,
    STEMS,
    open_model,
    open_source,
    tables,
)
from palette_vc_jax.conversion.table import Entry, flax_array, torch_array
from palette_vc_jax.conversion.tensors import DTYPES, Tensor, write_tensors
from palette_vc_jax.models import config as model_config
from palette_vc_jax.models.clip import MEAN, STD
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import sha256

FORMATS = ("diffusers", "sgm")
PALETTE_NOTE = (
    "Linear layer from 15 values to the width of conv_in: five sRGB colors in [-1, 1], dark to "
    "light by luma. Its output is added at every position and frame after conv_in, before "
    "anything else; to color without a palette, add nothing."
)


def convert_svd(
    source: str | Path,
    output: str | Path,
    dtype: str = "float32",
    base: str | Path | None = None,
) -> Path | None:
    """Convert SVD's weights, from a file, a folder or the Hugging Face hub, to a model folder.

    Args:
        source: diffusers folder, single file (.safetensors), or a name on the hub.
        output: folder to write; it is created when it is complete.
        dtype: type of the written weights, `float32` or `bfloat16`.
        base: whole model with the networks that `source` lacks: as `source`, or a model folder.

    Returns:
        The file that the palette layer was read from, or None if there was none and it is zero.

    Raises:
        ValueError: as `svd_to_flax` and `hub.fetch`.
    """
    output = Path(output)
    atomic.check_folder(output)  # check before gigabytes are downloaded
    whole = None if base is None else _local(base)
    return svd_to_flax(_local(source), output, dtype, name=str(source), base=whole)


def _local(source: str | Path) -> Path:
    """Return a local path, after a download if `source` is a name on the hub."""
    missing = not Path(source).exists()
    return hub.fetch(str(source)) if missing and hub.HUB_ID.fullmatch(str(source)) else Path(source)


def svd_to_flax(
    source: Path,
    output: Path,
    dtype: str = "float32",
    name: str | None = None,
    config: ModelConfig | None = None,
    base: Path | None = None,
) -> Path | None:
    """Convert a diffusers folder or a single file into a model folder.

    The palette layer is read from `palette_embedding.safetensors` in the folder or next to the
    file, as `flax_to_svd` writes it; without that file, it is zero.

    Args:
        source: folder or file.
        output: folder to write; it is created when it is complete.
        dtype: type of the written weights, `float32` or `bfloat16`.
        name: name of the source in the record; by default that of the path.
        config: config of a file; see `open_source`.
        base: whole model with the networks that `source` lacks; see `open_source`.

    Returns:
        The file that the palette layer was read from, or None if there was none.

    Raises:
        ValueError: if anything is missing, damaged, inconsistent or not supported.
    """
    opened = open_source(source, config, base)
    by_network = tables(opened.config)
    with atomic.folder(output) as folder, _bar("converting", _bytes(opened.config, dtype)) as bar:
        for network, table in by_network.items():
            given = opened.tensors[network]
            arrays = {
                entry.flax: Tensor(entry.shape, _read_flax(entry, given.get(entry.torch)))
                for entry in table.entries
            }
            write_tensors(folder / f"{network}.safetensors", arrays, dtype, bar.update)
        _write_json(
            folder / "provenance.json",
            {
                "source": name or source.name,
                **({} if base is None else {"base": base.name}),
                "sha256": {_relative(path, source): sha256(path) for path in opened.files},
                "dtype": dtype,
                "converter": f"palette_vc_jax {palette_vc_jax.__version__}",
            },
        )
        # Write the config last, because it marks the folder as a complete model.
        _write_json(folder / "config.json", model_config.to_dict(opened.config))
    return opened.palette


def flax_to_svd(source: Path, output: Path, form: str, dtype: str = "float32") -> None:
    """Convert a model folder to a diffusers folder or a folder with SGM's single file.

    Neither format has a palette layer, so it is written to a separate file, with
    `palette_embedding.json` that describes how to apply it.

    Args:
        source: model folder.
        output: folder to write; it is created when it is complete.
        form: one of `FORMATS`.
        dtype: type of the written weights, `float32`, `float16` or `bfloat16`.

    Raises:
        ValueError: if diffusers cannot build the model, and as `svd_to_flax`.
    """
    if form not in FORMATS:
        raise ValueError(f"format {form!r} is not known; use one of {', '.join(FORMATS)}.")
    opened = open_model(source)
    config = opened.config
    by_network = {
        network: {
            entry.torch: Tensor(
                entry.torch_shape, _read_torch(entry, opened.tensors[network][entry.flax])
            )
            for entry in table.entries
        }
        for network, table in tables(config).items()
    }
    palette = {
        key.removeprefix(unet.PALETTE_PREFIX): by_network["unet"].pop(key) for key in unet.PALETTE
    }
    configs = {
        "unet": unet.write_unet_config(config.unet, config.sampling.window),
        "vae": vae.write_vae_config(config.vae),
        "image_encoder": clip.write_image_encoder_config(config.image_encoder),
    }
    with atomic.folder(output) as folder, _bar("converting", _bytes(config, dtype)) as bar:
        write_tensors(folder / PALETTE_FILE, palette, dtype, bar.update)
        note = {"file": PALETTE_FILE, "colors": config.unet.palette_colors, "use": PALETTE_NOTE}
        _write_json(folder / "palette_embedding.json", note)
        if form == "sgm":
            write_tensors(
                folder / f"{config.name}.safetensors",
                _to_sgm(by_network, config),
                dtype,
                bar.update,
            )
            return
        for network, tensors in by_network.items():
            (folder / network).mkdir()
            write_tensors(
                folder / network / f"{STEMS[network]}.safetensors", tensors, dtype, bar.update
            )
            _write_json(folder / network / "config.json", configs[network])
        for path, values in _pipeline_files(config).items():
            (folder / path).parent.mkdir(exist_ok=True)
            _write_json(folder / path, values)


def _read_flax(entry: Entry, tensor: Tensor | None) -> Callable[[], np.ndarray]:
    if tensor is None:  # a published model has no palette layer, so it starts as zeros
        return lambda: np.zeros(entry.shape, np.float32)
    return lambda: flax_array(entry, tensor.read())


def _read_torch(entry: Entry, tensor: Tensor) -> Callable[[], np.ndarray]:
    return lambda: torch_array(entry, tensor.read())


def _to_sgm(
    by_network: Mapping[str, Mapping[str, Tensor]], config: ModelConfig
) -> dict[str, Tensor]:
    """Return the tensors with the names and shapes of an SGM file.

    The file holds a second copy of the encoder, the first stage's, without quant_conv. There,
    quant_conv is folded into the last convolution, so that both copies encode alike.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for network, tensors in by_network.items():
        for name, tensor in tensors.items():
            location = sgm.locate(network, name, config)
            parts.setdefault(location.name, {})[location.part] = tensor
    result = {name: _assemble(found) for name, found in parts.items()}
    encoder = sgm.CONDITION_VAE + "encoder."
    folded = {
        name.replace(encoder, "first_stage_model.encoder.", 1): tensor
        for name, tensor in result.items()
        if name.startswith(encoder)
    }
    quant = {leaf: by_network["vae"][f"quant_conv.{leaf}"] for leaf in ("weight", "bias")}
    last = {leaf: by_network["vae"][f"encoder.conv_out.{leaf}"] for leaf in ("weight", "bias")}

    def weight() -> np.ndarray:
        mix = np.float32(quant["weight"].read())[:, :, 0, 0]
        return np.einsum("om,mihw->oihw", mix, np.float32(last["weight"].read()))

    def bias() -> np.ndarray:
        mix = np.float32(quant["weight"].read())[:, :, 0, 0]
        return mix @ np.float32(last["bias"].read()) + np.float32(quant["bias"].read())

    prefix = "first_stage_model.encoder.conv_out."
    folded[prefix + "weight"] = Tensor(last["weight"].shape, weight)
    folded[prefix + "bias"] = Tensor(last["bias"].shape, bias)
    return result | folded


def _assemble(parts: Mapping[str, Tensor]) -> Tensor:
    """Return the SGM tensor of `parts`, the inverse of `layouts.part_of`."""
    part, tensor = next(iter(parts.items()))
    shape, read = tensor
    if part == "full":
        return tensor
    if part == "conv1x1":
        return Tensor((*shape, 1, 1), lambda: read()[:, :, None, None])
    if part == "transposed":
        return Tensor(shape[::-1], lambda: np.ascontiguousarray(read().T))
    rows = [parts[name] for name in "qkv"]
    return Tensor((3 * shape[0], *shape[1:]), lambda: np.concatenate([row.read() for row in rows]))


def _pipeline_files(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Return the other files that `StableVideoDiffusionPipeline.from_pretrained` reads."""
    sampling = config.sampling
    scheduler = SCHEDULER | {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "sigma_min": sampling.sigma_min,
        "sigma_max": sampling.sigma_max,
        "steps_offset": 1,
        "trained_betas": None,
    }
    extractor = {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(STD),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 224},
    }
    index = {
        "_class_name": "StableVideoDiffusionPipeline",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", clip.CLASS],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", unet.CLASS],
        "vae": ["diffusers", vae.CLASS],
    }
    return {
        "scheduler/scheduler_config.json": scheduler,
        "feature_extractor/preprocessor_config.json": extractor,
        "model_index.json": index,  # written last, because it marks the folder as complete
    }


def _bytes(config: ModelConfig, dtype: str) -> int:
    elements = sum(
        int(np.prod(entry.shape)) for table in tables(config).values() for entry in table.entries
    )
    return elements * np.dtype(DTYPES[dtype]).itemsize


def _bar(title: str, total: int) -> Any:
    return cli.progress(None, title, "B", total, unit_scale=True)


def _relative(path: Path, source: Path) -> str:
    """Return the name of a file in the record: below the source, or `base/` and its place."""
    folder = source if source.is_dir() else source.parent
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return f"base/{path.parent.name}/{path.name}"


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
