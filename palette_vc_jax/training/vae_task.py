"""Train the demo's VAE on small crops, then give its latents unit scale."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from palette_vc_jax.data.crops import CropConfig, load_crops
from palette_vc_jax.data.sources import hold_out, open_clips
from palette_vc_jax.models import functional
from palette_vc_jax.models.config import PRESETS, VAEConfig
from palette_vc_jax.models.store import Model, write_model
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.pixels import to_gray3, to_signed
from palette_vc_jax.training.checks import check_vae
from palette_vc_jax.training.config import RunConfig
from palette_vc_jax.training.loop import Task
from palette_vc_jax.training.losses import vae_loss

FIRST_GAIN = 0.6  # of the first convolution's kernel, whose inputs now have unit variance


def make_task(config: RunConfig) -> Task:
    """Build the task of `config.model`'s VAE on `config.data`."""
    model = PRESETS[config.model]()
    check_vae(config, model)
    data = config.data
    config_of_crops = CropConfig(
        data.frames,
        data.size,
        data.short_sides,
        data.crops,
        reference_every=data.frames,
        mirrored=data.mirrored,
        seed=config.seed,
    )
    source = open_clips(data.source, data.root)
    train, held_out = hold_out(source, data.hold_out_every)
    if not len(held_out):
        raise ValueError(
            f"data.hold_out_every={data.hold_out_every} holds out none of {len(source)} clips, and "
            f"the VAE is validated on them; give 2 to {len(source)}, or a folder of more clips."
        )
    (crops, lengths), (held, _) = (
        load_crops(clips, config_of_crops) for clips in (train, held_out)
    )
    axes = color_axes(crops, config.color_floor)
    validation = to_signed(held[:: data.crops, : data.window])

    def loss(params, frozen, frames, key):
        del frozen  # nothing is
        return vae_loss(params, frames, key, model.vae, axes, config.kl_weight)

    evaluate = jax.jit(lambda params: loss(params, {}, validation, jax.random.key(0))[1])

    def validate(params, frozen) -> dict[str, float]:
        return {f"validation_{name}": float(value) for name, value in evaluate(params).items()}

    def export(params, step: int, folder: Path) -> None:
        whitened = whiten(params, model.vae, to_signed(crops[:: data.crops, ::4]))
        write_model(folder, Model(model, {"vae": whitened}, origin={"step": step}))

    return Task(
        init=lambda: _initial(model.vae, config.seed, axes),
        frozen={},
        loss=loss,
        batches=lambda first, rows: _batches(
            crops, lengths, config, first // config.batch_size, list(rows)
        ),
        validate=validate,
        export=export,
    )


def color_axes(pixels: np.ndarray, floor: float) -> np.ndarray:
    """Return the color axes `[3, 3]` (columns) along which pixels vary, scaled to unit variance.

    In natural pictures these are about green against magenta, blue against yellow, and
    brightness, with variances near 1 : 7 : 42 over the range [-1, 1].

    Args:
        pixels: uint8 sRGB of any shape `[..., 3]`.
        floor: added to the variances, so that the weakest axis is not all noise.
    """
    sample = to_signed(pixels.reshape(-1, 3)[::101])
    values, axes = np.linalg.eigh(np.cov(sample.T))
    return (axes / np.sqrt(values + floor)).astype(np.float32)


def _initial(config: VAEConfig, seed: int, axes: np.ndarray) -> functional.Params:
    """Start with quiet latents (log variance -6), so that the decoder has something to read,
    and with a first convolution that sees the color `axes` in equal strength.
    """
    params = functional.init(VAE, config, seed)
    bias = params["quant_conv"]["bias"]
    params["quant_conv"]["bias"] = bias.at[config.latent_channels :].set(-6.0)
    conv_in = params["encoder"]["conv_in"]
    conv_in["kernel"] = jnp.einsum("ic,hwco->hwio", FIRST_GAIN * axes, conv_in["kernel"])
    return params


def _batches(
    crops: np.ndarray, lengths: np.ndarray, config: RunConfig, step: int, rows: list[int]
) -> Iterator[np.ndarray]:
    while True:
        yield _batch(crops, lengths, config, step)[rows]
        step += 1


def _batch(crops: np.ndarray, lengths: np.ndarray, config: RunConfig, step: int) -> np.ndarray:
    """Cut `[B, T, h, w, 3]` in [-1, 1] out of the crops; some clips are turned gray."""
    data = config.data
    rng = np.random.default_rng((config.seed, step))
    height, width = data.patch
    clips = []
    for _ in range(config.batch_size):
        clip = rng.integers(len(crops))
        start = rng.integers(max(lengths[clip] - data.window, 0) + 1)
        top = rng.integers(crops.shape[2] - height + 1)
        left = rng.integers(crops.shape[3] - width + 1)
        frames = crops[clip, start : start + data.window, top : top + height, left : left + width]
        frames = to_signed(frames)
        clips.append(to_gray3(frames) if rng.random() < data.gray_rate else frames)
    return np.stack(clips)


def whiten(params: functional.Params, config: VAEConfig, frames: np.ndarray) -> functional.Params:
    """Fold a change of latent coordinates into the VAE: color latents get mean 0, covariance 1.

    Diffusion wants unit scale in every direction; a linear map after `quant_conv` and its
    inverse before the decoder's first convolution change nothing else. Latents are left in
    their principal axes. The zero padding of the decoder's first convolution now stands for
    the mean latent, so only a picture's border moves.

    Args:
        frames: `[N, T, H, W, 3]` in [-1, 1] to measure on.
    """
    encode = jax.jit(lambda part: functional.apply(VAE, config, params, part, method="encode")[0])
    latents = np.concatenate(
        [np.asarray(encode(part[None])).reshape(-1, config.latent_channels) for part in frames]
    )
    mean, covariance = latents.mean(0), np.cov(latents.T)
    values, axes = np.linalg.eigh(covariance)
    forward = axes / np.sqrt(values)  # z' = (z - mean) @ forward
    backward = (axes * np.sqrt(values)).T  # z = z' @ backward + mean

    params = jax.tree.map(np.array, params)
    channels = config.latent_channels
    quant = params["quant_conv"]
    quant["kernel"][..., :channels] = quant["kernel"][..., :channels] @ forward
    quant["bias"][:channels] = (quant["bias"][:channels] - mean) @ forward
    conv_in = params["decoder"]["conv_in"]
    conv_in["bias"] = conv_in["bias"] + np.einsum("i,hwio->o", mean, conv_in["kernel"])
    conv_in["kernel"] = np.einsum("ji,hwio->hwjo", backward, conv_in["kernel"])
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
