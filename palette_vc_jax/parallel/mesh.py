"""The mesh of devices, and the machines it spans.

Axes, all of them Auto (the compiler inserts the communication):

- `data`: samples of a batch; parameters are copied.
- `fsdp`: samples of a batch, and parameters, gradients, optimizer state and average, split.
- `frames`: the frames of one clip; layers that mix frames are split over positions instead.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "frames")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lay out `devices` (default: all) as a mesh; one size may be -1 for what is left.

    Raises ValueError for sizes whose product is not the number of devices, and for devices of
    several TPU slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    slices = {getattr(device, "slice_index", 0) for device in devices}
    if len(slices) > 1:
        raise ValueError(f"{len(slices)} TPU slices; a run uses one: start it on one slice.")
    shape = [int(sizes[axis]) for axis in AXES]
    known = int(np.prod([size for size in shape if size != -1]))
    if shape.count(-1) == 1 and known > 0 and len(devices) % known == 0:
        shape[shape.index(-1)] = len(devices) // known
    if min(shape) < 1 or int(np.prod(shape)) != len(devices):
        given = " x ".join(f"{axis} {sizes[axis]}" for axis in AXES)
        raise ValueError(
            f"mesh of {given} on {len(devices)} devices; the product must be {len(devices)}, and "
            "one size may be -1 for what is left."
        )
    # Neighbors on the last axis are neighbors in the machine, as far as its topology allows.
    auto = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(shape), AXES, axis_types=auto, devices=devices)
