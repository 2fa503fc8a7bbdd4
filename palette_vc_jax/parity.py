"""Compare a converted model with the PyTorch one it came from, on the same inputs.

The torch side runs first, records what goes in and out of every block, and is freed before the
JAX side is loaded: each block is then given the recorded inputs, so that its error is its own.
The only file of the package that imports torch.
"""

import functools
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from palette_vc_jax.conversion.source import open_source
from palette_vc_jax.diffusion import edm, schedule, solvers
from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import NETWORKS, load_config, load_model
from palette_vc_jax.models.unet import Level, UNet
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.sampling.sampler import sample_scan
from palette_vc_jax.sampling.settings import FilmConditions, SamplerSettings

BLOCK, WHOLE, PIPELINE = 2e-5, 1e-4, 1e-3  # limits of relative L2 errors in float32
GUIDANCES = (1.0, 2.0)


class Case(NamedTuple):
    """What both sides are run on."""

    frames: int = 3
    height: int = 128  # pixels, as the width a multiple of 64 for SVD
    width: int = 192
    steps: int = 25
    palette: bool = False
    seed: int = 0


class Row(NamedTuple):
    """One comparison."""

    name: str
    max_error: float
    relative: float  # L2 norm of the difference over that of PyTorch's output
    limit: float

    @property
    def passed(self) -> bool:
        """Tell whether the relative error is in its limit; one that is not a number is not."""
        return self.relative <= self.limit


def compare(name: str, ours: Any, theirs: Any, limit: float) -> Row:
    """Compare two outputs; other shapes, non-finite and constant outputs fail."""
    ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
    sound = ours.shape == theirs.shape and all(
        np.isfinite(x).all() and np.ptp(x) > 0.0 for x in (ours, theirs)
    )
    if not sound:
        return Row(name, float("nan"), float("nan"), limit)
    difference = np.abs(ours - theirs)
    norm = np.linalg.norm(theirs)
    return Row(name, float(difference.max()), float(np.linalg.norm(difference) / norm), limit)


def check(torch_folder: Path, flax_folder: Path, case: Case) -> Iterator[Row]:
    """Run both sides and yield a row for each component, cheap ones first.

    Raises ValueError for folders that cannot be read, and for a size that the model cannot take.
    """
    config = load_config(flax_folder)
    yield _configs(open_source(torch_folder).config, config)
    if case.height % config.pixel_multiple or case.width % config.pixel_multiple:
        raise ValueError(
            f"{case.width}x{case.height} pixels; multiples of {config.pixel_multiple} are needed."
        )
    inputs = _inputs(config, case)
    if case.palette:
        inputs["layer"] = _palette_layer(flax_folder, config)
    recorded = _run_torch(torch_folder, inputs, config, case)
    gc.collect()
    with jax.default_matmul_precision("highest"):
        yield from _run_jax(flax_folder, inputs, recorded, config, case)


def table(rows: list[Row]) -> str:
    """Lay out rows as text."""
    lines = [f"{'component':<34}{'max error':>12}{'relative L2':>14}{'limit':>10}"]
    for row in rows:
        verdict = "pass" if row.passed else "FAIL"
        errors = f"{row.max_error:>12.2e}{row.relative:>14.2e}"
        lines.append(f"{row.name:<34}{errors}{row.limit:>10.0e}  {verdict}")
    return "\n".join(lines)


def _configs(theirs: ModelConfig, ours: ModelConfig) -> Row:
    """Count the values of architecture in which the configs differ; any is one too many."""
    different = sum(
        getattr(getattr(theirs, network), field) != getattr(getattr(ours, network), field)
        for network in NETWORKS
        for field in getattr(ours, network).__dataclass_fields__
    )
    return Row("config values that differ", float(different), float(different), 0.0)


