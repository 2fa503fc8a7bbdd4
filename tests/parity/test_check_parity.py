"""The command that a researcher trusts: it passes on a right model and fails on a wrong one."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palette_vc_jax.commands import check_parity, svd_to_flax
from palette_vc_jax.models import functional, layers, transformer, unet
from tests.commands import command
from tests.parity.conftest import CONFIG, UNET

pytest.importorskip("torch", reason="parity needs torch")
pytest.importorskip("diffusers", reason="parity needs diffusers")

from palette_vc_jax.parity import case, check, jax_side, report, torch_side

CASE = case.Case(frames=3, height=16, width=24)


@pytest.mark.parametrize("palette, steps", [(False, 25), (True, 3)])
def test_a_converted_model_passes(folder, model_folder, palette, steps):
    """If this fails, the command fails on a right model, or leaves out what may be wrong."""
    rows = list(check.check(folder, model_folder, CASE._replace(palette=palette, steps=steps)))
    print(report.table(rows))
    assert all(row.passed for row in rows), report.table(rows)
    names = " ".join(row.name for row in rows)
    for part in ("config", "norms", "sigmas", "step", "CLIP", "VAE decode", "mid_block"):
        assert part in names
    for part in ("down_blocks.1, inputs x 0.001", "up_blocks.0", "guidance 2, frame 2"):
        assert part in names


def test_one_wrong_weight_is_found_and_told(folder, model_folder, tmp_path, capsys):
    """If this fails, the command succeeds on a model that differs from its source."""
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    tensors = load_file(broken / "unet.safetensors")
    name = "up_blocks.0.resnets.1.temporal_res_block.conv1.kernel"
    tensors[name] = tensors[name][::-1].copy()  # the frames before and after change places
    save_file(tensors, broken / "unet.safetensors")
    # At the size of the other tests, for which all is compiled.
    size = ["--frames", CASE.frames, "--height", CASE.height, "--width", CASE.width]
    flags = ["--torch", folder, "--flax", broken, *size, "--steps", 2]
    assert command(check_parity.main, *flags) == 1
    printed = capsys.readouterr().out
    failed = [line.split("  ")[0] for line in printed.splitlines() if line.endswith("FAIL")]
    assert "UNet up_blocks.0" in failed and "UNet" in failed
    assert "UNet down_blocks.1" not in failed and "VAE decode" not in failed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--height", "42"], "multiples of"),
        (["--frames", "0"], "at least 1"),
        (["--steps", "1"], "at least 1"),
        (["--torch", "nowhere"], "nowhere"),
        (["--flax", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused(folder, model_folder, capsys, flags, words):
    """If this fails, a mistyped flag costs minutes of loading, or ends in a traceback."""
    good = ["--torch", folder, "--flax", model_folder, "--height", 32, "--width", 48]
    assert command(check_parity.main, *good, *flags) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and words in said


def test_another_network_is_told_by_name(folder, model_folder, other_unet, tmp_path, capsys):
    """If this fails, two models that cannot be compared end in a traceback, or pass."""
    other = shutil.copytree(folder, tmp_path / "other")
    other_unet.torch.save_pretrained(other / "unet")
    assert command(check_parity.main, "--torch", other, "--flax", model_folder) == 1
    printed = capsys.readouterr().out
    assert "config (unet.attention)" in printed and "1 of 1 comparisons failed" in printed


@pytest.mark.parametrize("lost", ["model_index.json", "scheduler/scheduler_config.json"])
def test_a_folder_that_diffusers_cannot_load_is_refused(
    folder, model_folder, tmp_path, capsys, lost
):
    """If this fails, a download with a file missing is called a failure of the machine."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / lost).unlink()
    flags = ["--torch", broken, "--flax", model_folder, "--height", 32, "--width", 48]
    assert command(check_parity.main, *flags) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and lost.split("/")[-1] in said


def test_half_a_model_is_refused_before_anything_runs(folder, model_folder, tmp_path, monkeypatch):
    """If this fails, minutes of PyTorch pass before a file is found to be damaged."""
    monkeypatch.setattr(torch_side, "run", lambda *_: pytest.fail("PyTorch ran"))
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    weights = broken / "vae.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="vae.safetensors: not a complete safetensors file"):
        list(check.check(folder, broken, CASE))
    weights.unlink()
    with pytest.raises(ValueError, match="vae.safetensors: not found"):
        list(check.check(folder, broken, CASE))


def test_bfloat16_is_compared_with_rounded_weights(folder, tmp_path):
    """If this fails, a model stored in bfloat16 fails for its rounding, or hides errors."""
    assert command(
        svd_to_flax.main, "--source", folder, "--output", tmp_path / "m",
        "--dtype", "bfloat16",
    ) == 0  # fmt: skip
    rows = list(check.check(folder, tmp_path / "m", CASE._replace(steps=2)))
    assert all(row.passed for row in rows), report.table(rows)


