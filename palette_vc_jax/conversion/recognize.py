"""Say what a single file of weights holds, by the names and shapes of its tensors.

Names are those of diffusers, transformers, Stability AI's generative-models (SGM), and the
prefixes that other tools put before them.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from palette_vc_jax.conversion.sgm import CLIP, CONDITION_VAE, DECODER, UNET

NETWORKS = ("unet", "vae", "image_encoder")
# What training and compiling put before all names, or between them.
WRAPPERS = ("module.", "_orig_mod.", "state_dict.", "ema_model.", "model_ema.")
INNER = re.compile(r"\._orig_mod(?=\.)")
TEXT = re.compile(r"(text_model\.|text_projection\.|logit_scale$)")  # the rest of a CLIP model
IMAGE_MODELS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
GIVE_SVD = "give Stable Video Diffusion (img2vid or img2vid-xt)"


class Found(NamedTuple):
    """What a file holds."""

    what: str
    advice: str = GIVE_SVD  # if nothing in it can be converted
    networks: tuple[str, ...] = ()  # those that can be converted
    layout: str = "diffusers"  # or `sgm`


def tidy(names: Collection[str]) -> dict[str, str]:
    """Return the names of a file's tensors as SGM or diffusers have them, by the names given.

    Networks that are stored together under diffusers' names keep `unet.`, `vae.` and
    `image_encoder.`.
    """
    tidied = {name: INNER.sub("", name) for name in names}
    while prefix := next((p for p in WRAPPERS if _all_begin(tidied.values(), p)), None):
        tidied = {name: new.removeprefix(prefix) for name, new in tidied.items()}
    for prefix in (UNET, UNET.removeprefix("model."), "model.", *(f"{n}." for n in NETWORKS)):
        short = {name: new.removeprefix(prefix) for name, new in tidied.items()}
        if _all_begin(tidied.values(), prefix) and set(short.values()) & ROOTS:
            tidied = short
            break
    if "input_blocks.0.0.weight" in tidied.values():  # SGM's UNet alone
        return {name: UNET + new for name, new in tidied.items()}
    return tidied


# Tensors of a network that stands alone, by which a prefix before all of them is recognized.
ROOTS = {
    "conv_in.weight",
    "input_blocks.0.0.weight",
    "encoder.conv_in.weight",
    "vision_model.embeddings.class_embedding",
}


def recognize(shapes: Mapping[str, tuple[int, ...]]) -> Found:
    """Say what tensors with tidied names are."""
    names = set(shapes)
    for find in (_not_a_model, _in_sgm, _in_diffusers, _other):
        if found := find(names, shapes):
            return found
    some = ", ".join(sorted(names)[:3]) or "none"
    return Found(f"unknown weights (tensors such as {some})")


def own_name(network: str, name: str) -> str | None:
    """Return a tensor's name in its network under diffusers' names; None for one of no network."""
    if network == "image_encoder" and TEXT.match(name.removeprefix("image_encoder.")):
        return None
    others = tuple(f"{other}." for other in NETWORKS if other != network)
    return None if name.startswith(others) else name.removeprefix(f"{network}.")


def _not_a_model(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> Found | None:
    if any(re.search(r"lora_|\.lora\.|_lora\.|hada_|lokr_|\.alpha$", name) for name in names):
        return Found("LoRA updates, no model", "merge them into SVD with the tool that made them")
    if names == {"weight", "bias"}:
        return Found("a palette layer", "put it beside SVD's weights, and give those")
    if any(name.endswith((".kernel", ".embedding")) for name in names):
        return Found(
            "a network of this package, converted already",
            "give its folder to sample.py --checkpoint",
        )
    if _any(names, r"(^|\.)motion_modules\."):
        return Found("AnimateDiff's motion modules, which are made for image models")
    if _any(names, r"controlnet_|^control_model\."):
        return Found("a ControlNet, no model of its own")
    return None


def _in_sgm(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> Found | None:
    blocks = rf"{re.escape(UNET)}.*"
    if not _any(names, blocks):
        if _any(names, r"(encoder|decoder)\.(down|up)\.\d"):
            return Found(
                "a VAE alone in the layout of SGM",
                "give the diffusers folder of SVD's VAE with --base",
            )
        return None
    if not _any(names, blocks + r"\.time_stack\."):
        return _image_model(shapes, UNET)
    label = shapes.get(f"{UNET}label_emb.0.0.weight", (0, 0))
    if label[-1] in (256, 1280):
        return Found("SV3D, which turns the camera around an object")
    networks = ["unet"]
    decodes = any(name.startswith(DECODER) for name in names)
    temporal = any(name.startswith(DECODER) and ".time_stack." in name for name in names)
    if temporal and any(name.startswith(CONDITION_VAE) for name in names):
        networks.append("vae")
    if any(name.startswith(CLIP) for name in names):
        networks.append("image_encoder")
    what = "SVD's UNet alone" if len(networks) == 1 and not decodes else "SVD"
    if decodes and not temporal:
        what += " with the decoder of an image VAE"
    return Found(what, networks=tuple(networks), layout="sgm")


def _in_diffusers(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> Found | None:
    marks = {
        "unet": r"(unet\.)?down_blocks\..*\.spatial_res_block\.",
        "vae": r"(vae\.)?decoder\.up_blocks\..*\.temporal_res_block\.",
        "image_encoder": r"(image_encoder\.)?vision_model\.",
    }
    networks = tuple(network for network, mark in marks.items() if _any(names, f"^{mark}"))
    called = {"unet": "SVD's UNet", "vae": "SVD's VAE", "image_encoder": "a CLIP image tower"}
    if networks:
        alone = " alone" if len(networks) == 1 else ""
        return Found(f"{' and '.join(called[n] for n in networks)}{alone}", networks=networks)
    if _any(names, r"^(vae\.)?decoder\.up_blocks\."):
        return Found("the VAE of an image model", "give one with SVD's temporal decoder")
    if _any(names, r"^(unet\.)?down_blocks\.0\.") and _any(names, r"(^|\.)time_embedding\."):
        return _image_model(shapes, "")
    return None


def _image_model(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> Found:
    """Name an image model by the width of the text that its UNet attends to."""
    widths = {
        shape[-1]
        for name, shape in shapes.items()
        if name.startswith(prefix) and name.endswith("attn2.to_k.weight")
    }
    name = next((IMAGE_MODELS[w] for w in sorted(widths) if w in IMAGE_MODELS), "an image model")
    return Found(f"{name}, which has no temporal layers")


def _other(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> Found | None:
    if _any(names, r"(^|\.)(double_blocks|joint_blocks|transformer_blocks|blocks)\.\d"):
        return Found("a transformer of another family, such as Flux or Wan")
    if _any(names, r"^(text_model|text_encoder)\."):
        return Found("a text encoder")
    return None


def _any(names: Iterable[str], pattern: str) -> bool:
    found = re.compile(pattern)
    return any(found.search(name) for name in names)


def _all_begin(names: Collection[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)
