"""A step compiled for TPUs that are not there, with the libtpu of the development installs."""

import sys
from pathlib import Path

import pytest

from configs import davis
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.parallel.mesh import topology_devices
from palette_vc_jax.training import compiled, rehearsal, tasks
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
    """If this fails, the table's communication is wrong by loops, or by what starts and ends."""
    found = compiled.collectives(compiled.parse(HLO))
    assert found["all-gather"] == (3, 16 * 32 * 4 + 16 * 8 * 2 + 16 * 4 * 2)
    assert found["all-reduce"] == (14, 14 * (32 + 4))
    assert found["all-to-all"] == (0, 0)


def test_traffic_is_of_the_main_memory_alone():
    """If this fails, values that never leave the core, or mere names, count as moved."""
    once = 16 * 32 * 4 + (4 * 8 + 16 * 8) * 2 + 16 * 4 * 2 + 32
    rounds = 14 * (32 + 4)
    condition = 0  # its comparison is not counted
    assert compiled.traffic(compiled.parse(HLO)) == 2 * (once + rounds + condition)


def test_memory_is_arguments_temporaries_and_new_results():
    """If this fails, a donated state counts twice, or another memory's buffers count."""
    assert compiled.allocations(ASSIGNMENT) == (110, 2000, 3)


@pytest.fixture
def libtpu(monkeypatch):
    """Find libtpu where `make test` puts it."""
    monkeypatch.syspath_prepend(Path(sys.prefix) / "libtpu")
    pytest.importorskip("libtpu", reason="compiling for TPUs needs libtpu")


def _config(monkeypatch, **mesh):
    monkeypatch.setitem(PRESETS, "tiny", lambda: tiny.CONFIG)
    config = davis.get_config("runlocal")
    config.init_from, config.model, config.trained = "", "tiny", ("unet", "image_encoder")
    config.batch_size, config.compute_dtype = 4, "bfloat16"
    config.mesh.update({"split_from": 256} | mesh)
    return config


def test_a_small_step_for_a_slice_of_four(libtpu, monkeypatch):
    """If this fails, nobody learns before paying for a pod whether a run fits it."""
    config = _config(monkeypatch, frames=2)
    report = rehearsal.compile_step(tasks.rehearse(config), config, topology_devices("v5e:2x2"))
    assert report.kind == "TPU v5 lite" and report.mesh == {"data": 1, "fsdp": 2, "frames": 2}
    assert report.parameters > 10_000 and report.flops > 1e6
    # Parameters, their average and two moments, in float32, some of them in two halves.
    assert 8 * report.parameters < report.arguments < 64 * report.parameters
    assert 0 < report.temporaries < report.needed < 2**28
    assert report.collectives["all-gather"][0] > 0
    text = rehearsal.table(report)
    assert "4 x TPU v5 lite, mesh data 1 x fsdp 2 x frames 2" in text
    assert "a step takes at least" in text and "not measured" in text


def test_a_step_that_does_not_fit(libtpu, monkeypatch):
    """If this fails, a run that cannot be is reported as one that can."""
    config = _config(monkeypatch)
    config.batch_size = 2**22
    with pytest.raises(MemoryError, match="exceeds available HBM"):
        rehearsal.compile_step(tasks.rehearse(config), config, topology_devices("v5e:2x2"))


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
    config = _config(monkeypatch, **mesh)
    with pytest.raises(ValueError, match=said):
        rehearsal.compile_step(tasks.rehearse(config), config, topology_devices(topology))
