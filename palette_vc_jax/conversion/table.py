"""One reversible table per network of (torch name, flax path, kind), and what applies it.

Parameter paths are the published names split at dots, so a table follows from the flax paths and
shapes alone: only the leaf's name and the order of its axes differ between the two sides.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax.models.functional import flatten, nest

# Kind -> order of torch's axes on the flax side: flax = torch.transpose(axes).
AXES = {
    "same": None,  # biases, norm scales, embeddings, mix factors: as they are
    "linear": (1, 0),  # [O, I] -> [I, O]
    "conv": (2, 3, 1, 0),  # [O, I, H, W] -> [H, W, I, O]
    "temporal_conv": (2, 3, 4, 1, 0),  # [O, I, 3, 1, 1] -> [3, 1, 1, I, O]
}
KERNEL_KINDS = {2: "linear", 4: "conv", 5: "temporal_conv"}  # by the number of axes
SHOWN = 100  # names of a kind in a message, which is one line


class Entry(NamedTuple):
    """One tensor on both sides."""

    torch: str  # name in the state dict
    flax: str  # path, joined by dots
    kind: str  # key of AXES
    shape: tuple[int, ...]  # on the flax side

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Give the shape on the torch side."""
        return tuple(self.shape[axis] for axis in _inverse(self.kind, len(self.shape)))


@dataclass(frozen=True)
class Table:
    """All tensors of one network; torch names and flax paths occur once each."""

    network: str  # 'unet', 'vae', 'image encoder': for messages
    entries: tuple[Entry, ...]
    zero_if_absent: frozenset[str] = frozenset()  # torch names that a published file lacks
    buffers: frozenset[str] = frozenset()  # torch names that some files hold beside the weights

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
    """Derive the table of `network` from its flax paths.

    Args:
        network: what messages call it.
        shapes: flat flax path -> anything with a `.shape` (arrays, `jax.ShapeDtypeStruct`).
        zero_if_absent, buffers: as in `Table`.

    Raises ValueError for a kernel of a rank that no layer has.
    """
    entries = (_entry(path, tuple(leaf.shape)) for path, leaf in shapes.items())
    return Table(network, tuple(entries), frozenset(zero_if_absent), frozenset(buffers))


def to_flax(table: Table, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Turn a torch state dict into a nested dict of flax parameters; element types are kept.

    Every tensor is used once and every parameter filled once; those of `zero_if_absent` may be
    missing. Raises ValueError naming tensors that are missing, unknown or misshaped.
    """
    refuse(torch_faults(table, {name: tensor.shape for name, tensor in tensors.items()}))
    flat = {}
    for entry in table.entries:
        if entry.torch in tensors:
            flat[entry.flax] = flax_array(entry, tensors[entry.torch])
        else:
            flat[entry.flax] = np.zeros(entry.shape, np.float32)
    return nest(flat)


def to_torch(table: Table, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn nested flax parameters into a torch state dict: undo `to_flax`, element types kept.

    Raises ValueError naming parameters that are missing, unknown or misshaped.
    """
    flat = flatten(params)
    wanted = {entry.flax: entry.shape for entry in table.entries}
    refuse(faults(table.network, wanted, {path: np.shape(leaf) for path, leaf in flat.items()}))
    return {e.torch: torch_array(e, np.asarray(flat[e.flax])) for e in table.entries}


def torch_faults(table: Table, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say why torch tensors of these names and shapes do not fill every parameter just once.

    Empty if they do.
    """
    wanted = {entry.torch: entry.torch_shape for entry in table.entries}
    optional = table.zero_if_absent - set(shapes)
    wanted = {name: shape for name, shape in wanted.items() if name not in optional}
    given = {name: shape for name, shape in shapes.items() if name not in table.buffers}
    return faults(table.network, wanted, given)


def faults(
    network: str,
    wanted: Mapping[str, tuple[int, ...]],
    given: Mapping[str, tuple[int, ...]],
) -> str:
    """Tell every difference between two sets of named shapes; empty if there is none."""
    misshaped = [
        f"{name} has shape {tuple(given[name])}, the config asks for {shape}"
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


def refuse(found: str) -> None:
    """Raise ValueError with all that was found, if anything was."""
    if found:
        raise ValueError(f"{found}Give the weights and the config of one and the same network.")


def flax_array(entry: Entry, tensor: np.ndarray) -> np.ndarray:
    """Bring a torch tensor's axes into flax' order, in a copy where they differ."""
    return _reorder(tensor, AXES[entry.kind])


def torch_array(entry: Entry, array: np.ndarray) -> np.ndarray:
    """Undo `flax_array`."""
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
    # A copy in the new order: safetensors writes memory as it lies.
    return np.ascontiguousarray(array if axes is None else array.transpose(axes))


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
