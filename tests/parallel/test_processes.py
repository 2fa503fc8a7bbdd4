"""How processes find each other, for the launchers that a test can imitate."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from palette_vc_jax.commands import evaluate, preview, sample, studio
from palette_vc_jax.parallel import processes
from tests.commands import command

ROOT = Path(__file__).resolve().parents[2]
SLURM = {  # two tasks on one node
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_NODELIST": "node[001-002]",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
OPEN_MPI_4 = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
GIVEN = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.fixture
def joined(monkeypatch):
    """Return what JAX would connect: (address, processes, process), recorded at its client."""
    from jax._src import distributed

    found = []

    class State(distributed.State):
        def initialize(self, *args, **kwargs):
            try:
                super().initialize(*args, **kwargs)
            finally:
                if self.coordinator_address:
                    count = getattr(self, "num_processes", None)
                    found.append((self.coordinator_address, count, self.process_id))

    class Client:
        def connect(self):
            pass

    def client(*args, **kwargs):
        return Client()

    monkeypatch.setattr(distributed, "global_state", State())
    monkeypatch.setattr(distributed._jax, "get_distributed_runtime_client", client)
    monkeypatch.setattr(distributed._jax, "get_distributed_runtime_service", client)
    monkeypatch.setattr(State, "initialize_preemption_sync_manager", lambda self: None)
    monkeypatch.setattr(distributed.xla_bridge, "backends_are_initialized", lambda: False)
    return found


def _join(monkeypatch, environ):
    for name in (*SLURM, *OPEN_MPI_4, *GIVEN, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    processes.join_processes()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (GIVEN, ("10.0.0.1:1234", 2, 1)),
        (SLURM, ("node001:61517", 2, 1)),
        (SLURM | {"JAX_COORDINATOR_PORT": "99"}, ("node001:99", 2, 1)),
        (OPEN_MPI_4, ("10.96.0.1:62624", 4, 3)),
    ],
    ids=["variables", "slurm", "slurm-port", "open-mpi"],
)
def test_launchers_are_recognized(monkeypatch, joined, environ, expected):
    """If this fails, the processes that a launcher started each train on their own."""
    _join(monkeypatch, environ)
    assert joined == [expected]


@pytest.mark.parametrize("kind", ["gke", "gce"])
def test_tpu_slices_are_recognized(monkeypatch, joined, kind):
    """If this fails, the hosts of a TPU slice cannot save, or wait for each other forever."""
    from jax._src.clusters import cloud_tpu_cluster as clusters

    monkeypatch.setattr(clusters, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(clusters.BaseTpuCluster, "wait_for_coordinator", lambda *args: None)
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    environ = {"MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "1"}
    environ |= {"MEGASCALE_SLICE_ID": "0"}
    if kind == "gke":
        environ |= {"TPU_WORKER_HOSTNAMES": "host0,host1", "TPU_WORKER_ID": "1"}
    metadata = {
        "agent-worker-number": "1",
        "worker-network-endpoints": "a:b:host0,a:b:host1",
        "tpu-env": "",
    }
    monkeypatch.setattr(clusters, "get_metadata", lambda key: (metadata[key], 200))
    _join(monkeypatch, environ)
    assert joined == [("host0:8482", 2, 1)]
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(ValueError, match="one of 2 of a TPU slice, and this command uses one"):
        processes.check_one_host()


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (sample.main, ["--input", "in.mkv", "--output", "out.mkv"]),
        (preview.main, ["in.mkv", "--output", "out.png"]),
        (studio.main, []),
        (evaluate.main, ["--tables"]),
    ],
)
def test_commands_of_one_host_do_not_wait_for_others(monkeypatch, capsys, main, flags):
    """If this fails, a command on a host of a TPU slice waits for the other hosts for ever."""
    monkeypatch.setattr(processes, "_slice_hosts", lambda: 2)
    monkeypatch.delenv("TPU_PROCESS_BOUNDS", raising=False)
    assert command(main, *flags) == 2
    assert "one of 2 of a TPU slice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"JAX_NUM_PROCESSES": "1"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "16"},  # a shell in an allocation
        OPEN_MPI_4 | {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
    ids=["none", "one", "one-task", "shell", "mpi-one"],
)
def test_a_lone_process_joins_nobody(monkeypatch, joined, environ):
    """If this fails, a process waits for others that were never started."""
    _join(monkeypatch, environ)
    assert not joined


OPEN_MPI_5 = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (OPEN_MPI_5, "Open MPI started 4 processes, but JAX does not find their coordinator"),
        ({"PMI_SIZE": "2"}, "the MPI launcher started 2 processes"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "the TPU slice started 2 processes"),
        ({"MEGASCALE_NUM_SLICES": "2"}, "2 TPU slices; a run uses one"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES without JAX_COORDINATOR_ADDRESS"),
        (GIVEN | {"JAX_PROCESS_ID": "2"}, "a process from 0 to one less"),
        (GIVEN | {"JAX_PROCESS_ID": "x"}, "a process from 0 to one less"),
        (GIVEN | {"JAX_COORDINATOR_ADDRESS": "host"}, "HOST:PORT is needed"),
    ],
)
def test_launches_that_cannot_join_stop_in_a_line(monkeypatch, joined, environ, message):
    """If this fails, each process of a launch trains alone, in the same folder."""
    with pytest.raises(ValueError, match=message) as raised:
        _join(monkeypatch, environ)
    assert "\n" not in str(raised.value)


def test_several_processes_without_a_client_are_refused(monkeypatch):
    """If this fails, a TPU slice trains until its first checkpoint and dies there."""
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(ValueError, match="one of 4 of a TPU slice that have not joined"):
        processes.check_joined()


@pytest.mark.parametrize(("tasks", "visible"), [("2", "1"), ("1(x2)", "all")])
def test_a_slurm_task_alone_on_its_node_uses_all_gpus(monkeypatch, joined, tasks, visible):
    """If this fails, one task a node leaves seven of eight GPUs idle."""
    from jax._src import xla_bridge

    _join(monkeypatch, SLURM | {"SLURM_STEP_TASKS_PER_NODE": tasks})
    assert xla_bridge.CUDA_VISIBLE_DEVICES.value == visible
    jax.config.update("jax_cuda_visible_devices", "all")
    jax.config.update("jax_rocm_visible_devices", "all")


MODULES = """
import importlib, pkgutil, sys
import palette_vc_jax
for module in pkgutil.walk_packages(palette_vc_jax.__path__, "palette_vc_jax."):
    extra = module.name.startswith(("palette_vc_jax.parity", "palette_vc_jax.studio.server"))
    if not extra and "__main__" not in module.name:
        importlib.import_module(module.name)
