"""FVD's network against logits that are known, and how frames come to it."""

import numpy as np
import pytest

from palette_vc_jax.metrics.networks import i3d, weights


def test_published_logits_of_a_random_video(shared, metric_weights):
    """If this fails, padding, pooling, a norm or the head differs from the published network."""
    known = np.load(shared / "weights" / "testvectors" / "i3d_fvd_random_feats.npz")["a"][:1]
    video = np.random.RandomState(1).rand(1, 16, 224, 224, 3).astype(np.float32)
    found = i3d.logits(weights.load("i3d", metric_weights), video)
    np.testing.assert_allclose(found, known, atol=1e-4)


@pytest.mark.parametrize("height, width", [(480, 854), (64, 96), (224, 224), (1, 301)])
def test_frames_are_prepared_as_torch_does(height, width):
    """If this fails, frames are resized by another rule than the field's scripts use."""
    torch = pytest.importorskip("torch", reason="parity needs torch")
    frames = np.random.default_rng(0).random((2, height, width, 3), np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2), (224, 224), mode="bilinear"
    )
    ours = i3d.prepare(frames)
    assert ours.shape == (2, 224, 224, 3)
    np.testing.assert_allclose(ours, 2.0 * theirs.permute(0, 2, 3, 1).numpy() - 1.0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 224, 224, 3), (1, 16, 112, 112, 3)])
def test_clips_that_the_network_cannot_read(shape):
    """If this fails, a short clip gets the mean of nothing, or small frames get logits."""
    with pytest.raises(ValueError, match=f"clips of {shape[1]} frames of {shape[2]}x.*at least 9"):
        i3d.logits({}, np.zeros(shape, np.float32))
