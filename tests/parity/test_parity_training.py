"""Training against PyTorch: the gradient of every tensor, and a fine-tuned model taken back."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from palette_vc_jax.conversion.svd import flax_to_svd, svd_to_flax
from palette_vc_jax.conversion.table import to_torch
from palette_vc_jax.conversion.unet import PALETTE
from palette_vc_jax.models import functional
from palette_vc_jax.models.config import ModelConfig
from palette_vc_jax.models.store import load_model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.training import loop, losses, tasks
from palette_vc_jax.training.config import RatesConfig, load, read
from tests import films

torch = pytest.importorskip("torch", reason="parity needs torch")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers")

from tests.parity import random_svd  # noqa: E402

B, T, H, W = 2, 3, 6, 10
RATES = RatesConfig(0.0, 0.0, reference_color=1.0, reference_none=0.0, joint_dropout=0.0)
SIGMA = np.array([0.7, 12.0], np.float32)
# Attention to one token reads no query: these, and the norm before it, have no gradient.
UNREAD = re.compile(r".*transformer_blocks\.0\.(attn2\.to_[qk]\.weight|norm2\.(weight|bias))")


def _normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def _per_frame(x):
    return torch.as_tensor(np.array(x)).repeat_interleave(T, dim=0)


def _palette_hook(kernel, bias, palette):
    """Make a hook on `conv_in` that adds the palette layer, as the file beside says."""

    def hook(module, args, out):
        added = torch.nn.functional.linear(palette, kernel, bias)
        return out + added.repeat_interleave(T, dim=0)[:, :, None, None]

    return hook


def test_gradients_are_those_of_autograd(unet):
    """If this fails, a loss weight, a stop of gradients or a derivative differs from torch's."""
    config = ModelConfig("small", unet=unet.config)
    layer = {"kernel": _normal(1, 15, 64, scale=0.3), "bias": _normal(2, 64, scale=0.3)}
    params = unet.params | {"palette_embedding": layer}
    batch = {
        "color": _normal(3, B, T, H, W, 4),
        "gray": _normal(4, B, T, H, W, 4),
        "palette": np.random.default_rng(5).uniform(-1, 1, (B, 15)).astype(np.float32),
        "hue_shifted": np.zeros(B, bool),
        "context_color": _normal(6, B, 1, 48),
        "context_gray": _normal(7, B, 1, 48),
    }
    key = jax.random.key(0)

    @jax.jit
    def ours(params):
        return losses.edm_loss({"unet": params}, batch, SIGMA, key, config, RATES)[0]

    value, gradients = jax.value_and_grad(ours)(params)
    gradients = to_torch(unet.table, jax.tree.map(np.asarray, gradients))

    noise = losses.window_noise(jax.random.split(key, 4)[0], batch["color"].shape, 0.0)
    noise, clean, gray = (
        torch.tensor(np.asarray(x)) for x in (noise, batch["color"], batch["gray"])
    )
    sigma = torch.tensor(SIGMA)[:, None, None, None, None]
    noisy = clean + sigma * noise
    unit = (sigma**2 + 1) ** 0.5
    inputs = torch.cat([noisy / unit, gray], dim=-1).permute(0, 1, 4, 2, 3)
    kernel, bias = (torch.tensor(x, requires_grad=True) for x in (layer["kernel"].T, layer["bias"]))
    hook = _palette_hook(kernel, bias, torch.tensor(batch["palette"]))
    handle = unet.torch.conv_in.register_forward_hook(hook)
    try:
        output = unet.torch(
            inputs,
            0.25 * torch.log(torch.tensor(SIGMA)),
            torch.tensor(batch["context_color"]),
            torch.tensor([[6.0, 127.0, 0.0]] * B),
            return_dict=False,
        )[0].permute(0, 1, 3, 4, 2)
        # x0 = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1): v for which x0 is the clean one.
        velocity = (noisy / unit**2 - clean) * unit / sigma
        loss = torch.square(output - velocity).mean()
        named = list(unet.torch.named_parameters())
        found = torch.autograd.grad(loss, [w for _, w in named] + [kernel, bias])
    finally:
        handle.remove()
    expected = {name: g.numpy() for (name, _), g in zip(named, found[:-2], strict=True)}
    expected |= dict(zip(PALETTE, (g.numpy() for g in found[-2:]), strict=True))

    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    assert gradients.keys() == expected.keys()
    still = {name for name, gradient in gradients.items() if not gradient.any()}
    assert still == {name for name in expected if UNREAD.fullmatch(name)}
    assert len(still) == 6 * 2 * 4  # six transformers, two blocks each
    norms = {name: np.linalg.norm(gradient) for name, gradient in expected.items()}
    largest = max(norms.values())
    assert max(norms[name] for name in still) < 1e-6 * largest
    errors = {
        name: np.linalg.norm(gradients[name] - expected[name]) / norms[name]
        for name in expected.keys() - still
    }
    worst = max(errors, key=errors.get)
    print(f"{len(errors)} tensors, {len(still)} without gradient; {worst}: {errors[worst]:.1e}")
    assert errors[worst] < 1e-4, worst


