"""The UNet against diffusers: every block, the whole network, the palette layer."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from palette_vc_jax.models import attention as attention_module
from palette_vc_jax.models.attention import attention, chunked_attention, plain_attention

torch = pytest.importorskip("torch", reason="parity needs torch")
pytest.importorskip("diffusers", reason="parity needs diffusers")

B, T, H, W = 2, 3, 6, 10
TIME = 256  # width of the time embedding: 4 x 64
CONTEXT = 48
BLOCK, WHOLE = 1e-5, 5e-5
SCALES = [1.0, 1e-3]  # at the small one, variance and epsilon are alike


def _normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def _folded(x):
    """Turn `[B, T, h, w, C]` into torch's `[B*T, C, h, w]`."""
    return torch.as_tensor(x).flatten(0, 1).permute(0, 3, 1, 2).contiguous()


def _unfolded(x, batch=B):
    return x.unflatten(0, (batch, -1)).permute(0, 1, 3, 4, 2)


def _per_frame(x):
    return torch.as_tensor(x).repeat_interleave(T, dim=0)


INDICATOR = torch.zeros(B, T)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "path",
    [
        "down_blocks.0.resnets.0",  # equal widths, epsilon of levels with attention
        "down_blocks.1.resnets.0",  # shortcut, epsilon of levels without
        "down_blocks.1.resnets.1",
        "mid_block.resnets.0",
        "up_blocks.0.resnets.2",  # without attention, yet the other epsilon
        "up_blocks.1.resnets.0",
    ],
)
def test_residual_block(unet, run, torch_call, check, path, scale):
    """If this fails, a norm pools over other axes, an epsilon differs or the blend is reversed."""
    theirs, ours = unet.both(path)
    x = _normal(1, B, T, H, W, theirs.spatial_res_block.norm1.num_channels, scale=scale)
    time = _normal(2, B, TIME)
    expected = torch_call(
        lambda x, time: _unfolded(theirs(_folded(x), _per_frame(time), INDICATOR)), x, time
    )
    check(run(ours, x, time), expected, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize(
    "path", ["down_blocks.0.attentions.1", "mid_block.attentions.0", "up_blocks.1.attentions.2"]
)
def test_transformer(unet, run, torch_call, check, path, tokens, scale):
    """If this fails, the GEGLU halves, the frame positions or the order of contexts differ."""
    theirs, ours = unet.both(path)
    x = _normal(3, B, T, H, W, theirs.in_channels, scale=scale)
    context = _normal(4, B, tokens, CONTEXT)
    expected = torch_call(
        lambda x, c: _unfolded(theirs(_folded(x), _per_frame(c), INDICATOR, return_dict=False)[0]),
        x,
        context,
    )
    check(run(ours, x, context), expected, BLOCK)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("path", ["transformer_blocks", "temporal_transformer_blocks"])
def test_transformer_half(unet, run, torch_call, check, path, tokens):
    """If this fails, one half of a transformer differs, which a blend could hide."""
    theirs, ours = unet.both(f"mid_block.attentions.0.{path}.0")
    x = _normal(5, B, T, H * W, 128)
    context = _normal(6, B, tokens, CONTEXT)

    def spatial(x, c):
        return theirs(x.flatten(0, 1), encoder_hidden_states=_per_frame(c)).unflatten(0, (B, T))

    def temporal(x, c):
        every_position = c.repeat_interleave(H * W, dim=0)
        out = theirs(x.flatten(0, 1), num_frames=T, encoder_hidden_states=every_position)
        return out.unflatten(0, (B, T))

    if path == "transformer_blocks":
        return check(run(ours, x, context), torch_call(spatial, x, context), BLOCK)
    out = run(ours, x.swapaxes(1, 2), context)  # ours has frames behind positions
    check(out.swapaxes(1, 2), torch_call(temporal, x, context), BLOCK)


def _level(block, x, time, context, *skips):
    """Run one level as the UNet does; `skips` are taken from the end. Return every output."""
    skips, out = list(skips), []
    for index in range(len(block.resnets)):
        x = jnp.concatenate([x, skips.pop()], axis=-1) if skips else x
        x = block.layer(index, x, time, context)
        out.append(x)
    for name in ("downsamplers", "upsamplers"):
        if hasattr(block, name):
            x = getattr(block, name)[0](x)
            out.append(x)
    return out


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", ["down_blocks.0", "down_blocks.1"])
def test_down_block(unet, run, torch_call, check, path, scale):
    """If this fails, the strided convolution is padded on one side, or a skip is another tensor."""
    theirs, ours = unet.both(path)
    x, time, context = _normal(7, B, T, H, W, 64, scale=scale), _normal(8, B, TIME), _context(9, 2)
    extra = {"encoder_hidden_states": _per_frame(context)} if path.endswith("0") else {}

    def forward(x, time):
        out = theirs(
            hidden_states=_folded(x), temb=_per_frame(time), image_only_indicator=INDICATOR, **extra
        )
        return [_unfolded(skip) for skip in out[1]]

    expected = torch_call(forward, x, time)
    skips = run(ours, x, time, context, call=_level)
    assert len(skips) == len(expected)
    for skip, other in zip(skips, expected, strict=True):
        check(skip, other, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
def test_mid_block(unet, run, torch_call, check, scale):
    """If this fails, the middle transformer is not between its residual blocks."""
    theirs, ours = unet.both("mid_block")
    x = _normal(10, B, T, H, W, 128, scale=scale)
    time, context = _normal(11, B, TIME), _context(12, 2)
    expected = torch_call(
        lambda x, time, c: _unfolded(
            theirs(_folded(x), _per_frame(time), _per_frame(c), INDICATOR)
        ),
        x,
        time,
        context,
    )
    check(run(ours, x, time, context, call=_level)[-1], expected, BLOCK)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", ["up_blocks.0", "up_blocks.1"])
def test_up_block(unet, run, torch_call, check, path, scale):
    """If this fails, skips come in another order, or before the hidden channels."""
    theirs, ours = unet.both(path)
    inputs = [block.spatial_res_block.norm1.num_channels for block in theirs.resnets]
    width = 128  # of the hidden channels that come in
    x = _normal(13, B, T, H, W, width, scale=scale)
    skips, hidden = [], width
    for index, channels in enumerate(inputs):  # in the order of use
        skips.insert(0, _normal(14 + index, B, T, H, W, channels - hidden, scale=scale))
        hidden = theirs.resnets[index].spatial_res_block.norm2.num_channels
    time, context = _normal(20, B, TIME), _context(21, 2)
    extra = {"encoder_hidden_states": _per_frame(context)} if path.endswith("1") else {}
    expected = torch_call(
        lambda x, time, *skips: _unfolded(
            theirs(
                hidden_states=_folded(x),
                temb=_per_frame(time),
                res_hidden_states_tuple=tuple(_folded(skip) for skip in skips),
                image_only_indicator=INDICATOR,
                **extra,
            )
        ),
        x,
        time,
        *skips,
    )
    check(run(ours, x, time, context, *skips, call=_level)[-1], expected, BLOCK)


def _context(seed, tokens):
    return _normal(seed, B, tokens, CONTEXT)


def _inputs(tokens=1, height=H, width=W):
    """Draw inputs of the whole network: two samples that share nothing."""
    return {
        "sample": _normal(30, B, T, height, width, 8),
        "c_noise": np.array([-1.2, 1.6], np.float32),
        "context": _context(31, tokens),
        "added_time_ids": np.array([[6, 127, 0.02], [24, 40, 0]], np.float32),
        "palette": np.random.default_rng(32).uniform(-1, 1, (B, 15)).astype(np.float32),
        "palette_mask": np.ones(B, np.float32),
    }


def _theirs(model, inputs, torch_call):
    def forward(sample, c_noise, context, ids):
        out = model(sample.permute(0, 1, 4, 2, 3), c_noise, context, ids, return_dict=False)[0]
        return out.permute(0, 1, 3, 4, 2)

    names = ("sample", "c_noise", "context", "added_time_ids")
    return torch_call(forward, *(inputs[name] for name in names))


def _ours(run, module, inputs):
    return run(module, *inputs.values())


@pytest.mark.parametrize("tokens", [1, 2])
def test_whole_unet(unet, run, torch_call, check, tokens):
    """If this fails, blocks are joined in another way, or an input is misread.

    The palette layer of a converted model is zero: a palette given to it changes nothing.
    """
    inputs = _inputs(tokens)
    check(_ours(run, unet.flax, inputs), _theirs(unet.torch, inputs, torch_call), WHOLE)


def test_whole_unet_with_attention_at_coarse_levels(other_unet, run, torch_call, check):
    """If this fails, block types are mirrored wrongly or an epsilon follows the wrong level."""
    inputs = _inputs(2, height=4, width=8)
    expected = _theirs(other_unet.torch, inputs, torch_call)
    check(_ours(run, other_unet.flax, inputs), expected, WHOLE)


def test_query_chunks_change_nothing(unet, run, check, monkeypatch):
    """If this fails, a chunk's queries see other keys, or padded ones reach the output."""
    _, ours = unet.both("down_blocks.0.attentions.0")
    x, context = _normal(33, B, T, H, W, 64), _context(34, 2)
    plain = run(ours, x, context)
    monkeypatch.setattr(attention_module, "LOGITS_BUDGET", 4 * B * T * 2 * H * W * 7)  # 7 queries
    # A new function, so that JAX compiles it again.
    check(run(ours, x, context, call=lambda net, *arrays: net(*arrays)), plain, BLOCK)


@pytest.mark.parametrize("length, keys, chunk", [(60, 60, 7), (5, 9, 8), (8, 3, 4)])
def test_attention_entry(torch_call, check, length, keys, chunk):
    """If this fails, the scale, the softmax axis or the split into heads differs from torch's."""
    query, key, value = (_normal(s, B, n, 4, 16) for s, n in ((40, length), (41, keys), (42, keys)))
    expected = torch_call(
        lambda *args: torch.nn.functional.scaled_dot_product_attention(
            *(a.transpose(1, 2) for a in args)
        ).transpose(1, 2),
        query,
        key,
        value,
    )
    for ours in (attention, plain_attention, lambda *args: chunked_attention(*args, chunk)):
        check(np.asarray(ours(query, key, value)), expected, BLOCK)


@pytest.fixture
def palette_unet(unet):
    """Return the UNet with a palette layer that is not zero."""
    module = nnx.clone(unet.flax)
    module.palette_embedding.kernel[...] = jnp.asarray(_normal(50, 15, 64, scale=0.3))
    module.palette_embedding.bias[...] = jnp.asarray(_normal(51, 64, scale=0.3))
    return module


def test_zero_palette_layer_changes_nothing(unet, run):
    """If this fails, a converted SVD depends on a palette, which must not change one bit."""
    inputs = _inputs()
    plain = _ours(run, unet.flax, inputs)
    null = {"palette_mask": np.zeros(B, np.float32)}
    for change in ({"palette": -inputs["palette"]}, null):
        assert np.array_equal(_ours(run, unet.flax, inputs | change), plain)


def test_palette_layer_is_a_projection_added_after_conv_in(
    unet, palette_unet, run, torch_call, check
):
    """If this fails, the palette is added elsewhere, after the first skip, or to other samples."""
    inputs = _inputs()
    kernel = torch.tensor(np.asarray(palette_unet.palette_embedding.kernel[...]))
    bias = torch.tensor(np.asarray(palette_unet.palette_embedding.bias[...]))
    added = _per_frame(torch.from_numpy(inputs["palette"]) @ kernel + bias)[:, :, None, None]
    hook = unet.torch.conv_in.register_forward_hook(lambda module, args, out: out + added)
    try:
        expected = _theirs(unet.torch, inputs, torch_call)
    finally:
        hook.remove()
    with_palette = _ours(run, palette_unet, inputs)
    check(with_palette, expected, WHOLE)
    without = _ours(run, unet.flax, inputs)
    assert np.abs(with_palette - without).max() > 0.05 * np.abs(without).max()


def _regions(inputs, count):
    """Return inputs whose palette is that of the first of `count` regions with random shares."""
    rng = np.random.default_rng(52)
    shares = rng.uniform(size=(B, T, H, W, count)).astype(np.float32)
    others = rng.uniform(-1, 1, (B, count - 1, 15)).astype(np.float32)
    return inputs | {
        "palette": np.concatenate([inputs["palette"][:, None], others], axis=1),
        "palette_mask": np.ones((B, count), np.float32),
        "regions": shares / shares.sum(-1, keepdims=True),
    }


def test_palettes_of_regions_are_a_map_added_after_conv_in(
    unet, palette_unet, run, torch_call, check
):
    """If this fails, a region's palette reaches pixels, frames or samples outside it."""
    inputs = _regions(_inputs(), 3)
    kernel = torch.tensor(np.asarray(palette_unet.palette_embedding.kernel[...]))
    bias = torch.tensor(np.asarray(palette_unet.palette_embedding.bias[...]))
    shares = torch.from_numpy(inputs["regions"]).permute(0, 1, 4, 2, 3)  # [B, T, R, h, w]
    colors = torch.from_numpy(inputs["palette"]) @ kernel + bias  # [B, R, C]
    added = sum(
        shares[:, :, r, None] * colors[:, None, r, :, None, None] for r in range(colors.shape[1])
    ).flatten(0, 1)  # [B*T, C, h, w]
    hook = unet.torch.conv_in.register_forward_hook(lambda module, args, out: out + added)
    try:
        expected = _theirs(unet.torch, inputs, torch_call)
    finally:
        hook.remove()
    check(_ours(run, palette_unet, inputs), expected, WHOLE)


def test_one_region_everywhere_is_the_palette(palette_unet, run):
    """If this fails, a region that covers all pixels is not the paper's palette."""
    inputs = _inputs()
    one = inputs | {
        "palette": inputs["palette"][:, None],
        "palette_mask": np.ones((B, 1), np.float32),
        "regions": np.ones((B, T, H, W, 1), np.float32),
    }
    assert np.array_equal(_ours(run, palette_unet, one), _ours(run, palette_unet, inputs))


def test_masked_palette_is_no_palette(unet, palette_unet, run):
    """If this fails, the null palette is mid-gray: the mask has to switch off the bias too."""
    inputs = _inputs()
    masked = _ours(run, palette_unet, inputs | {"palette_mask": np.array([0, 1], np.float32)})
    null = _ours(run, unet.flax, inputs)
    full = _ours(run, palette_unet, inputs)
    gray = _ours(run, palette_unet, inputs | {"palette": 0 * inputs["palette"]})
    np.testing.assert_allclose(masked[0], null[0], rtol=0, atol=1e-6 * np.abs(null).max())
    np.testing.assert_allclose(masked[1], full[1], rtol=0, atol=1e-6 * np.abs(full).max())
    assert np.abs(gray[0] - null[0]).max() > 0.01 * np.abs(null).max()