def _inputs(config: ModelConfig, case: Case) -> dict[str, np.ndarray]:
    """Draw inputs of the scales that sampling has."""
    rng = np.random.default_rng(case.seed)
    height, width = case.height // config.vae.downscale, case.width // config.vae.downscale
    latents = (case.frames, height, width, config.vae.latent_channels)
    smooth = rng.normal(size=(case.height // 8 + 1, case.width // 8 + 1, 3))
    picture = np.tanh(np.kron(smooth, np.ones((8, 8, 1)))[: case.height, : case.width])
    rounded = np.rint((picture + 1.0) * 127.5).astype(np.uint8)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "picture": rounded,
        "noise": normal(*latents),
        "sample": normal(1, *latents[:3], 2 * latents[3]),
        "context": normal(1, 1, config.unet.cross_attention_dim),
        "latents": 5.0 * normal(1, *latents),  # as unscaled latents are
        "palette": rng.uniform(-1.0, 1.0, (1, 3 * config.unet.palette_colors)).astype(np.float32),
        "ids": np.array([[6.0, 127.0, 0.0]], np.float32),
        "sigma": np.array([10.0], np.float32),
    }


def _palette_layer(folder: Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """Read the palette layer; one that is zero, as after conversion, is drawn at random."""
    layer = load_model(folder, ("unet",)).params["unet"]["palette_embedding"]
    if any(np.any(leaf) for leaf in layer.values()):
        return layer
    rng = np.random.default_rng(0)
    return {k: rng.normal(0.0, 0.3, v.shape).astype(np.float32) for k, v in layer.items()}


# ---- PyTorch


def _run_torch(folder: Path, inputs: dict, config: ModelConfig, case: Case) -> dict[str, Any]:
    """Run diffusers' pipeline and its parts; all results as numpy, channels last."""
    import diffusers
    import torch
    from PIL import Image

    half = (folder / "unet").glob("*.fp16.safetensors"), (folder / "unet").glob("*.index.fp16.json")
    whole = (folder / "unet" / "diffusion_pytorch_model.safetensors").exists()
    variant = "fp16" if not whole and any(map(list, half)) else None
    pipe = diffusers.StableVideoDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, variant=variant
    )
    pipe.set_progress_bar_config(disable=True)
    tensor = {k: torch.from_numpy(v) for k, v in inputs.items() if isinstance(v, np.ndarray)}
    frames = case.frames
    out: dict[str, Any] = {}
    with torch.no_grad():
        out["vae"] = _record_vae(pipe.vae, inputs, frames)
        picture = Image.fromarray(inputs["picture"])
        hook = pipe.image_encoder.register_forward_pre_hook(
            lambda module, args: out.update(preprocessed=_numpy(args[0].permute(0, 2, 3, 1)))
        )
        out["embedding"] = _numpy(pipe._encode_image(picture, "cpu", 1, False))
        hook.remove()

        pipe.scheduler.set_timesteps(case.steps)
        out["sigmas"] = _numpy(pipe.scheduler.sigmas)
        moved = pipe.scheduler.step(
            tensor["noise"], pipe.scheduler.timesteps[0], tensor["noise"] * 700.0
        )
        out["step"] = _numpy(moved.prev_sample)

        hooks = []
        if case.palette:
            layer = {k: torch.from_numpy(v) for k, v in inputs["layer"].items()}
            colors = (tensor["palette"] @ layer["kernel"] + layer["bias"])[:, :, None, None]
            hooks.append(pipe.unet.conv_in.register_forward_hook(lambda m, a, o: o + colors))
        out["unet"] = _record_unet(pipe.unet, tensor, frames)
        for scale in GUIDANCES:
            result = pipe(
                picture,
                height=case.height,
                width=case.width,
                num_frames=frames,
                num_inference_steps=case.steps,
                min_guidance_scale=scale,
                max_guidance_scale=scale,
                noise_aug_strength=0.0,
                latents=tensor["noise"].permute(0, 3, 1, 2)[None],
                output_type="latent",
            )
            out[f"pipeline {scale:g}"] = _numpy(result.frames.permute(0, 1, 3, 4, 2))[0]
        for hook in hooks:
            hook.remove()
    return out


def _record_vae(vae: Any, inputs: dict, frames: int) -> dict[str, np.ndarray]:
    import torch

    pixels = torch.from_numpy(inputs["picture"] / np.float32(127.5) - np.float32(1.0))
    latents = torch.from_numpy(inputs["latents"])[0].permute(0, 3, 1, 2)
    mode = vae.encode(pixels.permute(2, 0, 1)[None]).latent_dist.mode()
    decoded = vae.decode(latents, num_frames=frames).sample
    return {
        "encode": _numpy(mode.permute(0, 2, 3, 1)),
        "decode": _numpy(decoded.permute(0, 2, 3, 1)),
    }


def _record_unet(unet: Any, tensor: dict, frames: int) -> dict[str, Any]:
    """Run the UNet once and keep each block's inputs and output, `[1, T, h, w, C]`."""
    blocks: dict[str, Any] = {}

    def unfold(x: Any) -> np.ndarray:
        return _numpy(x.permute(0, 2, 3, 1))[None]

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple, kwargs: dict, output: Any) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            time = kwargs["temb"] if "temb" in kwargs else args[1]
            result = output[0] if isinstance(output, tuple) else output
            blocks[name] = {
                "x": unfold(hidden),
                "time": _numpy(time[::frames]),
                "skips": [unfold(skip) for skip in kwargs.get("res_hidden_states_tuple", ())],
                "out": unfold(result),
            }

        return hook

    named = [(f"down_blocks.{i}", block) for i, block in enumerate(unet.down_blocks)]
    named += [("mid_block", unet.mid_block)]
    named += [(f"up_blocks.{i}", block) for i, block in enumerate(unet.up_blocks)]
    hooks = [block.register_forward_hook(keep(name), with_kwargs=True) for name, block in named]
    sample = tensor["sample"].permute(0, 1, 4, 2, 3)
    noise_level = 0.25 * tensor["sigma"].log()
    out = unet(sample, noise_level, tensor["context"], tensor["ids"], return_dict=False)[0]
    for hook in hooks:
        hook.remove()
    return {"blocks": blocks, "out": _numpy(out.permute(0, 1, 3, 4, 2))}


def _numpy(x: Any) -> np.ndarray:
    return np.ascontiguousarray(x.detach().cpu().numpy())


# ---- JAX


