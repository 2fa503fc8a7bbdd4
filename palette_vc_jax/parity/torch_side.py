"""The PyTorch side: run diffusers' pipeline and networks, and record inputs and outputs.

All results are numpy, channels last.
"""

import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.parity.case import GUIDANCES, SMALL, Case
from palette_vc_jax.pixels import to_signed

NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


@torch.no_grad()
def run(folder: Path, inputs: dict, config: ModelConfig, case: Case, dtype: str) -> dict[str, Any]:
    """Run all networks and the pipeline, and return what is compared.

    Args:
        folder: diffusers folder; its fp16 variant is used if there is no other.
        inputs: from `draw_inputs`, and with `case.palette` the palette `layer`.
        config: config of the model.
        case: size and length of the comparison.
        dtype: name of the torch type that weights are rounded to, that of the converted weights.

    Raises:
        ValueError: if diffusers cannot load the folder.
    """
    pipe = _load(folder)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), desc="PyTorch")
    networks = {"unet": pipe.unet, "vae": pipe.vae, "image_encoder": pipe.image_encoder}
    for network in networks.values():
        for parameter in network.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)))
    tensor = {k: torch.from_numpy(v) for k, v in inputs.items() if isinstance(v, np.ndarray)}
    image = Image.fromarray(inputs["image"])
    out = {"norms": _norms(networks), "vae": record_vae(pipe.vae, inputs, case.frames)}
    out |= _record_image(pipe, image) | _record_scheduler(pipe.scheduler, tensor, case)
    if case.palette:
        layer = {k: torch.from_numpy(v) for k, v in inputs["layer"].items()}
        colors = (tensor["palette"] @ layer["kernel"] + layer["bias"])[:, :, None, None]
        pipe.unet.conv_in.register_forward_hook(lambda module, args, out: out + colors)
    out["unet"] = record_unet(pipe.unet, inputs, case.frames)
    for scale in GUIDANCES:
        result = pipe(
            image,
            height=case.height,
            width=case.width,
            num_frames=case.frames,
            num_inference_steps=case.steps,
            min_guidance_scale=scale,
            max_guidance_scale=scale,
            noise_aug_strength=0.0,
            latents=tensor["noise"].permute(0, 3, 1, 2)[None],
            output_type="latent",
        )
        out[f"pipeline {scale:g}"] = _numpy(result.frames.permute(0, 1, 3, 4, 2))[0]
    return out


@torch.no_grad()
def record_vae(vae: Any, inputs: dict, frames: int) -> dict[str, np.ndarray]:
    """Encode the image to the mode of its latents, and decode the latents."""
    pixels = torch.from_numpy(to_signed(inputs["image"]))
    latents = torch.from_numpy(inputs["latents"])[0].permute(0, 3, 1, 2)
    mode = vae.encode(pixels.permute(2, 0, 1)[None]).latent_dist.mode()
    decoded = vae.decode(latents, num_frames=frames).sample
    return {
        "encode": _numpy(mode.permute(0, 2, 3, 1)),
        "decode": _numpy(decoded.permute(0, 2, 3, 1)),
    }


@torch.no_grad()
def record_unet(unet: Any, inputs: dict, frames: int) -> dict[str, Any]:
    """Run the UNet once and return the inputs and output of each block, `[1, T, h, w, C]`.

    Each block is also run alone on `SMALL` times its inputs, except the time embedding.
    """
    calls: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: tuple, kwargs: dict, output: Any) -> None:
            names = ("hidden_states", "temb", "encoder_hidden_states")
            calls[name] = module, dict(zip(names, args, strict=False)) | kwargs, output

        return hook

    named = [(f"down_blocks.{i}", block) for i, block in enumerate(unet.down_blocks)]
    named += [("mid_block", unet.mid_block)]
    named += [(f"up_blocks.{i}", block) for i, block in enumerate(unet.up_blocks)]
    hooks = [block.register_forward_hook(keep(name), with_kwargs=True) for name, block in named]
    sample, context, ids, sigma = (
        torch.from_numpy(inputs[key]) for key in ("sample", "context", "ids", "sigma")
    )
    sample = sample.permute(0, 1, 4, 2, 3)
    out = unet(sample, 0.25 * sigma.log(), context, ids, return_dict=False)[0]
    for hook in hooks:
        hook.remove()

    blocks = {}
    for name, (module, given, output) in calls.items():
        skips = given.get("res_hidden_states_tuple", ())
        small = given | {"hidden_states": SMALL * given["hidden_states"]}
        if skips:
            small["res_hidden_states_tuple"] = tuple(SMALL * skip for skip in skips)
        blocks[name] = {
            "x": _unfolded(given["hidden_states"]),
            "time": _numpy(given["temb"][::frames]),
            "skips": [_unfolded(skip) for skip in skips],
            "out": _unfolded(_first(output)),
            "small": _unfolded(_first(module(**small))),
        }
    return {"blocks": blocks, "out": _numpy(out.permute(0, 1, 3, 4, 2))}


def _record_image(pipe: Any, image: Image.Image) -> dict[str, np.ndarray]:
    """Embed the image, keeping what its preprocessing gave."""
    out = {}
    hook = pipe.image_encoder.register_forward_pre_hook(
        lambda module, args: out.update(preprocessed=_numpy(args[0].permute(0, 2, 3, 1)))
    )
    out["embedding"] = _numpy(pipe._encode_image(image, "cpu", 1, False))
    hook.remove()
    return out


def _record_scheduler(scheduler: Any, tensor: dict, case: Case) -> dict[str, np.ndarray]:
    """Return the sigmas, and the middle step as in `jax_side`."""
    scheduler.set_timesteps(case.steps)
    index = case.steps // 2
    sample = tensor["noise"] * scheduler.sigmas[index]
    v = tensor["sample"][0][..., : sample.shape[-1]]
    scheduler.scale_model_input(sample, scheduler.timesteps[index])  # sets the step's index
    moved = scheduler.step(v, scheduler.timesteps[index], sample).prev_sample
    return {"sigmas": _numpy(scheduler.sigmas), "step": _numpy(moved)}


def _norms(networks: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """Return the epsilon and groups (0 for a layer norm) of every norm."""
    return {
        f"{network}.{name}": (norm.eps, getattr(norm, "num_groups", 0))
        for network, module in networks.items()
        for name, norm in module.named_modules()
        if isinstance(norm, NORMS)
    }


def _load(folder: Path) -> Any:
    try:
        return diffusers.StableVideoDiffusionPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            variant=_variant(folder),
            local_files_only=True,
            low_cpu_mem_usage=False,
        )
    except OSError as error:  # a file other than the weights is missing
        raise ValueError(
            f"{folder}: diffusers cannot load it ({error}); download it again."
        ) from None


def _variant(folder: Path) -> str | None:
    """Return the variant to read: half precision if full precision is missing."""
    full = (folder / "unet").glob("diffusion_pytorch_model.safetensors*")
    return None if any(not path.name.endswith(".fp16.json") for path in full) else "fp16"


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _unfolded(x: torch.Tensor) -> np.ndarray:
    return _numpy(x.permute(0, 2, 3, 1))[None]


def _numpy(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().cpu().numpy())