def test_narrow_computing_is_reported_and_not_judged(folder, model_folder):
    """If this fails, --dtype still compares float32, or a network breaks in the narrow type."""
    narrow = CASE._replace(steps=2, dtype="bfloat16")
    rows = {row.name: row for row in check.check(folder, model_folder, narrow)}
    for name in ("VAE encode", "VAE decode", "CLIP embedding", "UNet mid_block", "UNet"):
        assert np.isinf(rows[name].limit) and 1e-3 < rows[name].relative < 3e-2, rows[name]
    assert rows["CLIP preprocessing"].limit == 2e-5 and rows["CLIP preprocessing"].passed
    assert " none  pass" in report.table(list(rows.values()))


def test_no_output_passes_for_being_empty():
    """If this fails, two sides that both broke down agree."""
    sound = np.linspace(0.0, 1.0, 6).reshape(2, 3)
    assert report.compare("x", sound, sound, 1e-6).passed
    for value in (np.nan, np.inf, 0.5):
        broken = np.full((2, 3), value)
        for pair in ((broken, sound), (sound, broken), (broken, broken)):
            assert not report.compare("x", *pair, 1.0).passed
    assert not report.compare("x", sound, sound[:, :2], 1.0).passed


@pytest.fixture(scope="module")
def recorded(unet):
    """Record PyTorch's UNet on its own."""
    inputs = case.draw_inputs(CONFIG, CASE)
    return inputs, torch_side.record_unet(unet.torch, inputs, CASE.frames)


@pytest.fixture
def rows(recorded, unet):
    """Return `rows(config)`: the comparisons of the UNet, as the code is then, by name."""

    def compare(config=CONFIG):
        _forget()
        params = jax.tree.map(jnp.asarray, unet.params)
        for row in jax_side.unet_rows(params, *recorded, config, CASE):
            print(row)
            yield row

    yield compare
    _forget()


def _forget():
    """Have modules built and compiled anew."""
    functional.abstract.cache_clear()
    jax_side._predict.cache_clear()


def _turned_blend(self, spatial, temporal):
    weight = jax.nn.sigmoid(self.mix_factor[...])
    return (1.0 - weight) * spatial + weight * temporal


def _padded_below(channels, padding, *, rngs):
    return layers.Downsample(channels, (0, 1), rngs=rngs)


def _gate_first(self, x):
    gate, value = jnp.split(self.proj(x), 2, axis=-1)
    return value * layers.gelu(gate)


def _sine_first(values, width):
    cosine, sine = jnp.split(layers.sinusoid(values, width), 2, axis=-1)
    return jnp.concatenate([sine, cosine], axis=-1)


def _folded_wrongly(self, x, context):
    frames_first = x.swapaxes(1, 2)  # [B, T, S, C], read as if it were [B, S, T, C]
    out = TEMPORAL(self, frames_first.reshape(x.shape), context)
    return out.reshape(frames_first.shape).swapaxes(1, 2)


TEMPORAL = transformer.TemporalBlock.__call__
CONV = layers.TemporalConv.__call__
WRONG = {
    "blend direction": (layers.AlphaBlender, "__call__", _turned_blend),
    "padding": (unet, "Downsample", _padded_below),
    "GELU variant": (transformer, "gelu", jax.nn.gelu),  # the approximation with tanh
    "GEGLU halves": (transformer.GEGLU, "__call__", _gate_first),
    "frame order": (
        layers.TemporalConv,
        "__call__",
        lambda self, x: CONV(self, x[:, ::-1])[:, ::-1],
    ),
    "frames and positions": (transformer.TemporalBlock, "__call__", _folded_wrongly),
    "sine before cosine": (transformer, "sinusoid", _sine_first),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_each_mistake_of_a_port_fails_a_block(rows, monkeypatch, mistake):
    """If this fails, the comparison is blind to a mistake that ports of this network make."""
    monkeypatch.setattr(*WRONG[mistake])
    first = next(rows())
    assert first.name == "UNet down_blocks.0" and not first.passed


def test_time_embedding_with_sine_first_fails_the_whole(rows, monkeypatch):
    """If this fails, the one sinusoid outside the blocks is not compared."""
    monkeypatch.setattr(unet, "sinusoid", _sine_first)
    *blocks, whole = rows()
    assert all(row.passed for row in blocks) and not whole.passed


@pytest.mark.parametrize(
    ("eps", "block"),
    [({"norm_eps": 1e-5}, "down_blocks.0"), ({"deep_norm_eps": 1e-6}, "down_blocks.1")],
)
def test_one_epsilon_fails_small_inputs_and_the_list_of_norms(rows, eps, block):
    """If this fails, an epsilon that only dark or flat latents show is not noticed."""
    wrong = dataclasses.replace(CONFIG, unet=dataclasses.replace(UNET, **eps))
    name = f"UNet {block}, inputs x 0.001"
    assert not next(row for row in rows(wrong) if row.name == name).passed
    listed = report.compare_values("norms", jax_side.norms(wrong), jax_side.norms(CONFIG))
    assert not listed.passed and "unet." in listed.name


def test_the_right_network_passes_every_block(rows):
    """If this fails, the mistakes above fail for another reason than the mistake."""
    assert all(row.passed for row in rows())
