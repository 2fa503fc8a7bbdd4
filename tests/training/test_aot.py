"""A step compiled for TPUs and GPUs that are not there, with the compilers of `make test`."""

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from palette_vc_jax.models import functional, memory
from palette_vc_jax.models.attention import attention
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.models.transformer import FF_EXPANSION, SpatialBlock
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training import step, tasks
from palette_vc_jax.training.aot import hlo, targets
from palette_vc_jax.training.aot.flops import PEAKS
from palette_vc_jax.training.aot.report import COMPILER, compile_step, fits, table
from palette_vc_jax.training.aot.targets import topology_devices
from palette_vc_jax.training.config import load, read
from tests import tiny

HLO = """HloModule jit_step, is_scheduled=true

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %all-reduce.3 = (f32[8]{0}, pred[4]{0}) all-reduce(%x, %b), to_apply=%add
  %near = f32[1000]{0:T(128)S(1)} fusion(%x), kind=kLoop, calls=%inner
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %x)
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  %constant.7 = s32[]{:T(128)} constant(14)
  ROOT %less = pred[] compare(%j, %constant.7), direction=LT
}

%inner (q: f32[8]) -> f32[8] {
  ROOT %all-gather.5 = bf16[16,4]{1,0} all-gather(%q), dimensions={0}
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %all-gather.1 = f32[16,32]{1,0} all-gather(%a), dimensions={0}
  %all-gather-start.2 = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%a), dimensions={0}
  %all-gather-done.2 = bf16[16,8]{1,0} all-gather-done(%all-gather-start.2)
  %async-collective-start.1 = bf16[16,4]{1,0} fusion(%a), kind=kCustom, calls=%inner
  %while.1 = (s32[], f32[8]{0}) while(%t.1), condition=%condition, body=%body
  ROOT %fusion = f32[8]{0} fusion(%while.1), kind=kLoop, calls=%inner
}
"""
GPU_HLO = """HloModule jit_step, is_scheduled=true

%body (p: (s32[], bf16[8])) -> (s32[], bf16[8]) {
  %p = (s32[], bf16[8]{0}) parameter(0)
  %x = bf16[8]{0} get-tuple-element(%p), index=1
  %gemm.1 = (bf16[8,4]{1,0}, s8[33554432]{0}) custom-call(%x), custom_call_target="cublas"
  %all-reduce-start.1 = bf16[8]{0} all-reduce-start(%x), to_apply=%add
  %all-reduce-done.1 = bf16[8]{0} all-reduce-done(%all-reduce-start.1)
  ROOT %t = (s32[], bf16[8]{0}) tuple(%i, %x)
}

%condition (p.1: (s32[], bf16[8])) -> pred[] {
  %p.1 = (s32[], bf16[8]{0}) parameter(0)
  %constant.7 = s32[] constant(30)
  ROOT %less = pred[] fusion(%p.1, %constant.7), kind=kLoop, calls=%wrapped
}

%async_computation (q: bf16[64]) -> bf16[8] {
  ROOT %reduce-scatter.1 = bf16[8]{0} reduce-scatter(%q), dimensions={0}
}

ENTRY %main (a: bf16[8]) -> bf16[8] {
  %scatter-start = ((bf16[64]{0}), bf16[8]{0}) async-start(%a), calls=%async_computation
  %scatter-done = bf16[8]{0} async-done(%scatter-start)
  ROOT %while.1 = (s32[], bf16[8]{0}) while(%t.1), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"10"}}
}
"""
ASSIGNMENT = """BufferAssignment:
allocation 0: size 512, thread-local:
allocation 1: size 100, parameter 0, shape |f32[25]| at ShapeIndex {0}, maybe-live-out:
 value: <1 p @0> (size=100,offset=0): f32[25]{0}
allocation 2: size 10, parameter 1, shape |f32[2]| at ShapeIndex {}:
allocation 3: size 3, output shape is |f32[1]|, maybe-live-out:
allocation 4: size 7000, color 1, preallocated-temp:
allocation 5: size 2000, preallocated-temp:
"""


