"""The image encoder: its table, and transformers' `config.json` in both directions.

The counterpart is transformers' CLIPVisionModelWithProjection.
"""

from collections.abc import Mapping
from typing import Any

from palette_vc_jax.conversion.config import check_keys, check_sizes, check_values
from palette_vc_jax.conversion.table import Table, build_table
from palette_vc_jax.models.config import ImageEncoderConfig

CLASS = "CLIPVisionModelWithProjection"
# A buffer 0, 1, 2, ... in files of older versions.
POSITIONS = "vision_model.embeddings.position_ids"
# transformers' key -> field of ImageEncoderConfig.
FIELDS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "projection_dim": "projection_dim",
}
FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "num_channels": 3,
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "model_type": "clip_vision_model",
    "architectures": [CLASS],
}
# Keys that concern the initialization of a new model or the library's bookkeeping.
IGNORED = (
    "initializer_factor",
    "initializer_range",
    "torch_dtype",
    "dtype",
    "transformers_version",
)


def image_encoder_table(shapes: Mapping[str, Any]) -> Table:
    """Derive the table from the tower's flax paths and shapes (`models.functional.shapes`)."""
    return build_table("image encoder", shapes, buffers=(POSITIONS,))


def read_image_encoder_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert transformers' config values to the fields of `ImageEncoderConfig`.

    `hidden_act` is required, because the library's default (quick_gelu) is another function.

    Raises:
        ValueError: if a key is missing or unknown, or a value is not supported.
    """
    check_values("image encoder", values, FIXED)
    check_keys("image encoder", values, [*FIELDS, "hidden_act"], [*FIXED, *IGNORED])
    check_sizes("image encoder", values, FIELDS)
    width, heads = values["hidden_size"], values["num_attention_heads"]
    if width % heads:
        raise ValueError(
            f"image encoder: config.json has {heads} attention heads for a width of {width}; "
            "the width must be a multiple of the heads."
        )
    return {field: values[key] for key, field in FIELDS.items()}


def write_image_encoder_config(config: ImageEncoderConfig) -> dict[str, Any]:
    """Convert an `ImageEncoderConfig` to transformers' config values."""
    return {key: getattr(config, field) for key, field in FIELDS.items()} | FIXED
