"""Put arrays on the mesh, and say inside a program where they are to be.

The functions for use inside a program do nothing where no mesh is set (`jax.set_mesh`), so that
the models run on one device as they are.
"""

import contextlib
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = ("data", "fsdp")  # mesh axes over which samples are split


def platform() -> str:
    """Name what a program is compiled for: `cpu`, `gpu` or `tpu`.

    That is the mesh's hardware, which need not be this machine's.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def device_kind() -> str:
    """Name the hardware that a program is compiled for, such as `TPU v5 lite`."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.devices()[0].device_kind if device is None else device.device_kind


def compute_capability(device: jax.Device) -> tuple[int, int] | None:
    """Return the compute capability of an NVIDIA GPU, and None for other devices."""
    number = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", "")))
    return (int(number[1]), int(number[2])) if number else None


def target_capability() -> tuple[int, int] | None:
    """Return the compute capability of what a program is compiled for, as `compute_capability`."""
    kind = device_kind()
    for device in jax.local_devices():
        if device.device_kind == kind:
            return compute_capability(device)
    return (8, 0) if platform() == "gpu" else None  # not this machine's: aot knows no older GPU


def num_devices() -> int:
    """Count the devices that a program's samples and frames are split over."""
    return jax.sharding.get_abstract_mesh().size or 1


def num_batch_shards() -> int:
    """Count the devices that samples are split over."""
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    return math.prod(sizes.get(axis, 1) for axis in BATCH)


def num_frame_shards() -> int:
    """Count the devices that a clip's frames, or places, are split over."""
    return dict(jax.sharding.get_abstract_mesh().shape).get("frames", 1)


def shard_axis1(x: jax.Array) -> jax.Array:
    """Split `[B, M, ...]` by sample and along the second axis.

    With M frames that is for layers that see each frame alone, with M places for those that mix
    frames.
    """
    return _constrain(x, PartitionSpec(BATCH, "frames"))


def shard_columns(x: jax.Array) -> jax.Array:
    """Split `[B, T, h, w, C]` by sample and column: for convolutions that mix frames."""
    return _constrain(x, PartitionSpec(BATCH, None, None, "frames"))


def shard_batch(x: jax.Array) -> jax.Array:
    """Split `[B, ...]` by sample."""
    return _constrain(x, PartitionSpec(BATCH))


def replicate(x: jax.Array) -> jax.Array:
    """Put a copy of an array on every device."""
    return _constrain(x, PartitionSpec())


def all_gather_params(tree: Any) -> Any:
    """Bring together parameters that are split over `fsdp`, where a layer is about to use them.

    Their gradients are left where the compiler finds it best. (The constraint's own derivative
    would gather them too; with the frames of a clip split as well, XLA then summed over some of
    the devices only: `tests/multidevice` found it with jax 0.10.)
    """
    return jax.tree.map(_gather, tree)


@jax.custom_vjp
def _gather(leaf: jax.Array) -> jax.Array:
    return replicate(leaf)


_gather.defvjp(lambda leaf: (_gather(leaf), None), lambda _, gradient: (gradient,))


def on_each_device(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Call `function` on each device's share of `arrays` `[B, T, ...]`, split by sample and frame.

    For kernels, which the compiler cannot split. Axes that do not divide are not split.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(*arrays)
    lead = arrays[0].shape
    batch = mesh.shape["data"] * mesh.shape["fsdp"]
    spec = PartitionSpec(
        BATCH if lead[0] % batch == 0 else None,
        "frames" if lead[1] % mesh.shape["frames"] == 0 else None,
    )
    # Kernels do not say over which axes their outputs vary, so this cannot be checked.
    return jax.shard_map(function, in_specs=(spec,) * len(arrays), out_specs=spec, check_vma=False)(
        *arrays
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch's arrays `[B, ...]`."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def local_rows(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """Return the rows of a batch that this process' devices need, in order.

    Raises ValueError if the batch does not divide over the mesh.
    """
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % split:
        raise ValueError(
            f"batch_size={batch_size} does not divide over mesh.data x mesh.fsdp = {split}; give "
            f"a multiple of {split}, or a mesh with more frames."
        )
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    rows = {row for place in places.values() if place for row in range(batch_size)[place[0]]}
    return tuple(sorted(rows))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Make arrays over the mesh from what each process has read: its share of rows, in order."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def on_mesh(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which programs are compiled for a mesh; None is a single device."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def settle(tree: Any) -> Any:
    """Wait for arrays on the CPU, and return them.

    An accelerator computes its programs one after the other, so the next can be given to it early.
    The CPU would compute them at the same time, which is slower and needs the memory of both.
    """
    return jax.block_until_ready(tree) if jax.default_backend() == "cpu" else tree


def put(tree: Any, shapes: Any) -> Any:
    """Put host arrays, the same in every process, where `shapes` have their shardings.

    Each device is handed its own share alone, in the type of `shapes`.
    """

    def one(leaf: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(
            shape.shape, shape.sharding, lambda at: array[at].astype(shape.dtype, copy=False)
        )

    return jax.tree.map(one, tree, shapes)


def fetch(tree: Any) -> Any:
    """Bring a tree to every process as numpy arrays, one leaf after the other."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)


def _constrain(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, spec)