@pytest.fixture(scope="module")
def small_folder(other_unet, vae, clip, tmp_path_factory):
    """Convert a pipeline with the UNet of fewer layers: its training step compiles sooner."""
    path = tmp_path_factory.mktemp("small")
    random_svd.assemble(other_unet.torch, vae.torch, clip.torch).save_pretrained(path / "svd")
    svd_to_flax(path / "svd", path / "model")
    return path / "model"


def test_a_fine_tuned_model_goes_back_to_diffusers(small_folder, tmp_path, check):
    """If this fails, training does not start from the converted model, or diffusers
    gets other weights than the trained ones, the palette layer included.
    """
    rng = np.random.default_rng(0)
    for clip in range(2):
        pictures = [rng.integers(0, 256, (6, 10, 3)).astype(np.uint8) for _ in range(4)]
        pictures = [np.asarray(Image.fromarray(p).resize((40, 24))) for p in pictures]
        films.write_pictures(tmp_path / "clips" / f"clip{clip}", pictures)
    config = load("davis", "runlocal")
    config.update_from_flattened_dict(
        {
            "init_from": str(small_folder), "batch_size": 1, "save_every": 3, "log_every": 3,
            "optimizer.steps": 3, "optimizer.warmup_steps": 1, "optimizer.learning_rate": 1e-3,
            "data.root": str(tmp_path / "clips"), "data.hold_out_every": 0,
            "data.size": (16, 24), "data.short_sides": (16, 24), "data.frames": 4,
            "data.window": T, "data.crops": 1,
        }
    )  # fmt: skip
    run = read(config)
    loop.run(tasks.make_task(run), run, tmp_path / "run")
    flax_to_svd(tmp_path / "run" / "model", tmp_path / "svd", "diffusers")

    theirs = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "svd" / "unet")
    assert theirs.config.num_frames == T
    layer = load_file(tmp_path / "svd" / "palette_embedding.safetensors")
    kernel, bias = torch.tensor(layer["weight"]), torch.tensor(layer["bias"])
    assert kernel.any() and bias.any()  # it began at zero
    model = load_model(tmp_path / "run" / "model")
    before = functional.flatten(load_model(small_folder).params["unet"])
    moved = sum(
        np.abs(before[name] - leaf).max() > 1e-3
        for name, leaf in functional.flatten(model.params["unet"]).items()
    )
    assert moved > 0.5 * len(before)

    inputs = {
        "sample": _normal(10, B, T, H, W, 8),
        "c_noise": np.array([-1.2, 1.6], np.float32),
        "context": _normal(11, B, 1, 48),
        "ids": np.array([[6, 127, 0]] * B, np.float32),
    }
    palette = np.random.default_rng(12).uniform(-1, 1, (B, 15)).astype(np.float32)
    call = jax.jit(lambda *arrays: functional.apply(UNet, model.config.unet, *arrays))
    ours, without = (
        np.asarray(call(model.params["unet"], *inputs.values(), palette, mask))
        for mask in (jnp.ones(B), jnp.zeros(B))
    )
    theirs.conv_in.register_forward_hook(_palette_hook(kernel, bias, torch.tensor(palette)))
    sample, *rest = (torch.tensor(x) for x in inputs.values())
    with torch.no_grad():
        output = theirs(sample.permute(0, 1, 4, 2, 3), *rest, return_dict=False)[0]
    check(ours, output.permute(0, 1, 3, 4, 2).numpy(), 2e-5)
    # Five times what the check lets pass: a palette layer left out would show.
    assert np.abs(ours - without).max() > 1e-4 * np.abs(ours).max()
