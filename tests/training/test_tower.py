"""The image tower's task: it learns a teacher's features, and a UNet is trained on top of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palette_vc_jax.metrics.chunk import FeatureNetwork
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.models.store import load_model
from palette_vc_jax.training import tasks, tower_task
from palette_vc_jax.training.config import load, read
from tests import films, tiny

CONFIG = dataclasses.replace(
    tiny.SMALL,
    image_encoder=dataclasses.replace(tiny.SMALL.image_encoder, tokens="patches"),
)


@pytest.fixture
def config(monkeypatch, tmp_path):
    """Return `config(name, **changes)`: its runlocal variant for a tiny model and teacher."""

    def features(images):
        means = [
            jax.image.resize(images, (len(images), s, s, 3), "linear") for s in (8, 4, 4, 4, 2)
        ]
        return tuple(jnp.tile(mean, 3) for mean in means)

    found = {tower_task.TEACHER: FeatureNetwork(jax.jit(features))}
    monkeypatch.setattr(tower_task, "load_feature_networks", lambda names: (found, {}))
    monkeypatch.setitem(PRESETS, "tiny", lambda: CONFIG)
    tiny.write_model(tmp_path / "vae", CONFIG)
    rng = np.random.default_rng(0)
    for clip in range(4):
        pictures = [rng.integers(0, 256, (24, 36, 3)).astype(np.uint8) for _ in range(4)]
        films.write_pictures(tmp_path / "clips" / f"{clip}", pictures)

    def make(name, **changes):
        made = load(name, "runlocal")
        given = {
            "model": "tiny", "vae": str(tmp_path / "vae"), "data.root": str(tmp_path / "clips"),
            "data.hold_out_every": 2, "data.size": (16, 24), "data.short_sides": (16, 24),
        } | changes  # fmt: skip
        made.update_from_flattened_dict(given)
        return read(made)

    return make


def test_principal_axes_hold_the_variance():
    """If this fails, the tower learns directions in which the teacher's features do not vary."""
    rng = np.random.default_rng(0)
    spread = np.array([3.0, 2.0, 0.1, 0.01])
    features = rng.normal(size=(50, 70, 4)) * spread + 5.0
    mean, axes = tower_task.principal(features.astype(np.float32), 2)
    found = tower_task.project(features.astype(np.float16), mean, axes)
    assert found.shape == (50, 70, 2) and found.dtype == np.float32
    assert np.abs(found.mean((0, 1))).max() < 0.1
    variance = found.var((0, 1))
    assert variance[0] > variance[1] > 0.3 and variance.mean() == pytest.approx(1.0, abs=0.1)
    for axis, own in enumerate((0, 1)):
        correlation = np.corrcoef(found[..., axis].ravel(), features[..., own].ravel())[0, 1]
        assert abs(correlation) > 0.99


def test_the_tower_learns_and_a_unet_is_trained_on_it(config, tmp_path):
    """If this fails, the tower does not learn, or the UNet's run trains or loses it."""
    task = tasks.make_task(config("demo_tower", **{"data.patch": (8, 12)}))
    params = task.init()
    batch, key = next(task.batches(0, range(4))), jax.random.key(0)
    assert batch["target"].shape == (4, CONFIG.image_encoder.context_length, 8)

    @jax.jit
    def step(params):
        loss, gradients = jax.value_and_grad(lambda p: task.loss(p, {}, batch, key)[0])(params)
        return loss, jax.tree.map(lambda leaf, grad: leaf - 0.2 * grad, params, gradients)

    first, params = step(params)
    for _ in range(100):
        last, params = step(params)
    assert last < 0.9 * first
    assert np.isfinite(task.validate(params, {})["validation"])

    task.export(jax.tree.map(np.asarray, params), 30, tmp_path / "tower")
    unet = tasks.make_task(config("demo_stills", vae=str(tmp_path / "tower"), **{"data.cache": ""}))
    start = unet.init()
    assert set(start) == {"unet"}
    batch = next(unet.batches(0))
    length = CONFIG.image_encoder.context_length
    assert length == 4 and batch["context_gray"].shape == (2, length, 8)
    assert np.isfinite(jax.jit(unet.loss)(start, unet.frozen, batch, key)[0])
    unet.export(start, 0, tmp_path / "model")
    written = load_model(tmp_path / "model")
    for name in ("vae", "image_encoder"):
        expected = load_model(tmp_path / "tower", (name,)).params[name]
        jax.tree.map(np.testing.assert_array_equal, written.params[name], expected)


def test_nothing_held_out_is_refused_before_the_teacher_is_asked(config):
    """If this fails, an hour of the teacher's work ends in a message of numpy."""
    with pytest.raises(ValueError, match="data.hold_out_every=9 holds out none of 4 clips"):
        tasks.make_task(config("demo_tower", **{"data.hold_out_every": 9}))


def test_a_teacher_that_is_missing_is_named(config, monkeypatch):
    """If this fails, a machine without VGG16's weights gets a traceback."""
    lacking = {tower_task.TEACHER: "convert it"}
    monkeypatch.setattr(tower_task, "load_feature_networks", lambda names: ({}, lacking))
    with pytest.raises(ValueError, match="teacher's weights are missing; run `convert it`"):
        tasks.make_task(config("demo_tower", **{"data.patch": (8, 12)}))