def test_collectives_are_counted_as_often_as_they_run():
    """If this fails, the table counts loops once, or asynchronous operations twice."""
    found = hlo.collectives(hlo.parse(HLO))
    assert found["all-gather"] == (3, 16 * 32 * 4 + 16 * 8 * 2 + 16 * 4 * 2)
    assert found["all-reduce"] == (14, 14 * (32 + 4))
    assert found["all-to-all"] == (0, 0)


def test_traffic_is_of_the_main_memory_alone():
    """If this fails, values that never leave the core, or mere names, count as moved."""
    once = 16 * 32 * 4 + (4 * 8 + 16 * 8) * 2 + 16 * 4 * 2 + 32
    rounds = 14 * (32 + 4)
    condition = 0  # its comparison is not counted
    assert hlo.traffic(hlo.parse(HLO)) == 2 * (once + rounds + condition)


def test_a_gpu_program_is_read_as_a_tpu_program_is():
    """If this fails, workspaces of a GPU's libraries count as moved, or loops run too often."""
    program = hlo.parse(GPU_HLO)
    assert hlo.collectives(program)["all-reduce"] == (10, 10 * 8 * 2)
    assert hlo.collectives(program)["reduce-scatter"] == (1, 8 * 2)
    assert hlo.traffic(program) == 2 * (10 * (8 * 4 + 8) + 64 + 8) * 2


def test_memory_is_arguments_temporaries_and_new_results():
    """If this fails, a donated state counts twice, or another memory's buffers count."""
    assert hlo.allocations(ASSIGNMENT) == (110, 2000, 3)


def _needs(package, folder, monkeypatch):
    """Skip where `make test` has not installed a compiler."""
    monkeypatch.syspath_prepend(Path(sys.prefix) / folder)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"compiling needs {package}; make test installs it into .venv/{folder}")


@pytest.fixture
def libtpu(monkeypatch):
    """Find libtpu where `make test` puts it."""
    _needs("libtpu", "libtpu", monkeypatch)


@pytest.fixture
def cuda(monkeypatch):
    """Find JAX's CUDA plugin where `make test` puts it, and let it end before the process does."""
    _needs("jax_cuda13_plugin", "cuda_compiler", monkeypatch)
    yield
    for thread in threading.enumerate():
        if thread.name == COMPILER:
            thread.join()


def _config(monkeypatch, mesh=None, **changes):
    monkeypatch.setitem(PRESETS, "tiny", lambda: tiny.SMALL)
    config = load("davis", "runlocal")
    config.update(init_from="", model="tiny", trained=("unet", "image_encoder"))
    config.update(batch_size=4, compute_dtype="bfloat16")
    config.update(changes)
    config.mesh.update({"split_from": 256} | (mesh or {}))
    return read(config)


def test_a_small_step_for_a_slice_of_four(libtpu, monkeypatch):
    """If this fails, users pay for a pod before they learn whether a run fits it."""
    trained = ("attention", "palette", "image_encoder")  # compiles in half the time of all
    config = _config(monkeypatch, {"frames": 2}, init_from="weights", trained=trained)
    run = tasks.abstract_run(config)
    report = compile_step(run, config, topology_devices("v5e:2x2"))
    assert report.kind == "TPU v5 lite" and report.mesh == {"data": 1, "fsdp": 2, "frames": 2}
    assert report.parameters == 6_184 and report.flops > 1e6
    # Trained weights, their average and two moments, and frozen weights, in float32: some of them
    # in two halves, and padded to at most four times their size.
    size = 16 * report.parameters + 4 * functional.count(run.frozen)
    assert size / 2 < report.arguments < 4 * size
    assert 0 < report.temporaries < report.needed < 2**28
    assert report.collectives["all-gather"][0] > 0
    text = table(report)
    assert "4 x TPU v5 lite, mesh data 1 x fsdp 2 x frames 2" in text
    assert "a step takes at least" in text and "not measured" in text


