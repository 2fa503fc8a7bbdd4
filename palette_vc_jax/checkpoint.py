"""Training state on disk: the only file that knows orbax."""

import contextlib
import functools
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from palette_vc_jax import cli
from palette_vc_jax.parallel import processes

DAMAGED = "damaged-"  # before the name of a checkpoint that could not be read
ATTEMPTS = 2  # saves in a row that may fail before the run stops
# What tensorstore calls a file that is missing, too short or not what was written. Other states
# (PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE, ...) say nothing about the file.
DAMAGE = re.compile(r"(DATA_LOSS|NOT_FOUND|OUT_OF_RANGE|FAILED_PRECONDITION): ")
UNREADABLE = (FileNotFoundError, IsADirectoryError, json.JSONDecodeError, UnicodeDecodeError)


class Checkpoints:
    """The states of one run under `folder`, each with a small record beside it.

    States are written while training goes on; a checkpoint gets its name when it is complete.
    """

    def __init__(self, folder: str | Path, keep: int = 2, keep_every: int | None = None):
        """Keep the newest `keep`, and for good each whose step is a multiple of `keep_every`."""
        self._folder = Path(folder).absolute()
        if self._folder.exists() and not self._folder.is_dir():
            raise ValueError(f"{self._folder}: not a folder; move it, or give another --workdir.")
        self._options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every, create=True, cleanup_tmp_directories=True
        )
        _silence_leftovers()
        self._manager = self._open()
        self._writing = False
        self._failures: list[str] = []  # of saves in a row, the newest last

    def save(self, step: int, state: Any, record: Mapping[str, Any]) -> None:
        """Begin to write `state` and the JSON `record`, and return.

        A save that fails is reported by the next call. Raises OSError for the second in a row.
        """
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(dict(record))
        )
        self._wait()
        try:
            self._manager.save(step, args=args)
            self._writing = True
        except Exception as error:  # orbax and tensorstore raise their own, ValueError among them
            self._report(error)

    def finish(self) -> None:
        """Wait until the last save is on disk. Raises OSError if it has failed."""
        self._wait()
        if self._failures:
            self._stop()

    def close(self) -> None:
        """Release the folder when the save under way has ended; errors are not raised."""
        with contextlib.suppress(Exception):
            self._manager.close()

    def restore(
        self, target: Any, check: Callable[[dict[str, Any]], None] = lambda record: None
    ) -> tuple[Any, dict[str, Any]] | None:
        """Read the newest state that is complete, with its record; None if there is no checkpoint.

        A checkpoint whose files are missing or unreadable is passed over, and set aside once an
        older one has been read. All processes take the same one, or all stop.

        Args:
            target: tree of `jax.ShapeDtypeStruct`; where they have shardings, these are used.
            check: raises Mismatch for the record of a run that must not be continued.

        Raises ValueError for a state of another structure and where `check` raises; OSError if a
        checkpoint cannot be read for a reason that is not its files (memory, permissions, the file
        system), or if all are damaged. Nothing on disk has changed then.
        """
        damaged: list[int] = []
        for step in self._steps():
            found, outcome = self._read(step, target, check)
            outcomes = processes.gather("restore", json.dumps(outcome), f"reading {step}")
            kind, reason = max(map(json.loads, outcomes), key=lambda pair: _KINDS.index(pair[0]))
            if kind == "whole":
                self._set_aside(damaged)
                return found
            if kind != "damaged":
                raise (ValueError if kind == "mistake" else OSError)(reason)
            cli.print_line(f"checkpoint {step} is damaged ({reason}).", sys.stderr)
            damaged.append(step)
        if damaged:
            raise OSError(
                f"{self._folder}: all {len(damaged)} checkpoints are damaged, nothing was changed; "
                "restore one from a copy, or begin again with another --workdir."
            )
        return None

    def _open(self) -> ocp.CheckpointManager:
        handlers = {"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
        return ocp.CheckpointManager(
            self._folder, options=self._options, item_names=tuple(handlers), item_handlers=handlers
        )

    def _steps(self) -> list[int]:
        """List the steps, newest first, as the first process sees them."""
        own = json.dumps(sorted(self._manager.all_steps(), reverse=True))
        return json.loads(processes.gather("checkpoints", own, "listing checkpoints")[0])

    def _read(
        self, step: int, target: Any, check: Callable[[dict[str, Any]], None]
    ) -> tuple[tuple[Any, dict[str, Any]] | None, tuple[str, str]]:
        """Read a checkpoint: what was found, and the kind and reason of the outcome.

        The handlers are called without orbax's manager, whose barriers would leave the other
        processes waiting for one that fails.
        """
        folder = self._folder / str(step)
        try:
            record = ocp.JsonCheckpointHandler().restore(folder / "record")
            handler = ocp.StandardCheckpointHandler()
            stored = handler.metadata(folder / "state")
            check(record)
            _check(_shapes(getattr(stored, "tree", stored)), _shapes(target), self._folder)
            args = ocp.args.StandardRestore(target)
            state = jax.block_until_ready(handler.restore(folder / "state", args=args))
            return (state, record), ("whole", "")
        except Mismatch as error:
            return None, ("mistake", str(error))
        except Exception as error:  # orbax, tensorstore, JAX and the JSON each raise their own
            cause = _cause(error)
            if isinstance(cause, UNREADABLE) or DAMAGE.match(str(cause)):
                return None, ("damaged", _reason(cause))
            line = (
                f"{folder}: cannot be read ({_reason(cause)}); the checkpoint is left as it is: "
                "fix the cause and run the same command again."
            )
            return None, ("failure", line)

    def _set_aside(self, steps: list[int]) -> None:
        if jax.process_index() == 0:
            for step in steps:
                taken = len(list(self._folder.glob(f"{DAMAGED}{step}*")))
                name = f"{DAMAGED}{step}" + (f"-{taken + 1}" if taken else "")
                (self._folder / str(step)).rename(self._folder / name)
                print(f"checkpoint {step} was set aside as {name}.", file=sys.stderr)
        if steps:
            processes.wait_for_all("set-aside")
            self._manager.reload()

    def _wait(self) -> None:
        """Wait for the save that is being written; raises as `save` does."""
        if not self._writing:
            return
        self._writing = False
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
            self._failures = []
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Report a save that failed, and make the next one possible."""
        reason = _reason(_cause(error))
        self._failures.append(f"{self._folder}: a checkpoint could not be written ({reason})")
        if len(self._failures) >= ATTEMPTS:
            self._stop()
        cli.print_line(
            f"{self._failures[-1]}; the run goes on, and the next save tries again.", sys.stderr
        )
        self._manager.reload()  # the failed step is still among those that it holds

    def _stop(self) -> None:
        raise OSError(
            f"{self._failures[-1]}; earlier checkpoints are complete. Free disk space "
            "and run the same command again."
        )


class Mismatch(ValueError):
    """A checkpoint that belongs to another run."""


def changed_origins(record: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of what a checkpoint's run began with that is not the same `now`.

    Checkpoints of earlier versions have no `origin` in their record, and none of it counts.
    """
    stored = record.get("origin", {})
    return [name for name in sorted(stored) if now.get(name) != stored[name]]


_KINDS = ("whole", "damaged", "failure", "mistake")  # of outcomes, the gravest last


def read_newest(folder: str | Path, part: str) -> tuple[int, Any, dict[str, Any]] | None:
    """Read `part` of the newest complete state under `folder` as numpy arrays, and its record.

    The rest of the state, which may be several times as large, is left on disk. The run may still
    be writing.

    Returns the step, the tree and the record; None if there is no checkpoint.

    Raises OSError if none can be read.
    """
    reasons = []
    for step in _complete_steps(Path(folder).absolute()):
        state = Path(folder).absolute() / str(step) / "state"
        handler = ocp.PyTreeCheckpointHandler()
        try:
            known = handler.metadata(state).tree[part]
            target = {part: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), known)}
            kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
            args = ocp.args.PyTreeRestore(item=target, restore_args=kinds, partial_restore=True)
            record = ocp.JsonCheckpointHandler().restore(state.with_name("record"))
            return step, handler.restore(state, args=args)[part], record
        except Exception as error:  # as `Checkpoints._read`; or the run has deleted it meanwhile
            reasons.append(f"checkpoint {step}: {_reason(_cause(error))}")
    if reasons:
        raise OSError(f"{folder}: no checkpoint can be read ({'; '.join(reasons)}).")
    return None


def _complete_steps(folder: Path) -> Iterator[int]:
    if folder.is_dir():
        yield from sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())[::-1]


@functools.cache
def _silence_leftovers() -> None:
    """Keep coroutines that orbax leaves behind when a file fails from printing tracebacks.

    What has failed is reported in one line by `Checkpoints`.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
    before = sys.unraisablehook

    def hook(found: Any) -> None:
        if "Event loop is closed" not in str(found.exc_value):
            before(found)

    sys.unraisablehook = hook


def _cause(error: BaseException) -> BaseException:
    """Return the error that all others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path: tuple) -> str:
    return ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)


def _check(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise Mismatch if a state has other tensors than are wanted."""
    wrong = sorted(
        set(stored) ^ set(wanted) | {n for n in set(stored) & set(wanted) if stored[n] != wanted[n]}
    )
    trained = [name for name in wrong if name.startswith("params.")]
    if wrong:
        what = "model or way to train" if trained else "optimizer"
        raise Mismatch(
            f"{folder}: holds the run of another {what} ({len(wrong)} tensors differ, such as "
            f"{(trained or wrong)[0]}); give the settings that it began with, or another --workdir."
        )
