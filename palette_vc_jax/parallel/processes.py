"""The processes of a run: how they join, wait for each other and agree.

`jax.distributed.initialize` knows TPU VM slices, GKE, slurm, Open MPI 4 and Kubernetes jobs; where
it recognizes none of them, the three variables of `VARIABLES` say who a process is. Messages go
through JAX's coordination service, which needs no devices: a host that is slow to read or compile
does not run into the time limit of a collective.
"""

import collections
import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax

from palette_vc_jax import cli

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Variable -> launcher that sets it to the number of processes it has started.
LAUNCHED = {
    "JAX_NUM_PROCESSES": "the environment",
    "SLURM_STEP_NUM_TASKS": "slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
    "PMI_SIZE": "the MPI launcher",
}
HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")  # comma-separated, set on GKE
FAILED = "failed"  # key under which the first error of a run is published
JOIN_LIMIT = 300  # seconds
LIMIT = 6 * 3600.0  # seconds that processes wait for each other; encoding a cache takes hours
READ_WITHIN = 2.0  # seconds until the others have read what was published
EVERY = 60.0  # seconds between messages of a process that waits

_rounds: collections.Counter[str] = collections.Counter()


def join_processes(environ: Mapping[str, str] = os.environ) -> None:
    """Join the processes of a run, once, before anything is computed.

    Returns at once in a process that was started alone.

    Raises ValueError where several processes were started but cannot find each other, for a
    launch that is described in part, and for several TPU slices; OSError when some of the
    processes do not come.
    """
    if environ.get("MEGASCALE_NUM_SLICES", "1") != "1":
        slices = environ["MEGASCALE_NUM_SLICES"]
        raise ValueError(f"{slices} TPU slices; a run uses one: start it on one slice.")
    started = _launched(environ)
    if environ.get("JAX_NUM_PROCESSES") == "1" or (_alone(environ) and not started):
        if int(environ.get("SLURM_NTASKS", "1")) > 1:
            print("slurm has room for more tasks; srun starts all of them.", file=sys.stderr)
        return
    _initialize(_given(environ))
    if started and not jax.distributed.is_initialized():
        raise ValueError(
            f"{started[1]} started {started[0]} processes, but JAX does not find their "
            f"coordinator; set {', '.join(VARIABLES)} for each process."
        )


def check_joined() -> None:
    """Raise ValueError if this host is one of several that have not joined.

    libtpu forms a slice without the coordination service, which saving and stopping need.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise ValueError(
            f"this host is one of {jax.process_count()} of a TPU slice that have not joined; set "
            f"{', '.join(VARIABLES)} for each host, and start the command on all of them."
        )


def check_one_host() -> None:
    """Raise ValueError on a host of a larger TPU slice, where JAX would wait for the others.

    For commands that use the devices of one host. Does not touch the devices.
    """
    hosts = _slice_hosts()
    if hosts > 1 and "TPU_PROCESS_BOUNDS" not in os.environ:
        raise ValueError(
            f"this host is one of {hosts} of a TPU slice, and this command uses one; set "
            "TPU_PROCESS_BOUNDS=1,1,1 and TPU_CHIPS_PER_PROCESS_BOUNDS to this host's chips (such "
            "as 2,2,1), or JAX_PLATFORMS=cpu, or use a machine with one host."
        )


def gather(name: str, text: str, doing: str = "", limit: float = LIMIT) -> list[str]:
    """Exchange texts: return that of every process, in the order of process numbers.

    All processes have to call this, in the same order. A process that waits says for whom.

    Args:
        name: of the exchange.
        text: of this process.
        doing: what the processes that are waited for do, for messages.
        limit: seconds.

    Raises OSError naming the processes that did not come within the limit, and the error of a
    process that has failed meanwhile.
    """
    count, own = jax.process_count(), jax.process_index()
    if count == 1:
        return [text]
    client = _client()
    _rounds[name] += 1
    key = f"palette_vc_jax/{name}/{_rounds[name]}"
    client.key_value_set(f"{key}/{own}", text)
    texts: dict[str, str] = {}

    def waits() -> str:
        missing = [number for number in range(count) if f"{key}/{number}" not in texts]
        shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        return f"process {own} waits for process {shown} ({doing or name})"

    began, pause = time.monotonic(), 0.001
    with announced(waits):
        while len(texts := dict(client.key_value_dir_get(key))) < count:
            if failed := failure():
                raise failed
            if time.monotonic() - began > limit:
                late = f"they did not arrive within {limit:.0f} s; see their output"
                raise OSError(f"{waits()}: {late}.")
            time.sleep(pause)
            pause = min(2.0 * pause, 0.5)
    return [texts[f"{key}/{process}"] for process in range(count)]


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """End all processes with an error that leaves the block in one of them.

    In several processes this exits at once: JAX's own shutdown would wait for the others, which
    may be in a collective that never ends.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not jax.distributed.is_initialized():
            raise
        publish(FAILED, json.dumps([_own_number(), "failure", "stopped by Ctrl-C."]))
        leave(cli.STOPPED, "stopped.")
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        if failed := failure():  # a collective that lost its peer says less than the peer did
            leave(cli.exit_code(failed), cli.message(failed))
        kind = "mistake" if isinstance(error, ValueError) else "failure"
        publish(FAILED, json.dumps([_own_number(), kind, " ".join(str(error).split())[:400]]))
        known = isinstance(error, cli.KNOWN)
        leave(cli.exit_code(error), cli.message(error) if known else traceback.format_exc())