for name in ("train", "sample", "evaluate", "configs.davis", "configs.demo", "configs.demo_vae"):
    importlib.import_module(name)
from jax._src import xla_bridge
sys.exit(int(xla_bridge.backends_are_initialized()))
"""


def test_importing_starts_no_backend():
    """If this fails, an array is made when a module is imported, and processes cannot join."""
    assert subprocess.run([sys.executable, "-c", MODULES], cwd=ROOT).returncode == 0


WAITS = """
import sys, time
from palette_vc_jax.parallel import processes
processes.EVERY = 0.5
processes.join_processes()
process = int(sys.argv[1])
print(processes.gather("names", f"p{process}"), processes.gather("names", f"q{process}"))
time.sleep(2.0 * process)
processes.wait_for_all("slow", "encoding clips")
try:
    if process == 0:
        processes.wait_for_all("never", "reading step 4", limit=1.2)
except OSError as error:
    print(error)
processes.publish("key", "first")
processes.publish("key", "second")
print(processes.published("key"), processes.published("none"))
sys.stdout.flush()
with processes.failing_together():
    if process == 1:
        time.sleep(3.0)
        if sys.argv[2] == "Ctrl-C":
            raise KeyboardInterrupt
        int("x")
    processes.wait_for_all("work")
"""


def _pair(end):
    """Run `WAITS` in two processes; the second ends as given. Return codes, outputs, errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environ = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PLATFORMS="cpu")
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS, str(number), end],
            cwd=ROOT,
            env=os.environ | environ | {"JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [process.communicate(timeout=120) for process in pair]
    return [process.returncode for process in pair], said


def test_ctrl_c_at_one_process_stops_all():
    """If this fails, one process stops, and the other waits for it without end."""
    codes, ((_, news), (_, stopped)) = _pair("Ctrl-C")
    assert codes == [1, 130], news
    assert stopped.splitlines()[-1] == "stopped."
    assert news.splitlines()[-1] == "error: process 1: stopped by Ctrl-C."


def test_processes_exchange_texts_and_say_for_whom_they_wait():
    """If this fails, a run that waits for one slow host looks frozen, or waits without end."""
    codes, ((first, news), (second, failed)) = _pair("error")
    assert codes == [2, 2], news
    names = "['p0', 'p1'] ['q0', 'q1']"
    never = "process 0 waits for process 1 (reading step 4): they did not arrive within 1 s"
    assert first.splitlines() == [names, f"{never}; see their output.", "first None"]
    assert second.splitlines() == [names, "first None"]
    assert "process 0 waits for process 1 (encoding clips), for 1 s now." in news
    wrong = "invalid literal for int() with base 10: 'x'"
    assert news.splitlines()[-1] == f"error: process 1: {wrong}"
    assert failed.splitlines()[-1] == f"error: {wrong}"
