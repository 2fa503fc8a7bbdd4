"""The one door to the networks: encode, embed, predict and decode.

Each is a pure function of a model's config and of one network's parameters. The network computes
in the type of its parameters; the result is float32. Training calls the functions inside programs
of its own, sampling calls them jitted, on one or several devices (`load_networks`).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from palette_vc_jax.models import clip, functional
from palette_vc_jax.models.attention import check_choice, using
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.functional import Params
from palette_vc_jax.models.store import Model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import make_mesh

DTYPES = ("auto", "bfloat16", "float16", "float32")


def encode(config: ModelConfig, params: Params, frames: jax.Array) -> jax.Array:
    """Encode frames, each alone.

    Args:
        config: config of the model.
        params: parameters of the VAE.
        frames: `[B, T, H, W, 3]` in [-1, 1]; H and W are multiples of the VAE's factor.

    Returns:
        The mode of the latents `[B, T, h, w, C]`, unscaled as the condition is.
    """
    (frames,) = _cast(params, frames)
    mode, _ = functional.apply(VAE, config.vae, params, frames, method="encode")
    return mode.astype(jnp.float32)


def embed(config: ModelConfig, params: Params, images: jax.Array) -> jax.Array:
    """Embed images `[N, H, W, 3]` in [-1, 1], of any size, as `[N, L, D]`.

    Args:
        config: config of the model.
        params: parameters of the image encoder.
        images: see above.
    """
    (ready,) = _cast(params, clip.preprocess(images, config.image_encoder.image_size))
    context = functional.apply(ImageEncoder, config.image_encoder, params, ready)
    return context.astype(jnp.float32)


def predict(
    config: ModelConfig,
    params: Params,
    sample: jax.Array,
    c_noise: jax.Array,
    context: jax.Array,
    added_time_ids: jax.Array,
    palette: jax.Array,
    palette_mask: jax.Array,
    regions: jax.Array | None = None,
) -> jax.Array:
    """Predict the velocity v; the arguments after `params` are those of `UNet.__call__`.

    Args:
        config: config of the model.
        params: parameters of the UNet.
    """
    sample, context = _cast(params, sample, context)
    inputs = sample, c_noise, context, added_time_ids, palette, palette_mask, regions
    return functional.apply(UNet, config.unet, params, *inputs).astype(jnp.float32)


def decode(config: ModelConfig, params: Params, latents: jax.Array) -> jax.Array:
    """Decode color latents.

    Args:
        config: config of the model.
        params: parameters of the VAE.
        latents: `[B, T, h, w, C]` of unit scale.

    Returns:
        Frames `[B, T, H, W, 3]`, about in [-1, 1].
    """
    (latents,) = _cast(params, latents / config.vae.scaling_factor)
    frames = functional.apply(VAE, config.vae, params, latents, method="decode")
    return frames.astype(jnp.float32)


def time_ids(fps: float, motion_bucket: float, noise_augmentation: float) -> np.ndarray:
    """Return SVD's micro-conditioning `[3]` in the order of its embedding.

    Args:
        fps: the value sent to the network, frames per second - 1.
        motion_bucket: 0 to 255; a higher value asks for more motion.
        noise_augmentation: standard deviation of the noise on the condition's pixels.
    """
    return np.array([fps, motion_bucket, noise_augmentation], np.float32)


class Weights:
    """The parameters of a model's networks, each put on the devices when it is first used.

    Args:
        host: the parameters in host memory, by network.
        dtypes: type that each network computes in; see `functional.types`.
        meshes: devices of each network; None for the default device.
        leaving: whether `keep` releases the other networks.
    """

    def __init__(
        self,
        host: Mapping[str, Params],
        dtypes: Mapping[str, jnp.dtype],
        meshes: Mapping[str, Mesh | None],
        leaving: bool,
    ):
        self._host, self._dtypes, self._meshes, self._leaving = host, dtypes, meshes, leaving
        self._placed: dict[str, Params] = {}

    def __getitem__(self, name: str) -> Params:
        if name not in self._placed:
            self._placed[name] = _load(self._host[name], self._dtypes[name], self._meshes[name])
        return self._placed[name]

    def keep(self, *names: str) -> None:
        """Release the device memory of all networks but `names`, if networks are leaving."""
        if self._leaving:
            self._placed = {name: self._placed[name] for name in names if name in self._placed}


class Networks(NamedTuple):
    """The networks of a model on the devices."""

    config: ModelConfig
    weights: Weights
    encode: Any  # frames [N, H, W, 3] in [-1, 1] -> latents [N, h, w, C], unscaled
    embed: Any  # images [N, H, W, 3] in [-1, 1] -> [N, L, D]
    predict: Any  # the sampler's `predict`, which the sampler compiles with its own arithmetic
    decode: Any  # latents [B, T, h, w, C] of unit scale -> frames [B, T, H, W, 3]
    mesh: Mesh | None = None  # of the UNet; None where everything is on one device
    devices: int = 1  # N and B of `encode` and `decode` are multiples of it


def load_networks(
    model: Model,
    windows: int = 1,
    *,
    devices: int | None = None,
    dtype: str = "auto",
    decode_dtype: str = "auto",
    attention: str = "auto",
    leaving: bool = False,
) -> Networks:
    """Prepare a model for devices of this host; weights are loaded at first use.

    Windows are split over the devices; if there are fewer windows than devices, the frames of a
    window are split as well. The VAE's batches are split over the devices.

    Args:
        model: from `store.load_model`.
        windows: windows that can be evaluated at the same time, at most.
        devices: number of devices to use; None for all of this host.
        dtype: a name in `DTYPES`.
        decode_dtype: the same, for the VAE; `auto` is `dtype`, but float32 instead of float16,
            whose range the VAE's activations exceed (diffusers computes it in float32, too).
        attention: a name in `attention.CHOICES`.
        leaving: see `Weights`.

    Raises:
        ValueError: if a value is not valid, or there are fewer devices.
    """
    used = choose_devices(devices, dtype, decode_dtype, attention)
    unet, vae = meshes(used, windows) if len(used) > 1 else (None, None)
    types = dtypes(used[0], dtype, decode_dtype)
    places = {"unet": unet, "vae": vae, "image_encoder": vae}
    weights = Weights(model.params, types, places, leaving)
    call = functions(model.config, attention, vae)

    def bind(function: Any, network: str) -> Any:
        return lambda inputs: function(weights[network], inputs)

    return Networks(
        model.config,
        weights,
        bind(call.encode, "vae"),
        bind(call.embed, "image_encoder"),
        call.predict,
        bind(call.decode, "vae"),
        unet,
        len(used),
    )


class Programs(NamedTuple):
    """The networks as functions of their own parameters and their inputs, see `Networks`."""

    encode: Any
    embed: Any
    predict: Any
    decode: Any


@functools.lru_cache(maxsize=8)
def programs(config: ModelConfig, attention: str = "auto") -> Programs:
    """Return the functions of a config; cached, because jit identifies functions by object.

    Args:
        config: config of the model.
        attention: a name in `attention.CHOICES`.
    """

    def encode_frames(params: Params, frames: jax.Array) -> jax.Array:
        # Frames are independent: a share of them for each device.
        parts = frames.reshape(placement.num_batch_shards(), -1, *frames.shape[1:])
        with using(attention):
            latents = encode(config, params, placement.shard_batch(parts))
        return latents.reshape(-1, *latents.shape[2:])

    def embed_images(params: Params, images: jax.Array) -> jax.Array:
        with using(attention):
            return embed(config, params, images)

    def predict_velocity(params: Params, *inputs: jax.Array) -> jax.Array:
        with using(attention):
            return predict(config, params, *inputs)

    def decode_latents(params: Params, latents: jax.Array) -> jax.Array:
        with using(attention):
            return decode(config, params, placement.shard_batch(latents))

    return Programs(encode_frames, embed_images, predict_velocity, decode_latents)


@functools.lru_cache(maxsize=8)
def functions(config: ModelConfig, attention: str = "auto", mesh: Mesh | None = None) -> Programs:
    """Return `programs` jitted, except for `predict`, which the sampler compiles.

    Args:
        config: config of the model.
        attention: a name in `attention.CHOICES`.
        mesh: where the VAE and the image encoder are computed; None for where the arrays are.
    """

    def on_mesh(call: Any) -> Any:
        compiled = jax.jit(call)

        def placed(*arguments: Any) -> Any:
            with placement.on_mesh(mesh):
                return placement.settle(compiled(*arguments))

        return placed

    call = programs(config, attention)
    return Programs(on_mesh(call.encode), on_mesh(call.embed), call.predict, on_mesh(call.decode))


def choose_devices(
    devices: int | None,
    dtype: str,
    decode_dtype: str,
    attention: str,
    there: Sequence[jax.Device] | None = None,
) -> list[jax.Device]:
    """Return the devices for the arguments of `load_networks`, which raises as this does.

    They are the first of `there`; None for the devices of this host.
    """
    found = jax.local_devices() if there is None else list(there)
    if devices is not None and not 1 <= devices <= len(found):
        raise ValueError(
            f"{devices} devices of {len(found)}; give a number from 1 to {len(found)}."
        )
    for name in (dtype, decode_dtype):
        if name not in DTYPES:
            raise ValueError(f"dtype {name!r} is not known; use one of {', '.join(DTYPES)}.")
    check_choice(attention, found[0])
    return found[:devices]


def meshes(devices: Sequence[jax.Device], windows: int) -> tuple[Mesh, Mesh]:
    """Return the mesh of the UNet, which evaluates `windows` at most, and of the other networks."""
    count = len(devices)
    data = max(n for n in range(1, count + 1) if count % n == 0 and n <= max(1, windows))
    unet = make_mesh({"data": data, "fsdp": 1, "frames": count // data}, devices)
    return unet, make_mesh({"data": count, "fsdp": 1, "frames": 1}, devices)


def dtypes(device: jax.Device, dtype: str, decode_dtype: str) -> dict[str, jnp.dtype]:
    """Return the type that each network computes in."""
    one = half_type(device) if dtype == "auto" else dtype
    vae = one if decode_dtype == "auto" else decode_dtype
    if decode_dtype == "auto" and one == "float16":
        vae = "float32"
    types = {"unet": one, "image_encoder": one, "vae": vae}
    return {name: jnp.dtype(kind) for name, kind in types.items()}


def half_type(device: jax.Device) -> str:
    """Return the fastest type that a device computes in: float32 on the CPU."""
    if device.platform == "cpu":
        return "float32"
    capability = placement.compute_capability(device)
    return "float16" if capability and capability < (8, 0) else "bfloat16"


def _load(tree: Params, dtype: jnp.dtype, mesh: Mesh | None) -> Params:
    """Put parameters on the devices, each tensor converted on the host before the next is read."""
    where = None if mesh is None else NamedSharding(mesh, PartitionSpec())

    def one(leaf: np.ndarray | jax.Array, kind: jnp.dtype) -> jax.Array:
        is_there = isinstance(leaf, jax.Array) and leaf.dtype == kind
        return jax.device_put(leaf if is_there else np.asarray(leaf).astype(kind), where)

    return jax.tree.map(one, tree, functional.types(tree, dtype))


def _cast(params: Params, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    dtype = functional.compute_type(params)
    return tuple(array.astype(dtype) for array in arrays)
