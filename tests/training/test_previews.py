"""Previews of the tiny model."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.models.store import load_model
from palette_vc_jax.training import previews
from tests import tiny

CLIPS, FRAMES = 2, 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Write and read a model whose parameters are all random."""
    return load_model(tiny.write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def batch():
    """Return held-out latents with pictures and with their embeddings."""
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(2, CLIPS, FRAMES, 4, 6, 4)).astype(np.float32)
    return {
        "color": latents[0],
        "gray": latents[1],
        "reference": rng.uniform(-1, 1, (CLIPS, 16, 24, 3)).astype(np.float32),
        "context_gray": rng.normal(size=(CLIPS, 1, 8)).astype(np.float32),
        "palette": rng.uniform(-1, 1, (CLIPS, 15)).astype(np.float32),
        "hue_shifted": np.zeros(CLIPS, bool),
    }


def _blocks(path):
    """Cut a preview into its three groups `[H, W, 3]`: gray, ours, truth."""
    pixels = np.asarray(Image.open(path)).astype(int)[previews.TITLE :]
    width = previews.FRAMES * previews.WIDTH
    lefts = [column * (width + previews.GAP) for column in range(3)]
    assert pixels.shape[1] == lefts[-1] + width
    return [pixels[:, left : left + width] for left in lefts]


def test_previews_show_the_same_clips_in_what_was_learned(model, batch, tmp_path):
    """If this fails, previews of two steps cannot be compared, or do not show the parameters."""
    sample, write = previews.make_previews(model, batch)
    params = {"unet": model.params["unet"]}
    more = jax.tree.map(lambda leaf: 1.1 * leaf, params)
    for name, given in (("one", params), ("again", params), ("other", more)):
        write(sample(given), tmp_path / "previews" / f"{name}.png")
    one, again, other = (tmp_path / "previews" / f"{n}.png" for n in ("one", "again", "other"))
    assert one.read_bytes() == again.read_bytes()
    (gray, ours, truth), (gray_2, ours_2, truth_2) = _blocks(one), _blocks(other)
    np.testing.assert_array_equal(gray, gray_2)
    np.testing.assert_array_equal(truth, truth_2)
    assert np.abs(ours - ours_2).mean() > 0.5
    assert np.ptp(gray, axis=-1).max() <= 1  # rounding
    assert np.ptp(truth, axis=-1).max() > 20
    assert {path.name for path in one.parent.iterdir()} == {one.name, again.name, other.name}


def test_what_steers_a_clip_reaches_its_own_row(model, batch, tmp_path):
    """If this fails, clips are colored with each other's palette or reference, or with none."""
    unet = {"unet": model.params["unet"]}
    tower = {"image_encoder": model.params["image_encoder"]}
    cases = ((unet, "palette"), (unet, "context_gray"), (unet | tower, "reference"))
    for params, key in cases:
        changed = batch | {key: np.concatenate([batch[key][:1], -batch[key][1:]])}
        both = []
        for name, given in (("before", batch), ("after", changed)):
            path = tmp_path / f"{key}-{name}.png"
            sample, write = previews.make_previews(model, given)
            write(sample(params), path)
            both.append(_blocks(path)[1])
        height = both[0].shape[0] // CLIPS
        moved = np.abs(both[1] - both[0])
        assert moved[:height].max() == 0, key
        assert moved[height:].max() > 0, key


def test_previews_show_the_reference_that_training_favors(model, batch, tmp_path):
    """If this fails, a model trained on references in color is looked at under gray ones."""
    batch = batch | {"context_color": -batch["context_gray"]}
    sampling = dataclasses.replace(model.config.sampling, reference="color")
    favored = model._replace(config=dataclasses.replace(model.config, sampling=sampling))
    ours = {}
    for key in ("", "context_color", "context_gray"):
        changed = batch | ({key: 2.0 * batch[key]} if key else {})
        path = tmp_path / f"{key}.png"
        sample, write = previews.make_previews(favored, changed)
        write(sample({"unet": model.params["unet"]}), path)
        ours[key] = _blocks(path)[1]
    np.testing.assert_array_equal(ours[""], ours["context_gray"])
    assert np.abs(ours[""] - ours["context_color"]).max() > 0


@pytest.mark.parametrize(("network", "key"), [("UNet", "unet"), ("decoder", "vae")])
def test_values_that_are_not_finite_are_reported(model, batch, tmp_path, network, key):
    """If this fails, previews show gray frames, as if the model had learned nothing."""
    params = model.params | {key: jax.tree.map(lambda leaf: leaf * np.nan, model.params[key])}
    sample, write = previews.make_previews(model._replace(params=params), batch)
    with pytest.raises(FloatingPointError, match=network):
        write(sample({"unet": params["unet"]}), tmp_path / "preview.png")
    assert not [*tmp_path.iterdir()]


def test_ours_is_the_truth_where_the_network_knows_it(model, batch, tmp_path, monkeypatch):
    """If this fails, what the sampler gives is decoded at another scale than the truth."""
    monkeypatch.setattr(previews, "_color", lambda config, params, batch, dtype: batch["color"])
    sample, write = previews.make_previews(model, batch)
    write(sample({}), tmp_path / "preview.png")
    _, ours, truth = _blocks(tmp_path / "preview.png")
    np.testing.assert_array_equal(ours, truth)