def test_one_chip_is_a_slice(libtpu):
    """If this fails, a single chip cannot be compiled for, since libtpu counts hosts of four."""
    (chip,) = topology_devices("v5e:1x1")
    assert chip.device_kind == "TPU v5 lite"


def test_a_step_that_does_not_fit(libtpu, monkeypatch):
    """If this fails, a run that does not fit is reported as one that does."""
    one = {"data": 1, "fsdp": 1, "frames": 1}
    config = _config(monkeypatch, one, init_from="weights", trained=("palette",), batch_size=2**22)
    with pytest.raises(MemoryError, match="exceeds available HBM"):
        compile_step(tasks.abstract_run(config), config, topology_devices("v5e:1x1"))


def test_options_that_the_compiler_does_not_know(libtpu, monkeypatch, capsys):
    """If this fails, a new libtpu without one of the options ends every run on TPUs."""
    mesh = make_mesh({"data": 1, "fsdp": 4, "frames": 1}, topology_devices("v5e:2x2"))
    assert step.compiler_options(mesh) == step.COMPILER_OPTIONS["tpu"]
    assert capsys.readouterr().err == ""
    more = step.COMPILER_OPTIONS["tpu"] | {"xla_tpu_option_of_another_version": True}
    monkeypatch.setitem(step.COMPILER_OPTIONS, "tpu", more)
    assert more.keys() - step.compiler_options(mesh).keys() == {"xla_tpu_option_of_another_version"}
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no option xla_tpu_option_of_another_version" in said


@pytest.mark.parametrize(
    ("mesh", "topology", "said"),
    [
        ({}, "v9z:2x2", "topology 'v9z:2x2'"),
        ({"data": 3}, "v5e:2x2", "the product must be 4"),
        ({"fsdp": 4, "frames": 1}, "v5e:4x4", "the product must be 16"),
    ],
)
def test_slices_that_cannot_be(libtpu, monkeypatch, mesh, topology, said):
    """If this fails, a typing error ends in libtpu's traceback."""
    config = _config(monkeypatch, mesh)
    with pytest.raises(ValueError, match=said):
        compile_step(tasks.abstract_run(config), config, topology_devices(topology))


def test_a_small_step_for_two_gpus(cuda, monkeypatch):
    """If this fails, users rent GPUs before they learn whether a run fits them."""
    config = _config(monkeypatch, init_from="weights", trained=("palette",))
    run = tasks.abstract_run(config)
    report = compile_step(run, config, topology_devices("h100:2"))
    assert report.kind == "NVIDIA H100 80GB HBM3" and report.mesh["fsdp"] == 2
    assert report.parameters == (15 + 1) * 16
    assert report.arguments > 16 * report.parameters + functional.count(run.frozen)
    assert 0 < report.temporaries < report.needed < 2**28
    assert sum(count for count, _ in report.collectives.values()) > 0
    assert set(report.bounds) == {"products", "memory", "links"} and fits(report)
    text = table(report)
    assert "2 x NVIDIA H100 80GB HBM3, mesh data 1 x fsdp 2 x frames 1" in text
    assert "\nfits: " in text and "assumption" in text
    assert "MEM_FRACTION=0.96" in table(report._replace(needed=75 * 2**30))
    wide = report._replace(needed=report.room + 1)
    assert not fits(wide) and "\ndoes not fit: " in table(wide)


def test_attention_is_that_of_the_gpu_compiled_for(cuda):
    """If this fails, the report is about a program that no GPU runs."""
    mesh = make_mesh({"data": 1, "fsdp": 1, "frames": 1}, topology_devices("a100-40:1"))
    place = NamedSharding(mesh, PartitionSpec())
    tokens = jax.ShapeDtypeStruct((1, 2, 1024, 2, 64), jnp.bfloat16, sharding=place)
    with jax.set_mesh(mesh):
        lowered = jax.jit(attention).lower(tokens, tokens, tokens)
    assert "__cudnn$fmha" in lowered.as_text()
    text = lowered.compile(compiler_options=targets.OPTIONS["gpu"]).as_text()
    assert "__cudnn$fmhaSoftmax" in text and "f32[2,2,1024,1024]" not in text


