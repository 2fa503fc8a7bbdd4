"""Put arrays on the mesh, and say inside a program where they are to be.

The functions for use inside a program do nothing where no mesh is set (`jax.set_mesh`), so that
the models run on one device as they are.
"""

import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # JAX has no public barrier that works without its devices
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = ("data", "fsdp")  # mesh axes over which samples are split
WAIT_LIMIT = 24 * 3600.0  # seconds: one process may encode for hours while the others wait
WAIT_NEWS = 180.0  # seconds
_barriers = itertools.count()  # the service wants a new name for each


def platform() -> str:
    """Name what a program is compiled for: `cpu`, `gpu` or `tpu`.

    That is the mesh's hardware, which need not be this machine's.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def devices() -> int:
    """Count the devices that a program's samples and frames are split over."""
    return jax.sharding.get_abstract_mesh().size or 1


def frames() -> int:
    """Count the devices that a clip's frames, or places, are split over."""
    return dict(jax.sharding.get_abstract_mesh().shape).get("frames", 1)


def by_second(x: jax.Array) -> jax.Array:
    """Split `[B, M, ...]` by sample and along the second axis.

    With M frames that is for layers that see each frame alone, with M places for those that mix
    frames.
    """
    return _constrain(x, PartitionSpec(BATCH, "frames"))


def by_column(x: jax.Array) -> jax.Array:
    """Split `[B, T, h, w, C]` by sample and column: for convolutions that mix frames."""
    return _constrain(x, PartitionSpec(BATCH, None, None, "frames"))


def gathered(tree: Any) -> Any:
    """Bring together parameters that are split over `fsdp`, where a layer is about to use them.

    Their gradients are left where the compiler finds it best. (The constraint's own derivative
    would gather them too; with the frames of a clip split as well, XLA then summed over some of
    the devices only: `tests/multidevice` found it with jax 0.10.)
    """
    return jax.tree.map(_gather, tree)


@jax.custom_vjp
def _gather(leaf: jax.Array) -> jax.Array:
    return _constrain(leaf, PartitionSpec())


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
    """Give the sharding of a batch's arrays `[B, ...]`."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def local_rows(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """Give the rows of a batch that this process' devices need, in order.

    Raises ValueError if the batch does not divide over the mesh.
    """
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % split:
        raise ValueError(
            f"batch_size={batch_size} does not divide over mesh.data x mesh.fsdp = {split}; give "
            f"a multiple of {split}, or a mesh with more frames."
        )
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    rows = {row for (place,) in places.values() for row in range(batch_size)[place]}
    return tuple(sorted(rows))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Make arrays over the mesh from what each process has read: its share of rows, in order."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def put(tree: Any, shapes: Any) -> Any:
    """Put host arrays, the same in every process, where `shapes` have their shardings."""

    def one(leaf: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(shape.shape, shape.sharding, lambda at: array[at])

    return jax.tree.map(one, tree, shapes)


def fetch(tree: Any) -> Any:
    """Bring a tree to every process as numpy arrays, one leaf after the other."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)


def wait_for_all(what: str, limit: float = WAIT_LIMIT, every: float = WAIT_NEWS) -> None:
    """Wait until every process has come to this call, which all make in the same order.

    The coordination service waits, not the devices, whose collectives give up after seconds.

    Args:
        what: what the processes wait for, for messages.
        limit: seconds to wait at most.
        every: seconds between lines on stderr that say what is waited for.

    Raises TimeoutError if the limit passes or another process has stopped.
    """
    client = distributed.global_state.client
    if jax.process_count() == 1 or client is None:
        return
    done = threading.Event()
    news = threading.Thread(target=_report_waiting, args=(what, every, done), daemon=True)
    news.start()
    try:
        client.wait_at_barrier(f"{what} ({next(_barriers)})", int(1000 * limit))
    except jax.errors.JaxRuntimeError as error:
        reason = f"the limit of {limit:g} s has passed"
        if "DEADLINE_EXCEEDED" not in str(error):
            reason = "another process has stopped"
        raise TimeoutError(
            f"process {jax.process_index()} of {jax.process_count()} waited for {what}: {reason}; "
            "see the other processes' last lines, and start all of them again."
        ) from None
    finally:
        done.set()


def _report_waiting(what: str, every: float, done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(every):
        minutes = (time.monotonic() - began) / 60
        line = f"process {jax.process_index()}: waiting for {what} since {minutes:.0f} minutes"
        print(line, file=sys.stderr, flush=True)


def _constrain(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, spec)