def failure() -> ValueError | OSError | None:
    """Return the error that another process has published in `failing_together`, if one has."""
    found = published(FAILED) if jax.distributed.is_initialized() else None
    if found is None:
        return None
    process, kind, reason = json.loads(found)
    if process == _own_number():
        return None
    return (ValueError if kind == "mistake" else OSError)(f"process {process}: {reason}")


def leave(code: int, message: str) -> None:
    """Exit without cleaning up, when the other processes have read what was published.

    The message goes to stderr last, after what other threads print. The first process leaves
    last: it runs the service, without which the others would abort.
    """
    from jax._src import distributed

    try:
        if jax.distributed.is_initialized():
            first = distributed.global_state.service is not None
            time.sleep(4.0 * READ_WITHIN if first else READ_WITHIN)
    finally:  # after Ctrl-C too
        print(message, file=sys.stderr, flush=True)
        os._exit(code)


def agree(
    name: str, own: Mapping[str, Any], doing: str, advice: str, ignored: Collection[str] = ()
) -> dict[str, Any]:
    """Compare a value of every process; return that of the first.

    Args:
        name: of the exchange, see `gather`.
        own: value of this process, which JSON can hold.
        doing: see `gather`.
        advice: what to do if they differ, for the message.
        ignored: keys whose values may differ.

    Raises ValueError naming the first process that has other values, and their keys.
    """
    first, *others = map(json.loads, gather(name, json.dumps(own), doing))
    for process, other in enumerate(others, start=1):
        if differs := [key for key in own if key not in ignored and other[key] != first[key]]:
            raise ValueError(
                f"process {process} has another {', '.join(differs)} than process 0; {advice}"
            )
    return first


def wait_for_all(name: str, doing: str = "", limit: float = LIMIT) -> None:
    """Wait until every process has called this; see `gather`."""
    gather(name, "", doing, limit)


def publish(key: str, value: str) -> None:
    """Set `key` for all processes, unless a process has set it before."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _client().key_value_set(f"palette_vc_jax/{key}", value)


def published(key: str) -> str | None:
    """Return what a process has set `key` to; None if none has."""
    try:
        return _client().key_value_try_get(f"palette_vc_jax/{key}")
    except jax.errors.JaxRuntimeError:
        return None


@contextlib.contextmanager
def announced(what: Callable[[], str], every: float | None = None) -> Iterator[None]:
    """Print `what()` to stderr, and for how long, each `every` seconds within the block."""
    ended, began = threading.Event(), time.monotonic()

    def report() -> None:
        while not ended.wait(EVERY if every is None else every):
            seconds = time.monotonic() - began
            print(f"{what()}, for {seconds:.0f} s now.", file=sys.stderr, flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _own_number() -> int:
    """Return this process' number without starting a backend, as `jax.process_index` would."""
    from jax._src import distributed

    return distributed.global_state.process_id


