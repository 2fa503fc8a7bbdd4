"""Fixtures that all tests share, and how tests compile."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

# A shell in the background and nohup have processes ignore these; so would commands in tests.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

# Most tests compile more than they compute. Set before JAX is imported; processes inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The older code generator of XLA for the CPU compiles in a third of the time.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()
# What one process has compiled the others read: the workers, and the commands that tests start. The
# folder is new for each session, and commands leave the user's cache folder alone.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    PROGRAMS = tempfile.mkdtemp(prefix="palette-vc-programs-")
    atexit.register(shutil.rmtree, PROGRAMS, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Threads that wait for the next piece of work use the processor that another test could have.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from palette_vc_jax.parallel.xla_flags import set_xla_flags  # noqa: E402

set_xla_flags()  # as the commands that tests start do

import jax  # noqa: E402
import pytest  # noqa: E402

from palette_vc_jax import cli  # noqa: E402

gc.set_threshold(cli.COLLECT_EVERY)  # as commands do

# With these variables, as in .ci/run, a skipped test of the folder counts as failed.
REQUIRED = {"parity": "PARITY_REQUIRED", "studio": "BROWSER_REQUIRED"}

# Files that take longest; a worker that began one of them last would end long after the other.
FIRST = (
    "multidevice/test_train.py", "benchmarks/test_accelerator.py", "training/test_aot.py",
    "multidevice/test_meshes.py", "parity/test_check_parity.py", "training/test_ways.py",
    "parity/test_parity_training.py", "sampling/test_memory.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take longest first, so that both workers end at about the same time."""

    def rank(item: pytest.Item) -> int:
        name = item.nodeid.partition("::")[0].removeprefix("tests/")
        return FIRST.index(name) if name in FIRST else len(FIRST)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    return _unskipped((yield), collector)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    return _unskipped((yield), item)


def _unskipped(
    report: pytest.CollectReport | pytest.TestReport, node: pytest.Item | pytest.Collector
):
    variable = REQUIRED.get(node.path.parent.name, "")
    if report.skipped and os.environ.get(variable):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped, and {variable} is set: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _compilation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Optimize the programs of tests that are marked `optimized`: those that compute for long."""
    if request.node.get_closest_marker("optimized") is None:
        yield
        return
    usual = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].removeprefix(QUICK).strip())
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", usual)


@pytest.fixture(autouse=True)
def _no_progress_lines(monkeypatch: pytest.MonkeyPatch):
    """Keep progress out of the messages that tests compare, however slow the machine is."""
    monkeypatch.setattr(cli, "INTERVAL", 3600.0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with footage and weights that is not part of the product, or skip."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "footage").is_dir():
        pytest.skip("needs ../shared/footage beside the repository")
    return folder


@pytest.fixture(scope="session")
def metric_weights() -> Path:
    """Return the folder with the converted weights of the metric networks, or skip."""
    folder = Path(__file__).resolve().parents[1] / ".venv" / "metric_weights"
    if not folder.is_dir():
        pytest.skip("needs .venv/metric_weights: make test downloads and converts them")
    return folder
