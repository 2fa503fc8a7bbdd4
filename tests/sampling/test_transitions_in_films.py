"""Fades, dissolves and wipes on the way through `color_film`, with a stand-in for the networks."""

import json

import av
import numpy as np
import pytest

from palette_vc_jax import color_film, default_settings, load_model, plan_film
from palette_vc_jax.sampling import job
from palette_vc_jax.sampling.bridging import bridge, lit_keyframes
from palette_vc_jax.sampling.keyframes import Keyframe
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.video.dissolves import Dissolve
from palette_vc_jax.video.fades import Light
from palette_vc_jax.video.resize import resize
from palette_vc_jax.video.wipes import Wipe
from tests import films, tiny
from tests.video.test_transitions import moving

STILL = moving(1)[0] * 0.6 + 0.2
GAINS = np.clip((np.arange(16) - 2) / 8, 0.0, 1.0)


def _grays(networks, grays, shots, progress, **given):
    """Stand in for `sample_latents`: return the frames."""
    return np.stack(list(grays))


def _red_where_bright(networks, latents, shots, settings):
    """Stand in for `decode_latents`: bright is red and dim is blue, and opposite in odd shots."""
    frames = latents
    index = np.concatenate(
        [np.full(stop - start, shot) for shot, (start, stop) in enumerate(shots)]
    )
    bright = np.clip(frames, 0.0, 1.0)[..., None]
    tint = bright * np.float32([0.2, -0.1, 0.0]) + (1 - bright) * np.float32([0.0, -0.05, 0.2])
    sign = np.where(index % 2, -1.0, 1.0)[:, None, None, None]
    yield (bright + sign * tint).astype(np.float32)


@pytest.fixture
def color(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "sample_latents", _grays)
    monkeypatch.setattr(job, "decode_latents", _red_where_bright)
    model = load_model(tiny.write_model(tmp_path / "model"), ())

    def run(name, grays, luma="source", shots=None, keyframes=(), **settings):
        codes = [np.rint(16 + 219 * gray).astype(np.uint8) for gray in grays]
        source = films.write_film(tmp_path / f"{name}_in.mkv", codes, chroma=128)
        chosen = default_settings(model.config, **settings)
        result = color_film(
            source,
            tmp_path / f"{name}.mkv",
            model,
            None,
            chosen,
            networks="no networks",
            luma=luma,
            shots=shots,
            keyframes=keyframes,
        )
        with av.open(str(result.film)) as container:
            planes = np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
        record = json.loads(result.side_files["settings"].read_text())
        return planes.astype(np.float32), record

    return run


def test_a_fade_has_the_colors_of_the_lit_shot(color):
    """If this fails, the colors of a fade are those of a dim picture, or are not dimmed."""
    dim = GAINS[:, None, None] * STILL
    lit, _ = color("lit", [STILL] * 16, neutral_dark=0.0)
    found, record = color("fade", dim, neutral_dark=0.0)
    ((first, stop),) = record["fades"]
    assert first <= 3 and stop >= 9 and record["shots"] == [[0, 16]]
    expected = 128.0 + GAINS[:, None, None, None] * (lit[:, 1:] - 128.0)
    assert np.abs(found[:, 1:] - expected)[4:].mean() < 1.0
    plain, record = color("plain", dim, **PLAIN)
    assert record["fades"] == [] and np.abs(plain[:, 1:] - expected)[4:7].mean() > 4.0


def test_the_models_luma_fades_too(color):
    """If this fails, a fade is gone from a film with the luma of the model."""
    found, record = color("model", GAINS[:, None, None] * STILL, luma="model")
    assert len(record["fades"]) == 1
    means = (found[:, 0].mean((1, 2)) - 16.0) / 219.0
    np.testing.assert_allclose(means[4:] / means[-1], GAINS[4:], atol=0.05)


def test_a_dissolve_is_bridged_by_the_colors_of_both_shots(color):
    """If this fails, all colors swap in the middle of a dissolve."""
    weights = np.clip((np.arange(36) - 10) / 14, 0.0, 1.0)[:, None, None]
    film = (1.0 - weights) * np.stack(moving(36, 0, 0.1)) + weights * moving(36, 200, 0.1)
    found, record = color("dissolve", film)
    ((first, stop),) = record["dissolves"]
    assert len(record["shots"]) == 2 and first < record["shots"][1][0] < stop
    means = found[:, 1:].mean((2, 3))
    share = weights[first:stop, 0]
    mixed = (1.0 - share) * means[first - 1] + share * means[stop]
    assert np.abs(means[stop] - means[first - 1]).max() > 8.0
    np.testing.assert_allclose(means[first:stop], mixed, atol=2.0)
    plain, record = color("plain", film, **PLAIN)
    assert record["dissolves"] == [] and len(record["shots"]) == 1


