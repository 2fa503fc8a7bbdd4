"""Fades and dissolves through the command."""

import json

import av
import numpy as np
import pytest

from palette_vc_jax.commands import sample
from palette_vc_jax.sampling.bridging import bridge, lit_keyframes
from palette_vc_jax.sampling.keyframes import Keyframe
from palette_vc_jax.video.dissolves import Dissolve
from palette_vc_jax.video.fades import Light
from tests import films, tiny
from tests.commands import command
from tests.video.test_transitions import moving


def _codes(grays):
    return [np.rint(16 + 219 * gray).astype(np.uint8) for gray in grays]


def _chroma(path):
    with av.open(str(path)) as container:
        planes = np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
    return planes[:, 1:].astype(np.float32) - 128.0


@pytest.fixture(scope="module")
def color(tmp_path_factory):
    model = tiny.write_model(tmp_path_factory.mktemp("model"))

    def run(folder, grays, *flags):
        source = films.write_film(folder / "in.mkv", _codes(grays), chroma=128)
        given = ["--input", source, "--checkpoint", model, "--palette", "tomato,teal", *flags]
        assert command(sample.main, *given, "--output", folder / "out.mkv") == 0
        return _chroma(folder / "out.mkv"), json.loads((folder / "out.run.json").read_text())

    return run


def test_a_fade_has_the_colors_of_the_lit_shot(color, tmp_path):
    """If this fails, the colors of a fade are those of a dim picture, or are not dimmed."""
    still = [moving(1)[0] * 0.6 + 0.2] * 16
    gains = np.clip((np.arange(16) - 2) / 8, 0.0, 1.0)
    dim = [gain * gray for gain, gray in zip(gains, still, strict=True)]
    (tmp_path / "lit").mkdir()
    whole, _ = color(tmp_path / "lit", still)
    found, record = color(tmp_path, dim)
    ((first, last),) = record["fades"]
    assert first <= 3 and last >= 9 and record["shots"] == [[0, 16]]
    share = np.abs(found).mean((1, 2, 3)) / np.abs(whole).mean((1, 2, 3))
    np.testing.assert_allclose(share[4:], gains[4:], atol=0.1)


def test_a_dissolve_is_bridged_by_the_colors_of_both_shots(color, tmp_path):
    """If this fails, all colors swap in the middle of a dissolve."""
    weights = np.clip((np.arange(36) - 10) / 14, 0.0, 1.0)[:, None, None]
    film = (1.0 - weights) * np.stack(moving(36, 0, 0.1)) + weights * moving(36, 200, 0.1)
    chroma, record = color(tmp_path, film)
    ((first, stop),) = record["dissolves"]
    assert len(record["shots"]) == 2 and first < record["shots"][1][0] < stop
    means = chroma.mean((2, 3))
    share = weights[first:stop, 0]
    mixed = (1.0 - share) * means[first - 1] + share * means[stop]
    assert np.abs(means[stop] - means[first - 1]).max() > 4.0
    np.testing.assert_allclose(means[first:stop], mixed, atol=1.5)


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
