"""The training step, the loop's resume, and the losses, at a size that compiles in seconds."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palette_vc_jax.models import functional
from palette_vc_jax.models.vae import VAE
from palette_vc_jax.training import losses, optimizer, unet_task, vae_task, weights
from palette_vc_jax.training.config import OptimizerConfig, RatesConfig, base, read
from tests import tiny

TINY = tiny.CONFIG
RATES = RatesConfig(0.0, 0.0, 0.0, 0.0, 0.0)


def _batch(seed: int, size: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(2, size, 2, 4, 4, 4)).astype(np.float32)
    return {
        "color": latents[0],
        "gray": latents[1],
        "reference": rng.uniform(-1, 1, (size, 16, 16, 3)).astype(np.float32),
        "palette": rng.uniform(-1, 1, (size, 15)).astype(np.float32),
        "hue_shifted": np.zeros(size, bool),
    }


@functools.partial(jax.jit, static_argnames="zero_output")
def _loss(batch, sigma, zero_output=False, **rates):
    params = tiny.random_params(TINY)
    if "context_gray" in batch:  # embeddings of a frozen image tower
        del params["image_encoder"]
    if zero_output:  # as a new network begins
        params["unet"]["conv_out"] = jax.tree.map(jnp.zeros_like, params["unet"]["conv_out"])
    rates = replace(RATES, **rates)
    return losses.edm_loss(params, batch, sigma, jax.random.key(0), TINY, rates)[0]


def test_palette_dropout_is_the_null_palette():
    """If this fails, dropping a palette in training is not what sampling without one computes."""
    sigma = jnp.array([0.5, 20.0])

    def loss(batch, dropout):
        return float(_loss(batch, sigma, palette_dropout=dropout))

    batch = _batch(0)
    other = batch | {"palette": -batch["palette"]}
    assert loss(batch, 1.0) == loss(other, 1.0)
    assert loss(batch, 0.0) != loss(other, 0.0)
    # Shifted hues cannot be guessed, so the palette is not dropped there.
    shifted = {"hue_shifted": np.ones(2, bool)}
    assert loss(batch | shifted, 1.0) == loss(batch, 0.0)


def test_regions_are_given_to_the_network():
    """If this fails, palettes of regions are not trained, or a dropped one is still read."""
    sigma = jnp.array([0.5, 20.0])
    batch = _batch(0)
    whole = float(_loss(batch, sigma))
    one = np.zeros(batch["color"].shape[:-1], np.uint8)
    batch["palette"] = np.stack([batch["palette"], -batch["palette"]], axis=1)
    np.testing.assert_allclose(float(_loss(batch | {"regions": one}, sigma)), whole, rtol=1e-5)
    halves = batch | {"regions": one.copy()}
    halves["regions"][..., :2] = 1
    assert abs(float(_loss(halves, sigma)) - whole) > 1e-4 * whole
    other = halves | {"palette": 0.5 * halves["palette"]}
    null = float(_loss(halves, sigma, palette_dropout=1.0))
    assert null == float(_loss(other, sigma, palette_dropout=1.0))
    # The palettes of hue-shifted crops are never dropped.
    shifted = halves | {"hue_shifted": np.ones(2, bool)}
    assert float(_loss(shifted, sigma, palette_dropout=1.0)) == float(_loss(halves, sigma))


def test_joint_dropout_leaves_nothing_to_go_by():
    """If this fails, SVD's unconditional branch is trained on what it is to be without."""
    sigma = jnp.array([0.5, 20.0])

    def loss(batch, dropout):
        return float(_loss(batch, sigma, joint_dropout=dropout))

    batch = _batch(0)
    batch["context_color"] = batch["context_gray"] = np.ones((2, 1, 8), np.float32)
    for key in ("palette", "gray", "context_gray"):
        other = batch | {key: -batch[key]}
        assert loss(batch, 1.0) == loss(other, 1.0), key
        assert loss(batch, 0.0) != loss(other, 0.0), key
    shifted = batch | {"hue_shifted": np.ones(2, bool)}  # they are not colors of films
    assert loss(shifted, 1.0) == loss(batch, 0.0)


@pytest.mark.parametrize(
    ("color", "none", "favored"),
    [(0.45, 0.1, "gray"), (1.0, 0.0, "color"), (0.1, 0.1, "gray"), (0.2, 0.6, "none")],
)
def test_the_favored_reference_is_the_most_frequent(color, none, favored):
    """If this fails, a model is sampled with a reference that it hardly saw."""
    rates = replace(RATES, reference_color=color, reference_none=none)
    assert losses.favored_reference(rates) == favored


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_palette_layer_has_a_rate_of_its_own(kind):
    """If this fails, the layer that starts at zero learns as slowly as what is only tuned."""
    values = OptimizerConfig(kind, 1e-3, muon_learning_rate=1e-2, warmup_steps=2, steps=10, b2=0.99)
    rng = np.random.default_rng(0)
    shapes = {
        "palette_embedding": {"kernel": (15, 16), "bias": (16,)},
        "conv_in": {"kernel": (3, 3, 8, 16), "bias": (16,)},
    }
    leaf = dict(is_leaf=lambda x: isinstance(x, tuple))
    params = {"unet": jax.tree.map(lambda s: jnp.array(rng.normal(size=s)), shapes, **leaf)}

    def moved(rate):
        update = optimizer.make_optimizer(replace(values, palette_learning_rate=rate))
        now, state = params, update.init(params)
        for step in range(3):
            gradient = jax.tree.map(lambda x, step=step: x + 0.1 * step, params)
            updates, state = update.update(gradient, state, now)
            now = jax.tree.map(jnp.add, now, updates)
        return jax.tree.map(lambda a, b: np.asarray(a - b), now, params)["unet"], state

    (plain, plain_state), (none, _), (fast, state) = (moved(rate) for rate in (0.0, None, 5e-2))
    assert jax.tree.structure(state) == jax.tree.structure(plain_state)
    jax.tree.map(np.testing.assert_array_equal, plain, none)
    jax.tree.map(np.testing.assert_array_equal, plain["conv_in"], fast["conv_in"])
    usual = {"kernel": 1e-2 if kind == "muon" else 1e-3, "bias": 1e-3}
    for name, rate in usual.items():
        one, other = plain["palette_embedding"][name], fast["palette_embedding"][name]
        np.testing.assert_allclose(other, one * 5e-2 / rate, rtol=0.05, atol=1e-5)
    config = base()
    config.optimizer.palette_learning_rate = -1.0
    with pytest.raises(ValueError, match="palette_learning_rate=-1.0; give 0"):
        read(config)


