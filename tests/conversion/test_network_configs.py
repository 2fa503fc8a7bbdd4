"""Published config.json files in, configs out, and back. Needs no torch."""

import json

import pytest

from palette_vc_jax.conversion.clip import read_image_encoder_config, write_image_encoder_config
from palette_vc_jax.conversion.unet import read_unet_config, write_unet_config
from palette_vc_jax.conversion.vae import read_vae_config, write_vae_config
from palette_vc_jax.models.config import (
    ImageEncoderConfig,
    UNetConfig,
    VAEConfig,
    demo,
    svd,
    svd_xt,
)

UNET = {  # as published with SVD-XT
    "_class_name": "UNetSpatioTemporalConditionModel",
    "_diffusers_version": "0.24.0.dev0",
    "addition_time_embed_dim": 256,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"],
    "in_channels": 8,
    "layers_per_block": 2,
    "num_attention_heads": [5, 10, 20, 20],
    "num_frames": 25,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 768,
    "sample_size": 96,
    "transformer_layers_per_block": 1,
    "up_block_types": ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
}
VAE = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "out_channels": 3,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}
CLIP = {
    "_name_or_path": "somewhere",
    "architectures": ["CLIPVisionModelWithProjection"],
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 224,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 5120,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "projection_dim": 1024,
    "torch_dtype": "float16",
    "transformers_version": "4.34.0.dev0",
}
READ = {
    "unet": (read_unet_config, UNET),
    "vae": (read_vae_config, VAE),
    "image_encoder": (read_image_encoder_config, CLIP),
}


def test_published_configs_are_the_presets():
    """If this fails, the preset differs from the network whose weights it holds."""
    for preset in (svd(), svd_xt()):
        assert UNetConfig(**read_unet_config(UNET)) == preset.unet
        assert VAEConfig(**read_vae_config(VAE)) == preset.vae
        assert ImageEncoderConfig(**read_image_encoder_config(CLIP)) == preset.image_encoder


def test_configs_come_back():
    """If this fails, converting back loses a value, or writes what JSON cannot hold."""
    model = svd()
    for written, (read, _), config in (
        (write_unet_config(model.unet), READ["unet"], model.unet),
        (write_vae_config(model.vae), READ["vae"], model.vae),
        (
            write_image_encoder_config(model.image_encoder),
            READ["image_encoder"],
            model.image_encoder,
        ),
    ):
        assert type(config)(**read(json.loads(json.dumps(written)))) == config
    written = write_unet_config(model.unet, num_frames=25)
    assert written == {key: UNET[key] for key in written}


def test_entries_may_be_given_per_level():
    """If this fails, an equal network, written as lists, is refused or misread."""
    lists = {
        "layers_per_block": [2, 2, 2, 2],
        "cross_attention_dim": [1024] * 4,
        "transformer_layers_per_block": [1] * 4,
    }
    assert read_unet_config(UNET | lists) == read_unet_config(UNET)
    one = read_unet_config(UNET | {"num_attention_heads": 10})
    assert one["num_attention_heads"] == (10, 10, 10, 10)


@pytest.mark.parametrize(
    "network, change, message",
    [
        ("unet", {"in_channels": 4}, "in_channels = 4; only 8 is supported"),
        ("unet", {"_class_name": "UNet2DConditionModel"}, "_class_name"),
        ("unet", {"transformer_layers_per_block": 2}, "transformer_layers_per_block = 2"),
        ("unet", {"transformer_layers_per_block": [1, 2, 1, 1]}, "levels with different values"),
        ("unet", {"layers_per_block": [2, 2, 2, 1]}, "levels with different values"),
        ("unet", {"projection_class_embeddings_input_dim": 512}, "only 768 is supported"),
        ("unet", {"down_block_types": ["DownBlock2D"] * 4}, "not supported: DownBlock2D"),
        (
            "unet",
            {"up_block_types": ["UpBlockSpatioTemporal"] * 4},
            "transformers at different levels",
        ),
        ("unet", {"num_attention_heads": [5, 10, 20]}, "one of each per level"),
        ("unet", {"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ("unet", {"num_attention_heads": [3, 10, 20, 20]}, "3 attention heads for a width of"),
        ("unet", {"num_attention_heads": None}, "positive integer"),
        ("unet", {"block_out_channels": 320}, "a list of positive integers"),
        ("unet", {"down_block_types": 4}, "down_block_types"),
        ("unet", {"down_block_types": [{}]}, "down_block_types"),
        ("unet", {"layers_per_block": [2, 2, 2, {}]}, "layers_per_block"),
        ("unet", {"out_channels": "4"}, "out_channels = '4'"),
        ("unet", {"num_frames": 0}, "num_frames = 0"),
        ("vae", {"latent_channels": [4]}, "latent_channels"),
        ("vae", {"layers_per_block": 2.5}, "layers_per_block = 2.5"),
        ("vae", {"scaling_factor": None}, "a positive number"),
        ("vae", {"scaling_factor": float("inf")}, "a positive number"),
        ("vae", {"down_block_types": 4}, "down_block_types = 4"),
        ("image_encoder", {"patch_size": 0}, "patch_size = 0"),
        ("image_encoder", {"num_hidden_layers": True}, "num_hidden_layers = True"),
        ("image_encoder", {"num_attention_heads": 7}, "7 attention heads for a width of 1280"),
        ("vae", {"down_block_types": ["AttnDownEncoderBlock2D"] * 4}, "DownEncoderBlock2D"),
        ("vae", {"_class_name": "AutoencoderKL"}, "AutoencoderKLTemporalDecoder"),
        ("vae", {"in_channels": 1}, "in_channels = 1"),
        ("vae", {"shift_factor": 0.1}, "shift_factor"),
        ("image_encoder", {"hidden_act": "quick_gelu"}, "hidden_act = 'quick_gelu'"),
        ("image_encoder", {"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ("image_encoder", {"attention_dropout": 0.1}, "attention_dropout"),
        ("image_encoder", {"rope_theta": 1e4}, "rope_theta"),
    ],
)
def test_what_cannot_be_expressed_is_refused(network, change, message):
    """If this fails, another network is taken for SVD's, and images are wrong without an error."""
    read, values = READ[network]
    with pytest.raises(ValueError, match=message) as error:
        read(values | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "network, values",
    [
        ("unet", {"_class_name": "UNet2DConditionModel", "attention_head_dim": 8}),
        ("vae", {"_class_name": "AutoencoderKL", "act_fn": "silu"}),
        ("image_encoder", {"model_type": "clip", "projection_dim": 768}),
    ],
)
def test_another_architecture_is_called_by_its_name(network, values):
    """If this fails, a user who gives another model is told to add a missing key."""
    kind = values.get("_class_name", "clip")
    with pytest.raises(ValueError, match=f"= '{kind}'; only"):
        READ[network][0](values)


@pytest.mark.parametrize(
    "network, key",
    [("unet", "num_attention_heads"), ("vae", "scaling_factor"), ("image_encoder", "hidden_act")],
)
def test_missing_keys_are_named(network, key):
    """If this fails, a default is guessed, such as the number of heads or the activation."""
    read, values = READ[network]
    with pytest.raises(ValueError, match=f"lacks {key}"):
        read({name: value for name, value in values.items() if name != key})


def test_models_that_diffusers_cannot_build_are_refused():
    """If this fails, the demo model, with its fewer norm groups, is written as another network."""
    with pytest.raises(ValueError, match="norm_groups is 8"):
        write_unet_config(demo().unet)
    with pytest.raises(ValueError, match="norm_groups is 4"):
        write_vae_config(demo().vae)
