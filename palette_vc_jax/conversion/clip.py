"""The image encoder: its table, and transformers' `config.json` in both directions.

The counterpart is transformers' CLIPVisionModelWithProjection.
"""

from collections.abc import Mapping
from typing import Any

from palette_vc_jax.conversion.config import check_keys, check_sizes, check_values
from palette_vc_jax.conversion.table import Table, build_table
from palette_vc_jax.models.config import ImageEncoderConfig

CLASS = "CLIPVisionModelWithProjection"
# Numbers 0, 1, 2, ... that files of older versions hold.
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
# Only the initialization of a new model, or notes of the library.
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
    """Turn transformers' config values into the fields of `ImageEncoderConfig`.

    Raises ValueError for a missing or unknown key or a value that the model cannot express;
    `hidden_act` must be given, since the library's default (quick_gelu) is another function.
    """
    check_values("image encoder", values, FIXED)
    check_keys("image encoder", values, [*FIELDS, "hidden_act"], [*FIXED, *IGNORED])
    check_sizes("image encoder", values, FIELDS)
    width, heads = values["hidden_size"], values["num_attention_heads"]
    if width % heads:
        raise ValueError(
            f"image encoder: config.json has {heads} heads of attention for a width of {width}; "
            "the width must be a multiple of the heads."
        )
    return {field: values[key] for key, field in FIELDS.items()}


def write_image_encoder_config(config: ImageEncoderConfig) -> dict[str, Any]:
    """Turn an `ImageEncoderConfig` into transformers' config values."""
    return {key: getattr(config, field) for key, field in FIELDS.items()} | FIXED
