"""The UNet: its table, and diffusers' `config.json` in both directions.

The counterpart is diffusers' UNetSpatioTemporalConditionModel. The palette layer, which diffusers
lacks, is stored as `palette_embedding.weight` and `palette_embedding.bias`.
"""

from collections.abc import Mapping
from typing import Any

from palette_vc_jax.conversion.config import check_keys, check_sizes, check_values, uniform
from palette_vc_jax.conversion.table import Table, build_table
from palette_vc_jax.models.config import UNetConfig

CLASS = "UNetSpatioTemporalConditionModel"
PALETTE_PREFIX = "palette_embedding."
PALETTE = (PALETTE_PREFIX + "weight", PALETTE_PREFIX + "bias")
DOWN = {True: "CrossAttnDownBlockSpatioTemporal", False: "DownBlockSpatioTemporal"}
UP = {True: "CrossAttnUpBlockSpatioTemporal", False: "UpBlockSpatioTemporal"}
BUILT_IN = {"norm_groups": 32, "norm_eps": 1e-6, "deep_norm_eps": 1e-5}  # fixed in diffusers' code
NEEDED = (
    "in_channels",
    "out_channels",
    "down_block_types",
    "up_block_types",
    "block_out_channels",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "layers_per_block",
    "cross_attention_dim",
    "num_attention_heads",  # required, because the library's default has changed
)
KNOWN = ("sample_size", "num_frames", "transformer_layers_per_block")
# Either one value or a list with one value per level; different values are not supported.
PER_LEVEL = ("layers_per_block", "cross_attention_dim", "transformer_layers_per_block")
NUMBERS = ("in_channels", "out_channels", "addition_time_embed_dim", "num_frames")


def unet_table(shapes: Mapping[str, Any]) -> Table:
    """Derive the table from the UNet's flax paths and shapes (`models.functional.shapes`)."""
    return build_table("unet", shapes, zero_if_absent=PALETTE)


def read_unet_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert diffusers' config values to the fields of `UNetConfig`.

    Raises:
        ValueError: if a key is missing or unknown, or a value is not supported.
    """
    check_values("unet", values, {"_class_name": CLASS})
    check_keys("unet", values, NEEDED, KNOWN)
    values = {"num_frames": 14, "transformer_layers_per_block": 1} | dict(values)
    either = (*PER_LEVEL, "num_attention_heads")
    check_sizes("unet", values, (*NUMBERS, *either), (*either, "block_out_channels"))
    same = {key: uniform("unet", key, values[key]) for key in PER_LEVEL}
    attention = _read_attention(values)
    fixed = {
        "in_channels": 2 * values["out_channels"],  # [noisy, gray]
        "projection_class_embeddings_input_dim": 3 * values["addition_time_embed_dim"],
        "transformer_layers_per_block": 1,
    }
    check_values("unet", {**values, **same}, fixed)
    widths, heads = tuple(values["block_out_channels"]), values["num_attention_heads"]
    heads = (heads,) * len(widths) if isinstance(heads, int) else tuple(heads)
    if not len(widths) == len(heads) == len(attention):
        raise ValueError(
            f"unet: config.json has {len(attention)} blocks, {len(widths)} widths and "
            f"{len(heads)} numbers of heads; one of each per level is needed."
        )
    for width, number in zip(widths, heads, strict=True):
        if width % number:
            raise ValueError(
                f"unet: config.json has {number} attention heads for a width of {width}; "
                "the width must be a multiple of the heads."
            )
    return {
        "latent_channels": values["out_channels"],
        "block_out_channels": widths,
        "attention": attention,
        "num_attention_heads": heads,
        "layers_per_block": same["layers_per_block"],
        "cross_attention_dim": same["cross_attention_dim"],
        "addition_time_embed_dim": values["addition_time_embed_dim"],
        **BUILT_IN,
    }


def write_unet_config(config: UNetConfig, num_frames: int = 14) -> dict[str, Any]:
    """Convert a `UNetConfig` to diffusers' config values.

    Args:
        config: config of the network.
        num_frames: the pipeline's default number of frames; it does not change the network.

    Raises:
        ValueError: if diffusers cannot build the network, for example with fewer norm groups.
    """
    for key, value in BUILT_IN.items():
        if getattr(config, key) != value:
            raise ValueError(
                f"unet: {key} is {getattr(config, key)}, but diffusers supports only {value}; "
                "keep this model in its own format."
            )
    return {
        "_class_name": CLASS,
        "sample_size": 96,
        "in_channels": 2 * config.latent_channels,
        "out_channels": config.latent_channels,
        "down_block_types": [DOWN[attends] for attends in config.attention],
        "up_block_types": [UP[attends] for attends in reversed(config.attention)],
        "block_out_channels": list(config.block_out_channels),
        "addition_time_embed_dim": config.addition_time_embed_dim,
        "projection_class_embeddings_input_dim": 3 * config.addition_time_embed_dim,
        "layers_per_block": config.layers_per_block,
        "cross_attention_dim": config.cross_attention_dim,
        "transformer_layers_per_block": 1,
        "num_attention_heads": list(config.num_attention_heads),
        "num_frames": num_frames,
    }


def _read_attention(values: Mapping[str, Any]) -> tuple[bool, ...]:
    """Return which levels, from the finest, have transformers according to the block types."""
    sides = []
    for key, names in (("down_block_types", DOWN), ("up_block_types", UP)):
        kinds = {name: attends for attends, name in names.items()}
        given = values[key] if isinstance(values[key], list | tuple) else [values[key]]
        unknown = sorted({str(name) for name in given} - set(kinds))
        if unknown:
            raise ValueError(f"unet: config.json has {key} that are not supported: {unknown[0]}.")
        sides.append(tuple(kinds[name] for name in given))
    if sides[0] != sides[1][::-1]:
        raise ValueError(
            "unet: config.json has transformers at different levels in down_block_types and "
            "up_block_types, which is not supported."
        )
    return sides[0]
