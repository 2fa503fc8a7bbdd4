"""Which axis of which array is split over `fsdp`: by shape alone, the same for every tensor."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SPLIT_FROM = 2**16  # numbers: smaller tensors (norms, biases, mix factors) are copied


def fsdp_axis(shape: Sequence[int], size: int, split_from: int = SPLIT_FROM) -> int | None:
    """Choose the axis of an array to split `size` ways; None to copy it.

    The longest that divides, and the last one only where no other does: TPUs pad the last axis
    to 128, so a short piece of it wastes memory. Of equals, the first.
    """
    if size == 1 or np.prod(shape, dtype=np.int64) < split_from:
        return None
    axes = [axis for axis, length in enumerate(shape) if length % size == 0]
    if not axes:
        return None
    return max(axes, key=lambda axis: (axis < len(shape) - 1, shape[axis], -axis))


def state_shardings(tree: Any, mesh: Mesh, split_from: int = SPLIT_FROM) -> Any:
    """Return a sharding for each array (or shape) of a tree: parameters, or all of a state."""

    def sharding(leaf: Any) -> NamedSharding:
        axis = fsdp_axis(leaf.shape, mesh.shape["fsdp"], split_from)
        spec = () if axis is None else (None,) * axis + ("fsdp",)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(sharding, tree)