def _client() -> Any:
    from jax._src import distributed  # JAX has no public name for it

    return distributed.global_state.client


def _initialize(arguments: dict[str, Any]) -> None:
    address = arguments.get("coordinator_address", "its coordinator")
    with announced(lambda: f"this process waits for the others of the run, at {address}"):
        try:
            jax.distributed.initialize(**arguments, initialization_timeout=JOIN_LIMIT)
        except ValueError as error:
            if "coordinator_address should be defined" in str(error):
                return  # no launcher that JAX knows
            raise ValueError(f"the processes of the run cannot join: {error}") from None
        except OSError:
            return  # a TPU machine without Google's metadata server; see `check_joined`
        except Exception as error:  # JAX, gRPC and the kubernetes package each raise their own
            reason = " ".join(str(error).split())[:200]
            if "DEADLINE_EXCEEDED" in reason:
                raise OSError(
                    f"not all processes of the run joined within {JOIN_LIMIT} s; start the command "
                    "on every host."
                ) from None
            raise OSError(
                f"the processes of the run cannot join ({reason}); set {', '.join(VARIABLES)} for "
                "each, or JAX_NUM_PROCESSES=1 for a process of its own."
            ) from None
    if _one_task_a_node(os.environ) and "JAX_LOCAL_DEVICE_IDS" not in os.environ:
        # JAX leaves each task of slurm and MPI one GPU; a task alone on its node uses all.
        jax.config.update("jax_cuda_visible_devices", "all")
        jax.config.update("jax_rocm_visible_devices", "all")


def _given(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read `VARIABLES`; none, or the address alone, leave the rest to JAX's detection."""
    given = [name for name in VARIABLES if environ.get(name)]
    if not set(given) - {VARIABLES[0]}:
        return {}
    if len(given) < len(VARIABLES):
        missing = ", ".join(name for name in VARIABLES if name not in given)
        raise ValueError(f"{', '.join(given)} without {missing}; set all three, or none.")
    address, count, number = (environ[name] for name in VARIABLES)
    if not (count.isdecimal() and number.isdecimal() and int(number) < int(count)):
        raise ValueError(
            f"JAX_NUM_PROCESSES={count}, JAX_PROCESS_ID={number}; a number of processes is needed, "
            "and a process from 0 to one less."
        )
    if ":" not in address:
        raise ValueError(f"JAX_COORDINATOR_ADDRESS={address}; HOST:PORT is needed.")
    return dict(coordinator_address=address, num_processes=int(count), process_id=int(number))


def _alone(environ: Mapping[str, str]) -> bool:
    """Return whether the launcher started only this process.

    A shell within an allocation of slurm is a step of one task, whatever was allocated.
    """
    if any(environ.get(name) for name in VARIABLES):
        return False
    return environ.get("SLURM_STEP_NUM_TASKS") == "1" or environ.get("OMPI_COMM_WORLD_SIZE") == "1"


def _launched(environ: Mapping[str, str]) -> tuple[int, str] | None:
    """Return how many processes were started, and by what; None for a lone process."""
    for name, launcher in LAUNCHED.items():
        if environ.get(name, "").isdecimal() and int(environ[name]) > 1:
            return int(environ[name]), launcher
    hosts = max(len(environ.get(name, "").split(",")) for name in HOSTS)
    return (hosts, "the TPU slice") if hosts > 1 else None


def _one_task_a_node(environ: Mapping[str, str]) -> bool:
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0]
    return tasks == "1" or environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"


def _slice_hosts() -> int:
    """Count the hosts of this machine's TPU slice; 1 where there is none."""
    if os.environ.get("JAX_PLATFORMS", "").split(",")[0] not in ("", "tpu"):
        return 1
    from jax._src.clusters import cloud_tpu_cluster as clusters

    for cluster in (clusters.GkeTpuCluster, clusters.GceTpuCluster):
        try:
            if cluster.is_env_present():
                return len(cluster._get_worker_list_in_slice())
        except OSError:
            continue
    return 1
