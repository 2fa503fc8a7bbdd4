"""The single-file layout of Stability AI's generative-models (SGM), in terms of diffusers' names.

One pure function per network maps a name of diffusers or transformers to the SGM name and to a
part of the SGM tensor. Reading and writing SGM files both use these functions.

Sources: generative-models' `sgm/modules/diffusionmodules/video_model.py` and
`sgm/modules/autoencoding/temporal_ae.py`, OpenCLIP's `VisionTransformer`.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from palette_vc_jax.models.config import ModelConfig

UNET = "model.diffusion_model."
DECODER = "first_stage_model.decoder."
# SGM encodes conditions with a second VAE, the only one that has kept its quant_conv.
CONDITION_VAE = "conditioner.embedders.3.encoder."
CLIP = "conditioner.embedders.0.open_clip.model.visual."
PREFIXES = {
    "unet": (UNET,),
    "vae": ("first_stage_model.", CONDITION_VAE),
    "image_encoder": ("conditioner.embedders.0.",),
}
# Tensors in the file that this package does not use: the first stage's encoder, used in training
# only, the condition VAE's decoder, and the rest of OpenCLIP (text tower, scales).
UNUSED = (
    "first_stage_model.encoder.",
    CONDITION_VAE + "decoder.",
    CONDITION_VAE + "post_quant_conv.",
    re.compile(r"conditioner\.embedders\.0\.open_clip\.model\.(?!visual\.)"),
)


class Location(NamedTuple):
    """The name of an SGM tensor, and the part of it that is one of diffusers' tensors."""

    name: str
    part: str = "full"  # or `conv1x1` (1x1 kernel of a linear layer), `transposed`, `q`, `k`, `v`


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
CLIP_OUTER = {
    "vision_model.embeddings.class_embedding": Location("class_embedding"),
    "vision_model.embeddings.patch_embedding.weight": Location("conv1.weight"),
    "vision_model.embeddings.position_embedding.weight": Location("positional_embedding"),
    "vision_model.pre_layrnorm.weight": Location("ln_pre.weight"),
    "vision_model.pre_layrnorm.bias": Location("ln_pre.bias"),
    "vision_model.post_layernorm.weight": Location("ln_post.weight"),
    "vision_model.post_layernorm.bias": Location("ln_post.bias"),
    "visual_projection.weight": Location("proj", "transposed"),
}


def locate(network: str, name: str, config: ModelConfig) -> Location:
    """Return the location of a tensor in an SGM file.

    Args:
        network: `unet`, `vae` or `image_encoder`.
        name: name in diffusers' or transformers' state dict.
        config: config of the model; SGM numbers blocks across levels, so their count matters.

    Raises:
        ValueError: if an SGM file has no such tensor.
    """
    found = {"unet": _unet, "vae": _vae, "image_encoder": _clip}[network](name, config)
    if found is None:
        raise ValueError(f"{network}: an SGM file has no tensor for {name}.")
    return found


def sgm_shape(shape: tuple[int, ...], part: str) -> tuple[int, ...]:
    """Return the shape of the SGM tensor whose `part` is a tensor of `shape`."""
    if part == "conv1x1":
        return (*shape, 1, 1)
    if part == "transposed":
        return shape[::-1]
    return (3 * shape[0], *shape[1:]) if part in "qkv" else shape


# ---- UNet


def _unet(name: str, config: ModelConfig) -> Location | None:
    per_level = config.unet.layers_per_block + 1
    top = len(config.unet.attention) - 1

    def numbered(blocks: str, first: int) -> Callable[[re.Match], str]:
        return lambda m: f"{blocks}.{first + int(m[1]) * per_level + int(m[2])}"

    def upsampler(match: re.Match) -> str:
        # The upsampler follows the attention, which the coarsest level lacks.
        level = int(match[1])
        slot = 2 if config.unet.attention[top - level] else 1
        return f"output_blocks.{(level + 1) * per_level - 1}.{slot}.conv"

    rules = [
        (r"time_embedding\.linear_([12])", lambda m: f"time_embed.{2 * int(m[1]) - 2}"),
        (r"add_embedding\.linear_([12])", lambda m: f"label_emb.0.{2 * int(m[1]) - 2}"),
        (r"conv_in", "input_blocks.0.0"),
        (r"conv_norm_out", "out.0"),
        (r"conv_out", "out.2"),
        (
            r"down_blocks\.(\d+)\.downsamplers\.0\.conv",
            lambda m: f"input_blocks.{(int(m[1]) + 1) * per_level}.0.op",
        ),
        (r"up_blocks\.(\d+)\.upsamplers\.0\.conv", upsampler),
        (r"down_blocks\.(\d+)\.(?:resnets|attentions)\.(\d+)", numbered("input_blocks", 1)),
        (r"up_blocks\.(\d+)\.(?:resnets|attentions)\.(\d+)", numbered("output_blocks", 0)),
        (r"mid_block\.resnets\.([01])", lambda m: f"middle_block.{2 * int(m[1])}"),
        (r"mid_block\.attentions\.0", "middle_block.1"),
    ]
    block, rest = _first(rules, name)
    if block is None:
        return None
    if ".resnets." in name:
        slot = "" if name.startswith("mid_block") else ".0"
        return Location(f"{UNET}{block}{slot}{_video_resnet(rest)}")
    if ".attentions." in name:
        slot = "" if name.startswith("mid_block") else ".1"
        rest = rest.replace(".temporal_transformer_blocks.", ".time_stack.", 1)
        rest = re.sub(
            r"time_pos_embed\.linear_([12])",
            lambda m: f"time_pos_embed.{2 * int(m[1]) - 2}",
            rest,
        )
        return Location(f"{UNET}{block}{slot}{rest}")
    return Location(UNET + block + rest)


