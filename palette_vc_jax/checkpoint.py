"""Training state on disk: the only file that knows orbax."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

DAMAGED = "damaged-"  # before the name of a checkpoint that could not be read


class Checkpoints:
    """The states of one run under `folder`, each with a small record beside it.

    Writing goes on while training does; a checkpoint has its name only when it is whole.
    """

    def __init__(self, folder: str | Path, keep: int = 2, keep_every: int | None = None):
        """Keep the newest `keep`, and for good each whose step is a multiple of `keep_every`."""
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every, create=True, cleanup_tmp_directories=True
        )
        self._folder = Path(folder).absolute()
        self._manager = _manager(self._folder, ocp.StandardCheckpointHandler(), options)

    def save(self, step: int, state: Any, record: Mapping[str, Any]) -> None:
        """Begin writing `state` and the JSON `record`; the run goes on meanwhile.

        Raises OSError, as `wait` does, for what could not be written, of this one or the last.
        """
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(dict(record))
        )
        with self._told():
            self._manager.save(step, args=args)

    def restore(self, target: Any) -> tuple[Any, dict[str, Any]] | None:
        """Read the newest state that is whole, with its record; None if there is none.

        A damaged checkpoint is reported, set aside, and the one before it is read.

        Args:
            target: tree of `jax.ShapeDtypeStruct`; where they have shardings, these are used.

        Raises ValueError for the state of another model or optimizer.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                known = self._manager.item_metadata(step)["state"]
                known = known.tree if hasattr(known, "tree") else known
                shapes = _shapes(known)
                _ = shapes["step"]
            except Exception as error:
                self._set_aside(step, error)
                continue
            _check(shapes, _shapes(target), self._folder)
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore()
            )
            try:
                restored = self._manager.restore(step, args=args)
                return restored["state"], restored["record"]
            except Exception as error:  # orbax, tensorstore and the JSON each raise their own
                self._set_aside(step, error)
        return None

    def wait(self) -> None:
        """Wait until what was given is on disk."""
        with self._told():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Wait and let go."""
        self.wait()
        self._manager.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a full disk tensorstore tells by ValueError
            raise OSError(
                f"{self._folder}: a checkpoint could not be written ({_reason(error)}); those "
                "before it are whole. Make room and run the same command again."
            ) from error

    def _set_aside(self, step: int, error: Exception) -> None:
        print(
            f"checkpoint {step} is damaged ({_reason(error)}); trying the one before.",
            file=sys.stderr,
        )
        place = self._folder / str(step)
        if jax.process_index() == 0 and place.exists():
            place.rename(place.with_name(f"{DAMAGED}{step}"))
        self._manager.reload()


def read_newest(folder: str | Path, part: str) -> Any | None:
    """Read `part` of the newest state under `folder` as numpy arrays; None if there is none.

    The rest of the state, which may be several times as large, is left on disk.
    """
    with _manager(Path(folder).absolute(), ocp.PyTreeCheckpointHandler()) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        known = manager.item_metadata(step)["state"].tree[part]
        target = {part: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), known)}
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        args = ocp.args.PyTreeRestore(item=target, restore_args=kinds, partial_restore=True)
        return manager.restore(step, args=ocp.args.Composite(state=args))["state"][part]


def _manager(
    folder: Path,
    state: ocp.CheckpointHandler,
    options: ocp.CheckpointManagerOptions | None = None,
) -> ocp.CheckpointManager:
    handlers = {"state": state, "record": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(
        folder, options=options, item_names=tuple(handlers), item_handlers=handlers
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path: tuple) -> str:
    return ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)


def _check(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    trained = {name for name in wanted if name.startswith("params.")}
    held = {name for name in stored if name.startswith("params.")}
    wrong = sorted(trained ^ held | {n for n in trained & held if stored[n] != wanted[n]})
    if wrong:
        raise ValueError(
            f"{folder}: holds the run of another model or way to train ({len(wrong)} tensors "
            f"differ, such as {wrong[0]}); give another --workdir."
        )
