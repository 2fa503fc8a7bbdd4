"""One reversible table per network of (torch name, flax path, kind), and its application.

Parameter paths are the published names split at dots, so a table can be derived from the flax
paths and shapes: only the leaf's name and the order of its axes differ.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax.models.functional import flatten, nest

# Kind -> order of torch's axes in flax: flax = torch.transpose(axes).
AXES = {
    "same": None,  # biases, norm scales, embeddings, mix factors
    "linear": (1, 0),  # [O, I] -> [I, O]
    "conv": (2, 3, 1, 0),  # [O, I, H, W] -> [H, W, I, O]
    "temporal_conv": (2, 3, 4, 1, 0),  # [O, I, 3, 1, 1] -> [3, 1, 1, I, O]
}
KERNEL_KINDS = {2: "linear", 4: "conv", 5: "temporal_conv"}  # by the number of axes
MAX_NAMES = 100  # maximum number of names in a message


class Entry(NamedTuple):
    """One tensor in torch and in flax."""

    torch: str  # name in the state dict
    flax: str  # path, joined by dots
    kind: str  # key of AXES
    shape: tuple[int, ...]  # shape in flax

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Return the shape in torch."""
        return tuple(self.shape[axis] for axis in _inverse(self.kind, len(self.shape)))


@dataclass(frozen=True)
class Table:
    """All tensors of one network; each torch name and each flax path occurs once."""

    network: str  # name in messages: 'unet', 'vae', 'image encoder'
    entries: tuple[Entry, ...]
    zero_if_absent: frozenset[str] = frozenset()  # torch names that a published file lacks
    buffers: frozenset[str] = frozenset()  # torch names in some files that are not weights

    def __post_init__(self):
        for side in ("torch", "flax"):
            counts = Counter(getattr(entry, side) for entry in self.entries)
            twice = sorted(name for name, count in counts.items() if count > 1)
            if twice:
                raise ValueError(f"{self.network}: {side} names occur twice: {_some(twice)}.")


def build_table(
    network: str,
    shapes: Mapping[str, Any],
    zero_if_absent: Collection[str] = (),
    buffers: Collection[str] = (),
) -> Table:
    """Derive the table of a network from its flax paths.

    Args:
        network: name of the network in messages.
        shapes: flat flax path -> object with a `.shape` (arrays, `jax.ShapeDtypeStruct`).
        zero_if_absent: see `Table`.
        buffers: see `Table`.

    Raises:
        ValueError: if a kernel has a rank that no layer has.
    """
    entries = (_entry(path, tuple(leaf.shape)) for path, leaf in shapes.items())
    return Table(network, tuple(entries), frozenset(zero_if_absent), frozenset(buffers))


def to_flax(table: Table, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Convert a torch state dict to a nested dict of flax parameters; keep element types.

    Raises:
        ValueError: if tensors are missing (except those of `zero_if_absent`), unknown or of
            another shape; the message names them.
    """
    raise_mismatches(
        torch_mismatches(table, {name: tensor.shape for name, tensor in tensors.items()})
    )
    flat = {}
    for entry in table.entries:
        if entry.torch in tensors:
            flat[entry.flax] = flax_array(entry, tensors[entry.torch])
        else:
            flat[entry.flax] = np.zeros(entry.shape, np.float32)
    return nest(flat)


def to_torch(table: Table, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert nested flax parameters to a torch state dict, the inverse of `to_flax`.

    Raises:
        ValueError: if parameters are missing, unknown or of another shape; the message names
            them.
    """
    flat = flatten(params)
    wanted = {entry.flax: entry.shape for entry in table.entries}
    raise_mismatches(
        mismatches(table.network, wanted, {path: np.shape(leaf) for path, leaf in flat.items()})
    )
    return {e.torch: torch_array(e, np.asarray(flat[e.flax])) for e in table.entries}


def torch_mismatches(table: Table, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Describe how the names and shapes of torch tensors differ from a table; empty if equal."""
    wanted = {entry.torch: entry.torch_shape for entry in table.entries}
    optional = table.zero_if_absent - set(shapes)
    wanted = {name: shape for name, shape in wanted.items() if name not in optional}
    given = {name: shape for name, shape in shapes.items() if name not in table.buffers}
    return mismatches(table.network, wanted, given)


def mismatches(
    network: str,
    wanted: Mapping[str, tuple[int, ...]],
    given: Mapping[str, tuple[int, ...]],
) -> str:
    """Describe every difference between two sets of named shapes; empty if equal."""
    misshaped = [
        f"{name} has shape {tuple(given[name])}, but the config needs {shape}"
        for name, shape in wanted.items()
        if name in given and tuple(given[name]) != shape
    ]
    kinds = {
        "missing": sorted(set(wanted) - set(given)),
        "unknown": sorted(set(given) - set(wanted)),
        "of another shape": misshaped,
    }
    found = [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]
    return f"{network}: of its tensors, {'; '.join(found)}. " if found else ""


def raise_mismatches(found: str) -> None:
    """Raise ValueError with the differences that were found, if any."""
    if found:
        raise ValueError(f"{found}Give the weights and the config of the same network.")


def flax_array(entry: Entry, tensor: np.ndarray) -> np.ndarray:
    """Return a torch tensor with its axes in flax' order."""
    return _reorder(tensor, AXES[entry.kind])


def torch_array(entry: Entry, array: np.ndarray) -> np.ndarray:
    """Return a flax array with its axes in torch's order, the inverse of `flax_array`."""
    return _reorder(array, _inverse(entry.kind, array.ndim))


def _entry(path: str, shape: tuple[int, ...]) -> Entry:
    module, _, leaf = path.rpartition(".")
    if leaf == "kernel":
        if len(shape) not in KERNEL_KINDS:
            raise ValueError(f"{path}: a kernel has 2, 4 or 5 axes, not {len(shape)} ({shape}).")
        kind = KERNEL_KINDS[len(shape)]
    else:
        kind = "same"
    name = "weight" if leaf in ("kernel", "scale", "embedding") else leaf
    return Entry(f"{module}.{name}" if module else name, path, kind, shape)


def _inverse(kind: str, rank: int) -> tuple[int, ...]:
    axes = AXES[kind]
    return tuple(range(rank)) if axes is None else tuple(int(axis) for axis in np.argsort(axes))


def _reorder(array: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    # Copy to the new order, because safetensors writes raw memory.
    return np.ascontiguousarray(array if axes is None else array.transpose(axes))


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
