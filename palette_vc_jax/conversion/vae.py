"""The VAE: its table, and diffusers' `config.json` in both directions.

The counterpart is diffusers' AutoencoderKLTemporalDecoder.
"""

from collections.abc import Mapping
from typing import Any

from palette_vc_jax.conversion.config import check_keys, check_positive, check_sizes, check_values
from palette_vc_jax.conversion.table import Table, build_table
from palette_vc_jax.models.config import VAEConfig

CLASS = "AutoencoderKLTemporalDecoder"
DOWN = "DownEncoderBlock2D"
NORM_GROUPS = 32  # fixed in diffusers' code
NEEDED = ("block_out_channels", "latent_channels", "layers_per_block", "scaling_factor")
# Keys of the pipeline (size and upcast), and keys that have one value in every SVD model.
KNOWN = ("in_channels", "out_channels", "down_block_types", "sample_size", "force_upcast")


def vae_table(shapes: Mapping[str, Any]) -> Table:
    """Derive the table from the VAE's flax paths and shapes (`models.functional.shapes`)."""
    return build_table("vae", shapes)


def read_vae_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert diffusers' config values to the fields of `VAEConfig`.

    Raises:
        ValueError: if a key is missing or unknown, or a value is not supported.
    """
    check_values("vae", values, {"_class_name": CLASS, "in_channels": 3, "out_channels": 3})
    check_keys("vae", values, NEEDED, KNOWN)
    check_sizes("vae", values, ("latent_channels", "layers_per_block"), ("block_out_channels",))
    check_positive("vae", values, ("scaling_factor",))
    widths = tuple(values["block_out_channels"])
    blocks = values.get("down_block_types")
    if blocks is not None and blocks != [DOWN] * len(widths):
        raise ValueError(
            f"vae: config.json says down_block_types = {blocks!r}; only {DOWN!r}, one for "
            "each of block_out_channels, is supported."
        )
    return {
        "latent_channels": values["latent_channels"],
        "block_out_channels": widths,
        "layers_per_block": values["layers_per_block"],
        "norm_groups": NORM_GROUPS,
        "scaling_factor": values["scaling_factor"],
    }


def write_vae_config(config: VAEConfig) -> dict[str, Any]:
    """Convert a `VAEConfig` to diffusers' config values.

    Raises:
        ValueError: if diffusers cannot build the network, for example with fewer norm groups.
    """
    if config.norm_groups != NORM_GROUPS:
        raise ValueError(
            f"vae: norm_groups is {config.norm_groups}, but diffusers supports only "
            f"{NORM_GROUPS}; keep this model in its own format."
        )
    return {
        "_class_name": CLASS,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": [DOWN] * len(config.block_out_channels),
        "block_out_channels": list(config.block_out_channels),
        "layers_per_block": config.layers_per_block,
        "latent_channels": config.latent_channels,
        "sample_size": 768,
        "scaling_factor": config.scaling_factor,
        "force_upcast": True,
    }
