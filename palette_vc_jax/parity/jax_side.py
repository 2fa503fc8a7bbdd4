"""The JAX side: run the networks of a model folder on PyTorch's inputs, and compare."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import safe_open

from palette_vc_jax.conversion.tensors import open_tensors
from palette_vc_jax.diffusion import edm, schedule, solvers
from palette_vc_jax.models import clip, functional, networks
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.layers import GroupNorm, LayerNorm
from palette_vc_jax.models.store import NETWORKS
from palette_vc_jax.models.unet import Level, UNet
from palette_vc_jax.parity.case import GUIDANCES, SMALL, Case
from palette_vc_jax.parity.report import BLOCK, NETWORK, PIPELINE, Row, compare, compare_values
from palette_vc_jax.pixels import to_signed
from palette_vc_jax.sampling.sampler import sample_film
from palette_vc_jax.sampling.settings import FilmConditions, SamplerSettings

TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # safetensors' code -> type


def stored_dtype(folder: Path) -> str:
    """Return the name of the type of a model folder's weights."""
    with safe_open(Path(folder) / "unet.safetensors", framework="numpy") as file:
        return TYPES[file.get_slice(next(iter(file.keys()))).get_dtype()]


def compare_all(
    folder: Path, inputs: dict, recorded: dict, config: ModelConfig, case: Case
) -> Iterator[Row]:
    """Run the networks in turn and yield comparisons with the results of `torch_side.run`.

    Args:
        folder: model folder.
        inputs: from `draw_inputs`.
        recorded: from `torch_side.run`.
        config: config of the model.
        case: size and length of the comparison.
    """
    yield compare_values("norms", norms(config), recorded["norms"])
    sigmas = schedule.karras_sigmas(
        case.steps, config.sampling.sigma_min, config.sampling.sigma_max
    )
    yield compare("sigmas", sigmas, recorded["sigmas"], 1e-6)
    yield compare("one Euler step", _middle_step(inputs, sigmas), recorded["step"], BLOCK)

    pixels = to_signed(inputs["image"])[None]
    params = _load(folder, "vae", case)
    encode = jax.jit(functools.partial(networks.encode, config))
    decode = jax.jit(functools.partial(networks.decode, config))
    gray = np.asarray(encode(params, pixels[None])[0])  # [1, h, w, C]
    yield compare("VAE encode", gray, recorded["vae"]["encode"], case.limit(NETWORK))
    decoded = decode(params, config.vae.scaling_factor * inputs["latents"])[0]
    yield compare("VAE decode", decoded, recorded["vae"]["decode"], case.limit(NETWORK))

    del params  # free memory before the next network is read
    params = _load(folder, "image_encoder", case)
    ready = clip.preprocess(pixels, config.image_encoder.image_size)
    yield compare("CLIP preprocessing", ready, recorded["preprocessed"], BLOCK)
    context = np.asarray(jax.jit(functools.partial(networks.embed, config))(params, pixels))
    yield compare("CLIP embedding", context, recorded["embedding"], case.limit(NETWORK))

    del params
    params = _load(folder, "unet", case)
    if case.palette:
        params["palette_embedding"] = jax.tree.map(jnp.asarray, inputs["layer"])
    yield from unet_rows(params, inputs, recorded["unet"], config, case)
    for scale in GUIDANCES:
        theirs = recorded[f"pipeline {scale:g}"]
        ours = _sample(params, inputs, gray, context, config, case, scale)
        for frame in range(case.frames):
            name = f"pipeline, guidance {scale:g}, frame {frame}"
            yield compare(name, ours[frame], theirs[frame], case.limit(PIPELINE))


def _middle_step(inputs: dict, sigmas: np.ndarray) -> np.ndarray:
    """Take the middle step with scaled noise as the sample and part of another input as v."""
    index = (len(sigmas) - 1) // 2
    sample, v = (
        inputs["noise"] * sigmas[index],
        inputs["sample"][0][..., : inputs["noise"].shape[-1]],
    )
    estimate = edm.denoised(v, sample, sigmas[index])
    row = solvers.solver_table("euler", sigmas)[index]
    return np.asarray(solvers.step(sample, estimate, np.zeros_like(estimate), row))


