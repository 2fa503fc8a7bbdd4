"""A step compiled for TPUs that are not there, with the libtpu of the development installs."""

import sys
from pathlib import Path

import pytest

from configs import davis
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.parallel.mesh import topology_devices
from palette_vc_jax.training import rehearsal, tasks
from tests import tiny

HLO = """
  %all-gather.1 = f32[16,32]{1,0} all-gather(%p), dimensions={0}
  %all-gather-start.2 = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%q), dimensions={0}
  %all-gather-done.2 = bf16[16,8]{1,0} all-gather-done(%all-gather-start.2)
  %all-reduce.3 = (f32[8]{0}, pred[4]{0}) all-reduce(%a, %b), to_apply=%add
  %fusion = f32[8]{0} fusion(%all-reduce.3), kind=kLoop
"""


def test_collectives_are_counted_once_with_the_bytes_of_their_results():
    """If this fails, the table's communication is wrong by what starts and ends apart."""
    found = rehearsal.count_collectives(HLO)
    assert found["all-gather"] == (2, 16 * 32 * 4 + 16 * 8 * 2)
    assert found["all-reduce"] == (1, 32 + 4)
    assert found["all-to-all"] == (0, 0)


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