def _run_jax(
    folder: Path, inputs: dict, recorded: dict, config: ModelConfig, case: Case
) -> Iterator[Row]:
    """Run one network after the other and compare."""
    sigmas = schedule.karras_sigmas(
        case.steps, config.sampling.sigma_min, config.sampling.sigma_max
    )
    yield compare("sigmas", sigmas, recorded["sigmas"], 1e-6)
    estimate = edm.denoised(inputs["noise"], inputs["noise"] * 700.0, sigmas[0])
    row = solvers.solver_table("euler", sigmas)[0]
    moved = solvers.step(inputs["noise"] * 700.0, estimate, np.zeros_like(estimate), row)
    yield compare("one Euler step", moved, recorded["step"], 1e-6)

    pixels = inputs["picture"].astype(np.float32)[None] / 127.5 - 1.0
    params = _load(folder, "vae")
    encode = jax.jit(functools.partial(functional.apply, VAE, config.vae, method="encode"))
    decode = jax.jit(functools.partial(functional.apply, VAE, config.vae, method="decode"))
    grey = np.asarray(encode(params, pixels[None])[0][0])  # [1, h, w, C]
    yield compare("VAE encode", grey, recorded["vae"]["encode"], WHOLE)
    decoded = decode(params, inputs["latents"])[0]
    yield compare("VAE decode", decoded, recorded["vae"]["decode"], WHOLE)

    params = _load(folder, "image_encoder")
    ready = clip.preprocess(pixels, config.image_encoder.image_size)
    yield compare("CLIP preprocessing", ready, recorded["preprocessed"], BLOCK)
    embed = jax.jit(functools.partial(functional.apply, ImageEncoder, config.image_encoder))
    context = np.asarray(embed(params, ready))
    yield compare("CLIP embedding", context, recorded["embedding"], WHOLE)

    params = _load(folder, "unet")
    if case.palette:
        params["palette_embedding"] = jax.tree.map(jnp.asarray, inputs["layer"])
    yield from _unet_rows(params, inputs, recorded["unet"], config, case)
    for scale in GUIDANCES:
        theirs = recorded.get(f"pipeline {scale:g}")
        if theirs is None:
            continue
        ours = _sample(params, inputs, grey, context, config, case, scale)
        for frame in range(case.frames):
            name = f"pipeline, guidance {scale:g}, frame {frame}"
            yield compare(name, ours[frame], theirs[frame], PIPELINE)


def _load(folder: Path, network: str) -> Any:
    return jax.tree.map(jnp.asarray, load_model(folder, (network,)).params[network])


def _unet_rows(
    params: Any, inputs: dict, recorded: dict, config: ModelConfig, case: Case
) -> Iterator[Row]:
    module = functional.build(UNet, config.unet, params)

    @functools.partial(jax.jit, static_argnums=0)
    def level(graph, state, x, time, context, skips):
        return _level(nnx.merge(graph, state), x, time, context, skips)

    for name, block in recorded["blocks"].items():
        part = module
        for key in name.split("."):
            part = part[int(key)] if key.isdigit() else getattr(part, key)
        out = level(*nnx.split(part), block["x"], block["time"], inputs["context"], block["skips"])
        yield compare(f"UNet {name}", out, block["out"], BLOCK)
    whole = _predict(config)(
        params,
        inputs["sample"],
        0.25 * np.log(inputs["sigma"]),
        inputs["context"],
        inputs["ids"],
        inputs["palette"],
        np.full(1, float(case.palette), np.float32),
    )
    yield compare("UNet", whole, recorded["out"], WHOLE)


def _level(block: Level, x: Any, time: Any, context: Any, skips: list[Any]) -> Any:
    """Run one level as `UNet.__call__` does; skips are taken from the end."""
    skips = list(skips)
    for index in range(len(block.resnets)):
        x = jnp.concatenate([x, skips.pop()], axis=-1) if skips else x
        x = block.layer(index, x, time, context)
    for name in ("downsamplers", "upsamplers"):
        if hasattr(block, name):
            x = getattr(block, name)[0](x)
    return x


@functools.lru_cache(maxsize=2)
def _predict(config: ModelConfig) -> Any:
    return jax.jit(functools.partial(functional.apply, UNet, config.unet))


def _sample(
    params: Any,
    inputs: dict,
    grey: np.ndarray,
    context: np.ndarray,
    config: ModelConfig,
    case: Case,
    scale: float,
) -> np.ndarray:
    """Run the sampler over one window as diffusers' pipeline runs: `[T, h, w, C]`."""
    settings = SamplerSettings(
        steps=case.steps,
        sigma_min=config.sampling.sigma_min,
        sigma_max=config.sampling.sigma_max,
        guidance_scale=scale,
        guidance="svd",
        window=case.frames,
        overlap=0,
    )
    conditions = FilmConditions(
        np.repeat(grey, case.frames, axis=0),
        context,
        inputs["ids"][0],
        inputs["palette"],
        float(case.palette),
    )
    noise = inputs["noise"] * np.float32(schedule.initial_scale(settings.sigma_max))
    plan = settings.plan([(0, case.frames)])
    return np.asarray(sample_scan(_predict(config), params, noise, conditions, plan, settings))