def norms(config: ModelConfig) -> dict[str, tuple[float, int]]:
    """Return the epsilon and groups (0 for a layer norm) of every norm, as `torch_side` does."""
    found = {}
    for network, kind in NETWORKS.items():
        module = nnx.merge(*functional.abstract(kind, getattr(config, network)))
        for path, norm in nnx.iter_modules(module):
            if isinstance(norm, GroupNorm | LayerNorm):
                name = ".".join(map(str, (network, *path)))
                found[name] = norm.eps, getattr(norm, "groups", 0)
    return found


def unet_rows(
    params: Any, inputs: dict, recorded: dict, config: ModelConfig, case: Case
) -> Iterator[Row]:
    """Compare each level with the record of `torch_side.record_unet`, then the whole UNet."""
    module = functional.build(UNet, config.unet, params)
    dtype = functional.compute_type(params)

    @functools.partial(jax.jit, static_argnums=0)
    def level(graph, state, x, time, context, skips):
        return _level(nnx.merge(graph, state), x, time, context, skips)

    for name, block in recorded["blocks"].items():
        part = module
        for key in name.split("."):
            part = part[int(key)] if key.isdigit() else getattr(part, key)
        graph, state = nnx.split(part)
        for scale, expected, note in ((1.0, "out", ""), (SMALL, "small", f", inputs x {SMALL:g}")):
            x, skips = jax.tree.map(
                lambda y, s=scale: np.float32(s) * y, (block["x"], block["skips"])
            )
            given = jax.tree.map(
                lambda y: y.astype(dtype), (x, block["time"], inputs["context"], skips)
            )
            out = level(graph, state, *given)
            yield compare(f"UNet {name}{note}", out, block[expected], case.limit(BLOCK))
    output = _predict(config)(
        params,
        inputs["sample"],
        0.25 * np.log(inputs["sigma"]),
        inputs["context"],
        inputs["ids"],
        inputs["palette"],
        np.full(1, float(case.palette), np.float32),
    )
    yield compare("UNet", output, recorded["out"], case.limit(NETWORK))


def _level(block: Level, x: Any, time: Any, context: Any, skips: list[Any]) -> Any:
    """Run one level as `UNet.__call__` does, taking skips from the end."""
    skips = list(skips)
    for index in range(len(block.resnets)):
        x = jnp.concatenate([x, skips.pop()], axis=-1) if skips else x
        x = block.layer(index, x, time, context)
    for name in ("downsamplers", "upsamplers"):
        if hasattr(block, name):
            x = getattr(block, name)[0](x)
    return x


def _load(folder: Path, network: str, case: Case) -> Any:
    """Read a network's parameters to compute in `case.dtype`, one tensor at a time.

    `store.load_model` needs 6 GB more for a full-size UNet, because it reads all as numpy first.
    """
    tensors = open_tensors(folder / f"{network}.safetensors")
    kinds = functional.flatten(functional.types(functional.nest(tensors), jnp.dtype(case.dtype)))
    return functional.nest(
        {name: jnp.asarray(tensor.read(), kinds[name]) for name, tensor in tensors.items()}
    )


@functools.lru_cache(maxsize=2)
def _predict(config: ModelConfig) -> Any:
    return jax.jit(functools.partial(networks.predict, config))


def _sample(
    params: Any,
    inputs: dict,
    gray: np.ndarray,
    context: np.ndarray,
    config: ModelConfig,
    case: Case,
    scale: float,
) -> np.ndarray:
    """Sample one window `[T, h, w, C]` with the settings of diffusers' pipeline."""
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
        np.repeat(gray, case.frames, axis=0),
        context,
        inputs["ids"][0],
        inputs["palette"],
        float(case.palette),
    )
    noise = inputs["noise"] * np.float32(schedule.initial_scale(settings.sigma_max))
    plan = settings.plan([(0, case.frames)])
    return np.asarray(sample_film(_predict(config), params, noise, conditions, plan, settings))