def test_the_palette_layer_starts_by_seeing_all_directions_alike():
    """If this fails, brightness drowns the hues of a palette for most of the training."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(15, 15)) * np.geomspace(1.0, 0.1, 15)[:, None]
    palettes = 0.2 + rng.normal(size=(500, 2, 15)) @ spread
    layer = weights.new_unet(tiny.MICRO.unet, 0, palettes)["palette_embedding"]
    seen = palettes.reshape(-1, 15) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(seen.mean(0), 0.0, atol=1e-4)
    values, axes = np.linalg.eigh(np.cov(palettes.reshape(-1, 15).T))
    responses = np.linalg.norm((axes * np.sqrt(values)).T @ layer["kernel"], axis=1)
    assert responses.min() > 0.4 and responses.max() < 1.7  # random rows of norm 1
    assert values[-1] / values[0] > 50


def test_noise_of_a_window_is_shared_as_the_sampler_shares_it():
    """If this fails, the sampler starts from noise that the model was not trained on."""
    noise = np.asarray(losses.window_noise(jax.random.key(0), (3, 20, 8, 8, 4), 0.75))
    assert abs(noise.std() - 1.0) < 0.1
    for window in noise.reshape(3, 20, -1):
        correlation = np.corrcoef(window)[~np.eye(20, dtype=bool)]
        assert abs(correlation.mean() - 0.75) < 0.05
    across = np.corrcoef(noise[:, 0].reshape(3, -1))[~np.eye(3, dtype=bool)]
    assert np.abs(across).max() < 0.3


def test_the_perfect_network_has_no_loss():
    """If this fails, the target is not the velocity whose denoised picture is the clean one.

    A network that returns zero predicts x0 = c_skip x; where the clean latents are that, the
    loss must vanish: noise of 0 and clean latents of 0.
    """
    batch = _batch(0)
    zero = batch | {"color": np.zeros_like(batch["color"])}
    value = _loss(zero, jnp.full((2,), 1e-4), zero_output=True)
    # v = (noise * c_in-like weights); at clean 0 it is noise / sqrt(1 + sigma^2): mean square 1.
    assert abs(float(value) - 1.0) < 0.3
    value = _loss(zero, jnp.full((2,), 1e4), zero_output=True)
    assert float(value) < 1e-6


def test_noise_levels_follow_the_stated_distribution():
    """If this fails, stratifying the noise levels changed their mean, spread or reach."""
    keys = jax.random.split(jax.random.key(0), 400)
    log = np.log(jax.vmap(lambda k: unet_task.draw_sigma(k, 6, 0.8, 2.0))(keys))
    assert abs(log.mean() - 0.8) < 0.05 and abs(log.std() - 2.0) < 0.05
    assert (log > np.log(100.0)).mean() > 0.02
    assert np.ptp(log, axis=1).min() > 2.0  # every batch spans low and high noise


def test_whitened_latents_have_unit_covariance_and_the_same_pictures():
    """If this fails, the change of coordinates folded into the VAE changes what it decodes."""
    params = jax.tree.map(np.asarray, vae_task._initial(TINY.vae, 0, np.eye(3)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + rng.normal(0, 0.1, p.shape).astype(np.float32), params)
    clips = rng.uniform(-1, 1, (3, 2, 32, 32, 3)).astype(np.float32)
    white = vae_task.whiten(params, TINY.vae, clips)

    @jax.jit
    def encode(p):
        return functional.apply(VAE, TINY.vae, p, clips, method="encode")[0]

    @jax.jit
    def decode(p):
        return functional.apply(VAE, TINY.vae, p, encode(p), method="decode")

    latents = np.asarray(encode(white)).reshape(-1, 4)
    np.testing.assert_allclose(latents.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(latents.T), np.eye(4), atol=1e-3)
    # Only the border may move: there the zero padding means another latent.
    before, after = (np.asarray(decode(p))[:, :, 14:18, 14:18] for p in (params, white))
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()


def test_unknown_tasks_are_refused():
    """If this fails, a mistyped task gives a traceback instead of the names that exist."""
    config = base()
    config.task = "uvae"
    with pytest.raises(ValueError, match="vae, image_encoder, unet"):
        read(config)
