"""SGM's names at full size: where a rename by prefix goes wrong, and that it is one-to-one."""

import re

import pytest

from palette_vc_jax.conversion import sgm
from palette_vc_jax.conversion.source import tables
from palette_vc_jax.models.config import svd

CONFIG = svd()
UNET, VAE = "model.diffusion_model.", "conditioner.embedders.3.encoder."
DECODER = "first_stage_model.decoder."


@pytest.mark.parametrize(
    ("network", "name", "place"),
    [
        # 1 is the beginning of 10 and 11.
        ("unet", "up_blocks.0.resnets.1.time_mixer.mix_factor", "output_blocks.1.0.time_mixer"),
        ("unet", "up_blocks.3.resnets.1.time_mixer.mix_factor", "output_blocks.10.0.time_mixer"),
        ("unet", "up_blocks.3.resnets.2.time_mixer.mix_factor", "output_blocks.11.0.time_mixer"),
        ("unet", "up_blocks.3.attentions.1.proj_in.weight", "output_blocks.10.1.proj_in"),
        # Slot 1 is a transformer, but where there is none it is the upsampler.
        ("unet", "up_blocks.0.upsamplers.0.conv.bias", "output_blocks.2.1.conv.bias"),
        ("unet", "up_blocks.1.upsamplers.0.conv.bias", "output_blocks.5.2.conv.bias"),
        ("unet", "up_blocks.2.upsamplers.0.conv.bias", "output_blocks.8.2.conv.bias"),
        ("unet", "down_blocks.2.downsamplers.0.conv.bias", "input_blocks.9.0.op.bias"),
        ("unet", "down_blocks.3.resnets.1.time_mixer.mix_factor", "input_blocks.11.0.time_mixer"),
        ("unet", "mid_block.resnets.1.time_mixer.mix_factor", "middle_block.2.time_mixer"),
        # The condition's VAE has the encoder that quant_conv belongs to.
        ("vae", "quant_conv.weight", VAE + "quant_conv.weight"),
        ("vae", "encoder.conv_in.weight", VAE + "encoder.conv_in.weight"),
        ("vae", "decoder.up_blocks.0.resnets.2.time_mixer.mix_factor", "up.3.block.2.mix_factor"),
        ("vae", "decoder.time_conv_out.weight", DECODER + "conv_out.time_mix_conv.weight"),
        ("vae", "decoder.conv_out.weight", DECODER + "conv_out.weight"),
    ],
)
def test_traps(network, name, place):
    """If this fails, a tensor is taken from a place with a similar name."""
    found = sgm.locate(network, name, CONFIG).name
    prefixes = {"unet": (UNET,), "vae": ("", DECODER)}[network]
    assert any(found.startswith(prefix + place) for prefix in prefixes), found


def test_every_tensor_has_a_place_of_its_own():
    """If this fails, two tensors are filled from one, or the published file has another length."""
    locations = {
        network: [
            sgm.locate(network, entry.torch, CONFIG)
            for entry in table.entries
            if entry.torch not in table.zero_if_absent
        ]
        for network, table in tables(CONFIG).items()
    }
    everything = [location for found in locations.values() for location in found]
    assert len(set(everything)) == len(everything)
    assert len(locations["unet"]) == 1428
    assert sum(location.name.startswith(DECODER) for location in locations["vae"]) == 266
    assert sum(location.name.startswith(VAE) for location in locations["vae"]) == 106 + 2
    assert len({location.name for location in locations["image_encoder"]}) == 520 - 4 * 32


BLOCKS = [
    (r"input_blocks\.0\.0", lambda i: "conv_in"),
    (r"input_blocks\.(3|6|9)\.0\.op", lambda i: f"down_blocks.{i // 3 - 1}.downsamplers.0.conv"),
    (r"input_blocks\.(\d+)\.0", lambda i: f"down_blocks.{(i - 1) // 3}.resnets.{(i - 1) % 3}"),
    (r"input_blocks\.(\d+)\.1", lambda i: f"down_blocks.{(i - 1) // 3}.attentions.{(i - 1) % 3}"),
    (r"output_blocks\.(\d+)\.\d\.conv", lambda i: f"up_blocks.{i // 3}.upsamplers.0.conv"),
    (r"output_blocks\.(\d+)\.0", lambda i: f"up_blocks.{i // 3}.resnets.{i % 3}"),
    (r"output_blocks\.(\d+)\.1", lambda i: f"up_blocks.{i // 3}.attentions.{i % 3}"),
    (r"middle_block\.1", lambda i: "mid_block.attentions.0"),
    (r"middle_block\.(\d)", lambda i: f"mid_block.resnets.{i // 2}"),
    (r"out\.0", lambda i: "conv_norm_out"),
    (r"out\.2", lambda i: "conv_out"),
    (r"time_embed\.(\d)", lambda i: f"time_embedding.linear_{i // 2 + 1}"),
    (r"label_emb\.0\.(\d)", lambda i: f"add_embedding.linear_{i // 2 + 1}"),
]
INNER = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def _from_sgm(name: str) -> str:
    """Rename a UNet tensor of the published file, whose blocks are numbered by threes."""
    matches = ((re.match(rf"{pattern}(?=\.)", name), block) for pattern, block in BLOCKS)
    match, block = next((match, block) for match, block in matches if match)
    block, rest = block(int(match[1]) if match.groups() else 0), name[match.end() :]
    if "resnets" in block and "time_mixer" not in rest:
        half = "temporal" if rest.startswith(".time_stack") else "spatial"
        inner, leaf = rest.removeprefix(".time_stack")[1:].rsplit(".", 1)
        return f"{block}.{half}_res_block.{INNER[inner]}.{leaf}"
    rest = rest.replace(".time_stack.", ".temporal_transformer_blocks.")
    rest = re.sub(
        r"time_pos_embed\.(\d)", lambda m: f"time_pos_embed.linear_{int(m[1]) // 2 + 1}", rest
    )
    return block + rest


def test_unet_names_come_back_by_rules_of_the_other_side():
    """If this fails, one of the 1,428 names does not lead where the published layout says."""
    table = tables(CONFIG)["unet"]
    for entry in table.entries:
        if entry.torch not in table.zero_if_absent:
            location = sgm.locate("unet", entry.torch, CONFIG)
            assert location.part == "full"
            assert _from_sgm(location.name.removeprefix(UNET)) == entry.torch