def test_strength_changes_with_the_picture(color):
    """If this fails, colors go out in the middle of a dissolve to a shot that stays gray."""
    weights = np.clip((np.arange(36) - 10) / 14, 0.0, 1.0)[:, None, None]
    film = (1.0 - weights) * np.stack(moving(36, 0, 0.0)) + weights * moving(36, 200, 0.0)
    shots = [ShotSettings(), ShotSettings(strength=0.0)]
    found, record = color("gray after", film, shots=shots)
    ((first, stop),) = record["dissolves"]
    colored = np.abs(found[:, 1:] - 128.0).mean((1, 2, 3))
    assert colored[first - 1] > 4.0 and colored[stop:].max() == 0.0
    share = weights[first:stop, 0, 0]
    np.testing.assert_allclose(colored[first:stop], (1.0 - share) * colored[first - 1], atol=1.5)


def test_each_side_of_a_wipe_has_the_colors_of_its_shot(color):
    """If this fails, colors of one shot flow into the picture of the other."""
    edges = np.clip((np.arange(36) - 10) / 14, 0.0, 1.0)
    shares = np.stack(list(Wipe(0, 35, "left", tuple(edges)).shares(54, 96)))[..., 0]
    film = (1.0 - shares) * np.stack(moving(36, 0, 0.0)) + shares * moving(36, 200, 0.0)
    found, record = color("wipe", film, neutral_dark=0.0, neutral_bright=1.0)
    ((first, stop),) = record["wipes"]
    assert len(record["shots"]) == 2 and first < record["shots"][1][0] < stop
    chroma = found[:, 1:]
    assert np.abs(chroma[stop] - chroma[first - 1]).mean() > 4.0
    width = chroma.shape[-1]
    for frame in range(first, stop):
        edge, margin = round(edges[frame] * width), width // 4
        behind, ahead = np.s_[..., : max(edge - margin, 0)], np.s_[..., edge + margin :]
        np.testing.assert_allclose(chroma[frame][behind], chroma[stop][behind], atol=3.0)
        np.testing.assert_allclose(chroma[frame][ahead], chroma[first - 1][ahead], atol=3.0)


def test_shots_that_are_given_inside_of_a_wipe_are_not_bridged(tmp_path):
    """If this fails, a shot of a plan has the colors of the shots around it, without a message."""
    edges = np.clip((np.arange(36) - 10) / 14, 0.0, 1.0)
    shares = np.stack(list(Wipe(0, 35, "left", tuple(edges)).shares(54, 96)))[..., 0]
    film = (1.0 - shares) * np.stack(moving(36, 0, 0.0)) + shares * moving(36, 200, 0.0)
    codes = [np.rint(16 + 219 * gray).astype(np.uint8) for gray in film]
    source = films.write_film(tmp_path / "in.mkv", codes, chroma=128)
    model = load_model(tiny.write_model(tmp_path / "model"), ())
    assert len(plan_film(source, model, cuts=[18]).wipes) == 1
    assert plan_film(source, model, cuts=[14, 18]).wipes == ()


def test_bridges_mix_whole_frames():
    """If this fails, frames are lost or doubled in a dissolve, or colors come from a mixture."""
    images = [np.full((1, 1, 3), index, np.float32) for index in range(12)]
    dissolves = [Dissolve(2, 3, (0.25, 0.75)), Dissolve(6, 8, (0.1, 0.5, 0.9))]
    found = [float(image[0, 0, 0]) for image in bridge(iter(images), dissolves)]
    expected = [0, 1, 1.75, 3.25, 4, 5, 5.4, 7, 8.6, 9, 10, 11]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(list(bridge(iter(images), []))) == 12


def test_keyframes_in_fades_are_lit():
    """If this fails, the colors of a keyframe in a fade are dimmed twice."""
    image = np.full((2, 2, 3), [40, 20, 10], np.uint8)
    keys = [Keyframe(3, image), Keyframe(9, image)]
    lit, same = lit_keyframes(keys, {3: Light(0.25, 0.0)})
    np.testing.assert_array_equal(lit.image[0, 0], [160, 80, 40])
    assert lit.frame == 3 and same is keys[1]


def test_a_fade_follows_a_keyframe_as_the_lit_picture_does(color, monkeypatch):
    """If this fails, the dim frames of a fade have the colors of a keyframe's shadows."""
    sources = []

    def sample(*args, keyframes, **given):
        sources.extend(keyframes.sources.values())
        return _grays(*args, **given)

    monkeypatch.setattr(job, "sample_latents", sample)
    grain = np.random.default_rng(0).normal(0.0, 0.1, (16, *STILL.shape))
    film = GAINS[:, None, None] * np.clip(STILL + grain, 0.0, 1.0)
    keyframe = Keyframe(15, np.zeros((*STILL.shape, 3), np.uint8))
    _, record = color("fade", film, short_side=54, keyframes=[keyframe])
    assert len(record["fades"]) == 1
    small = resize(STILL, *sources[0].shape[1:3])
    for frame in (4, 6, 8):  # 0.23, 0.18 and 0.09 without the fade's light
        assert np.abs(small.ravel()[sources[0][frame, ..., 1]] - small).mean() < 0.02