def _video_resnet(rest: str) -> str:
    """Return the SGM name of a part of a resnet, such as `.spatial_res_block.conv1.weight`."""
    match = re.fullmatch(r"\.(spatial|temporal)_res_block\.(\w+)(\.\w+)", rest)
    if match is None:
        return rest  # .time_mixer.mix_factor
    stack = ".time_stack." if match[1] == "temporal" else "."
    return stack + RESNET[match[2]] + match[3]


# ---- VAE


def _vae(name: str, config: ModelConfig) -> Location | None:
    half, _, rest = name.partition(".")
    if half == "quant_conv":
        return Location(CONDITION_VAE + name)
    top = len(config.vae.block_out_channels) - 1
    prefix = {"encoder": CONDITION_VAE + "encoder.", "decoder": DECODER}.get(half)
    if prefix is None:
        return None
    rules = [
        (r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2"),
        (r"down_blocks\.(\d+)\.downsamplers\.0\.conv", r"down.\1.downsample.conv"),
        (r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{top - int(m[1])}.block.{m[2]}"),
        (
            r"up_blocks\.(\d+)\.upsamplers\.0\.conv",
            lambda m: f"up.{top - int(m[1])}.upsample.conv",
        ),
        (r"mid_block\.resnets\.([01])", lambda m: f"mid.block_{int(m[1]) + 1}"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"conv_norm_out", "norm_out"),
        (r"time_conv_out", "conv_out.time_mix_conv"),
        (r"conv_in|conv_out", r"\g<0>"),
    ]
    block, rest = _first(rules, rest)
    if block is None:
        return None
    if block == "mid.attn_1":
        layer, _, leaf = rest[1:].rpartition(".")
        linear = leaf == "weight" and layer != "group_norm"
        return Location(
            f"{prefix}{block}.{VAE_ATTENTION[layer]}.{leaf}", "conv1x1" if linear else "full"
        )
    temporal = re.fullmatch(r"\.temporal_res_block\.(\w+)(\.\w+)", rest)
    if temporal is not None:
        rest = f".time_stack.{RESNET[temporal[1]]}{temporal[2]}"
    rest = rest.removeprefix(".spatial_res_block").replace(".time_mixer.", ".", 1)
    return Location(prefix + block + rest.replace("conv_shortcut", "nin_shortcut"))


# ---- CLIP


def _clip(name: str, config: ModelConfig) -> Location | None:
    if name in CLIP_OUTER:
        outer = CLIP_OUTER[name]
        return outer._replace(name=CLIP + outer.name)
    match = re.fullmatch(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None:
        return None
    block = f"{CLIP}transformer.resblocks.{match[1]}."
    projection = re.fullmatch(r"self_attn\.([qkv])_proj", match[2])
    if projection is not None:
        return Location(f"{block}attn.in_proj_{match[3]}", projection[1])
    if match[2] not in CLIP_LAYER:
        return None
    return Location(f"{block}{CLIP_LAYER[match[2]]}.{match[3]}")


def is_unused(name: str) -> bool:
    """Return whether an SGM tensor belongs to none of the networks."""
    return any(
        name.startswith(known) if isinstance(known, str) else bool(known.match(name))
        for known in UNUSED
    )


def _first(
    rules: list[tuple[str, str | Callable[[re.Match], str]]], name: str
) -> tuple[str | None, str]:
    """Apply the first rule that matches a dotted prefix; return its result and the rest."""
    for pattern, result in rules:
        match = re.match(rf"(?:{pattern})(?=\.)", name)
        if match is not None:
            replaced = result(match) if callable(result) else match.expand(result)
            return replaced, name[match.end() :]
    return None, name