class Frames(nnx.Module):
    """The part of a transformer that attends within frames, on chunks of them as there."""

    def __init__(self, *, rngs):
        self.block = SpatialBlock(64, 1, 8, rngs=rngs)

    def __call__(self, tokens, context):
        return memory.map_chunks(self.block, tokens, context, FF_EXPANSION)


@pytest.mark.parametrize(("remat", "runs"), [("layers", 2), ("attention", 1)])
@pytest.mark.parametrize("chunk_bytes", [2**31, 1])  # whole, and frame by frame
def test_cudnn_results_are_kept(cuda, remat, runs, chunk_bytes):
    """If this fails, remat=attention computes the longest attention again on GPUs."""
    mesh = make_mesh({"data": 1, "fsdp": 1, "frames": 1}, topology_devices("h100:1"))
    graphdef, weights = nnx.split(nnx.eval_shape(lambda: Frames(rngs=nnx.Rngs(0))))
    place = NamedSharding(mesh, PartitionSpec())
    shape = lambda dims: jax.ShapeDtypeStruct(dims, jnp.bfloat16, sharding=place)  # noqa: E731

    def loss(weights, x, context):
        block = nnx.merge(graphdef, weights)
        with memory.policy(remat, chunk_bytes):
            return memory.call_block(block, (x,), context).astype(jnp.float32).sum()

    with jax.set_mesh(mesh):
        weights = jax.tree.map(lambda leaf: shape(leaf.shape), weights)
        compute = jax.jit(jax.value_and_grad(loss))
        lowered = compute.lower(weights, shape((1, 2, 1024, 64)), shape((1, 1, 8)))
    text = lowered.compile(compiler_options=targets.OPTIONS["gpu"]).as_text()
    assert text.count('custom_call_target="__cudnn$fmhaSoftmax"') == runs
    assert text.count('custom_call_target="__cudnn$fmhaSoftmaxBackward"') == 1


def test_every_gpu_is_known_whole(cuda):
    """If this fails, a name in the table gives a target the compiler refuses, or no bounds."""
    for name, gpu in targets.GPUS.items():
        (device,) = topology_devices(f"{name}:1")
        assert device.device_kind == gpu.kind and device.core_count == gpu.cores
        assert device.compute_capability == "{}.{}".format(*gpu.capability)
        assert gpu.kind in PEAKS


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("h100", "'' is no number of GPUs"),
        ("h100:0", "'0' is no number of GPUs"),
        ("l4:2x2", "'2x2' is no number of GPUs"),
        ("b300:8", "GPU:COUNT with one of a100-40, a100-80, h100"),
    ],
)
def test_gpus_that_cannot_be(libtpu, topology, said):
    """If this fails, a typing error ends in a traceback, or compiles for other hardware."""
    with pytest.raises(ValueError, match=said) as error:
        topology_devices(topology)
    assert "\n" not in str(error.value)


def test_a_compiler_that_is_missing(tmp_path):
    """If this fails, a plain installation ends in a traceback instead of what to install."""
    script = (
        "import sys; sys.prefix = sys.argv[1]\n"  # where no compiler lies
        "from palette_vc_jax import cli\n"
        "from palette_vc_jax.training.aot.targets import topology_devices\n"
        "cli.run(lambda: topology_devices(sys.argv[2]))\n"
    )
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    env.pop("TPU_LIBRARY_PATH", None)  # libtpu sets it when it is loaded
    for topology, extra in (("h100:2", "jax[cuda13]"), ("v5e:2x2", "jax[tpu]")):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), topology],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert extra in done.stderr
