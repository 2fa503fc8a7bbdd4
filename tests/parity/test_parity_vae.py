"""The VAE against diffusers: every block, encode and decode."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs torch")
pytest.importorskip("diffusers", reason="parity needs diffusers")

B, T, H, W = 2, 3, 6, 10
BLOCK, WHOLE = 1e-5, 5e-5
SCALES = [1.0, 1e-3]  # at the small one, variance and epsilon are alike
INDICATOR = torch.zeros(B, T)


def _normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def _folded(x):
    """Turn `[B, T, h, w, C]` into torch's `[B*T, C, h, w]`."""
    return x.flatten(0, 1).permute(0, 3, 1, 2).contiguous()


def _unfolded(x):
    return x.unflatten(0, (B, -1)).permute(0, 1, 3, 4, 2)


def _level(block, x):
    """Run one resolution of the encoder or decoder."""
    for resnet in block.resnets:
        x = resnet(x)
    for name in ("downsamplers", "upsamplers"):
        if hasattr(block, name):
            x = getattr(block, name)[0](x)
    return x


def _middle(block, x):
    return block.resnets[1](block.attentions[0](block.resnets[0](x)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "path",
    [
        "encoder.down_blocks.0.resnets.0",
        "encoder.down_blocks.1.resnets.0",  # shortcut
        "encoder.mid_block.resnets.1",
        "decoder.mid_block.resnets.0",
        "decoder.up_blocks.1.resnets.0",  # shortcut
    ],
)
def test_residual_block(vae, run, torch_call, check, path, scale):
    """If this fails, an epsilon differs (the temporal one does) or the blend is reversed."""
    theirs, ours = vae.both(path)
    spatial = getattr(theirs, "spatial_res_block", theirs)
    x = _normal(1, B, T, H, W, spatial.norm1.num_channels, scale=scale)
    extra = (None, INDICATOR) if path.startswith("decoder") else (None,)
    expected = torch_call(lambda x: _unfolded(theirs(_folded(x), *extra)), x)
    check(run(ours, x), expected, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_attention(vae, run, torch_call, check, side, scale):
    """If this fails, biases, the group norm or the residual connection are left out."""
    theirs, ours = vae.both(f"{side}.mid_block.attentions.0")
    x = _normal(2, B, T, H, W, 128, scale=scale)
    expected = torch_call(lambda x: _unfolded(theirs(_folded(x))), x)
    check(run(ours, x), expected, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("index", [0, 1])
def test_encoder_block(vae, run, torch_call, check, index, scale):
    """If this fails, the strided convolution is padded on all sides as the UNet's is."""
    theirs, ours = vae.both(f"encoder.down_blocks.{index}")
    x = _normal(3, B, T, H, W, 64, scale=scale)
    expected = torch_call(lambda x: _unfolded(theirs(_folded(x))), x)
    check(run(ours, x, call=_level), expected, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("index", [0, 1])
def test_decoder_block(vae, run, torch_call, check, index, scale):
    """If this fails, upsampling does not repeat pixels, or frames mix between clips."""
    theirs, ours = vae.both(f"decoder.up_blocks.{index}")
    x = _normal(4, B, T, H, W, 128, scale=scale)
    expected = torch_call(lambda x: _unfolded(theirs(_folded(x), INDICATOR)), x)
    check(run(ours, x, call=_level), expected, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_middle(vae, run, torch_call, check, side, scale):
    """If this fails, the attention is not between the residual blocks."""
    theirs, ours = vae.both(f"{side}.mid_block")
    extra = (INDICATOR,) if side == "decoder" else ()
    x = _normal(5, B, T, H, W, 128, scale=scale)
    expected = torch_call(lambda x: _unfolded(theirs(_folded(x), *extra)), x)
    check(run(ours, x, call=_middle), expected, BLOCK)


@pytest.mark.parametrize("size", [(2 * H, 2 * W), (2 * H + 1, 2 * W + 1)])
def test_encode(vae, run, torch_call, check, size):
    """If this fails, mean and log variance are swapped, or the log variance is not bounded."""
    frames = np.tanh(_normal(6, B, T, *size, 3))

    def forward(frames):
        out = vae.torch.encode(_folded(frames)).latent_dist
        return _unfolded(out.mode()), _unfolded(out.logvar)

    expected = torch_call(forward, frames)
    ours = run(vae.flax, frames, call=_encode)
    for mine, other in zip(ours, expected, strict=True):
        check(mine, other, WHOLE)


def _encode(module, frames):
    return module.encode(frames)


def _decode(module, latents):
    return module.decode(latents)


@pytest.mark.parametrize("frames", [1, T])
def test_decode(vae, run, torch_call, check, frames):
    """If this fails, the last temporal convolution is left out or mixes frames of two clips."""
    latents = _normal(7, B, frames, H, W, 4, scale=5.0)  # unscaled: wider than unit
    expected = torch_call(
        lambda z: _unfolded(vae.torch.decode(_folded(z), num_frames=frames).sample), latents
    )
    check(run(vae.flax, latents, call=_decode), expected, WHOLE)
