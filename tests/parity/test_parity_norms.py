"""Every norm of every network: its epsilon and groups, one by one.

Behind a norm signals have unit scale, so a wrong epsilon of the next norm is lost in rounding
when whole blocks are compared; it would show on flat pictures, where a variance is tiny.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs torch")
pytest.importorskip("diffusers", reason="parity needs diffusers")


@pytest.mark.parametrize("network", ["unet", "other_unet", "vae", "clip"])
def test_epsilons_and_groups(network, request):
    """If this fails, a norm has another epsilon or number of groups than the one in torch."""
    pair = request.getfixturevalue(network)
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    paths = [path for path, module in pair.torch.named_modules() if isinstance(module, norms)]
    for path in paths:
        theirs, ours = pair.both(path)
        assert ours.eps == theirs.eps, path
        assert getattr(ours, "groups", None) == getattr(theirs, "num_groups", None), path
    assert len(paths) == sum(entry.flax.endswith(".scale") for entry in pair.table.entries)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize(
    "network, path",
    [
        ("unet", "conv_norm_out"),
        ("unet", "down_blocks.0.attentions.0.norm"),
        ("unet", "down_blocks.0.attentions.0.temporal_transformer_blocks.0.norm_in"),
        ("vae", "decoder.conv_norm_out"),
        ("clip", "vision_model.post_layernorm"),
    ],
)
def test_norms_of_nearly_flat_signals(network, path, scale, request, run, torch_call, check):
    """If this fails, the variance is not torch's (n, not n - 1), or epsilon is outside the root.

    The mean is one deviation away from zero; farther off, torch's own kernel loses digits.
    """
    theirs, ours = request.getfixturevalue(network).both(path)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6, 64)).astype(np.float32)
    x = scale * (x + 1)

    def forward(x):
        if isinstance(theirs, torch.nn.LayerNorm):
            return theirs(x)
        out = theirs(x.flatten(0, 1).permute(0, 3, 1, 2))
        return out.unflatten(0, (2, 3)).permute(0, 1, 3, 4, 2)

    check(run(ours, x), torch_call(forward, x), 1e-5)
