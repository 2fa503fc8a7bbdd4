"""Training state on disk: the only file that knows orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
    """The states of one run under `folder`, the newest `keep` of them."""

    def __init__(self, folder: str | Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Begin writing `state`; the run goes on meanwhile."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, state: Any) -> Any | None:
        """Read the newest state into the shapes and types of `state`; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        return self._manager.restore(step, args=ocp.args.StandardRestore(target))

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def read_newest(folder: str | Path, part: str) -> Any | None:
    """Read `part` of the newest state under `folder` as numpy arrays; None if there is none.

    The rest of the state, which may be several times as large, is left on disk.
    """
    handler = ocp.PyTreeCheckpointHandler()
    with ocp.CheckpointManager(Path(folder).absolute(), item_handlers=handler) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        known = manager.item_metadata(step).tree[part]
        target = {part: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), known)}
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        args = ocp.args.PyTreeRestore(item=target, restore_args=kinds, partial_restore=True)
        return manager.restore(step, args=args)[part]
