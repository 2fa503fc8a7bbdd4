"""Compare a converted model with its PyTorch source.

The torch side runs first, records the inputs and outputs of every block, and is freed before the
JAX side is loaded. Each JAX block then gets the recorded inputs, so that errors do not accumulate.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from palette_vc_jax.conversion.source import open_model, open_source, tables
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import NETWORKS, load_model
from palette_vc_jax.parity import jax_side, torch_side
from palette_vc_jax.parity.case import Case, draw_inputs
from palette_vc_jax.parity.report import Row, compare_values


def check(torch_folder: Path, flax_folder: Path, case: Case) -> Iterator[Row]:
    """Run both sides and yield a row for each component, cheap ones first.

    PyTorch's weights are rounded to the type of the converted weights. Models whose parameters
    differ in shape have a single row that reports it.

    Args:
        torch_folder: diffusers folder.
        flax_folder: model folder converted from it.
        case: size and length of the comparison.

    Raises:
        ValueError: if a folder cannot be read, or the model does not support the size.
    """
    if not torch_folder.is_dir():
        raise ValueError(f"{torch_folder}: not a folder; give the diffusers folder of the model.")
    config = open_model(flax_folder).config
    theirs = open_source(torch_folder).config
    inputs = draw_inputs(config, case)
    yield compare_values("config", _values(config), _values(theirs))
    if tables(config) != tables(theirs):
        return
    if case.palette:
        inputs["layer"] = _palette_layer(flax_folder, config)
    dtype = jax_side.stored_dtype(flax_folder)
    recorded = torch_side.run(torch_folder, inputs, config, case, dtype)
    gc.collect()
    with jax.default_matmul_precision("highest"):
        yield from jax_side.compare_all(flax_folder, inputs, recorded, config, case)


def _values(config: ModelConfig) -> dict[str, object]:
    """Return the values of the architecture and of the sigmas by name."""
    networks = {
        f"{network}.{field}": getattr(getattr(config, network), field)
        for network in NETWORKS
        for field in getattr(config, network).__dataclass_fields__
    }
    sampling = {f"sampling.{k}": getattr(config.sampling, k) for k in ("sigma_min", "sigma_max")}
    return networks | sampling


def _palette_layer(folder: Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """Return the palette layer, or a random one if it is zero, as after conversion."""
    layer = load_model(folder, ("unet",)).params["unet"]["palette_embedding"]
    if any(np.any(leaf) for leaf in layer.values()):
        return layer
    rng = np.random.default_rng(0)
    return {k: rng.normal(0.0, 0.3, v.shape).astype(np.float32) for k, v in layer.items()}
