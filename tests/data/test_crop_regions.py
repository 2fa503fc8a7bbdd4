"""Regions of training crops, and the palettes of their pixels."""

import numpy as np
import pytest

from palette_vc_jax.data import loader
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.regions import REGIONS, palettes, split
from palette_vc_jax.data.samples import ClipReader, SampleConfig
from palette_vc_jax.data.sources import open_clips
from palette_vc_jax.palette.image import from_image
from tests import films

CELL = 4
CROPS = CropConfig(
    frames=4, size=(16, 24), short_sides=(16, 16), crops=8, reference_every=2, region_cell=CELL
)


def _frames(seed=0, count=3):
    """Return frames with a bright square that moves to the right, one cell a frame."""
    frames = np.full((count, 32, 48, 3), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 4 + CELL * number : 16 + CELL * number] = 220
    return frames


@pytest.mark.parametrize("seed", range(40))
def test_a_frame_is_split_alike_whichever_frames_are_read(seed):
    """If this fails, the regions of a window depend on the window, or of a cache on the crop."""
    frames = _frames()
    whole = split(frames, frames[0], CELL, np.random.default_rng(seed))
    assert whole.shape == (3, 8, 12) and whole.dtype == np.uint8 and whole.max() < REGIONS
    one = split(frames[2:], frames[0], CELL, np.random.default_rng(seed))
    np.testing.assert_array_equal(one[0], whole[2])


def test_all_kinds_of_regions_are_drawn():
    """If this fails, training lacks still regions, or those that follow the picture."""
    frames = _frames(count=2)
    still, follows, counts = 0, 0, set()
    for seed in range(200):
        regions = split(frames, frames[0], CELL, np.random.default_rng(seed))
        still += np.array_equal(regions[0], regions[1])
        follows += np.array_equal(regions[0, :, :-1], regions[1, :, 1:])
        counts.add(len(np.unique(regions)))
    assert still > 20 and follows > 5 and counts >= {2, 3}


def test_a_region_has_the_palette_of_its_pixels():
    """If this fails, a region is trained to have the colors of another."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, :24], frame[:, 24:] = (200, 30, 40), (20, 60, 210)
    regions = np.zeros((8, 12), np.uint8)
    regions[:, 6:] = 1
    whole = from_image(frame, "training").vector()
    found = palettes(frame, whole, regions, CELL).reshape(REGIONS, 5, 3)
    np.testing.assert_allclose((found[0] + 1) * 127.5, np.tile([200, 30, 40], (5, 1)), atol=1)
    np.testing.assert_allclose((found[1] + 1) * 127.5, np.tile([20, 60, 210], (5, 1)), atol=1)
    assert len(np.unique(found[2].round(3), axis=0)) == 2  # it is empty: the whole frame's


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_share_of_windows_with_regions(tmp_path, rate):
    """If this fails, a run trains on more or fewer regions than its config says."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (16, 24, 3)).astype(np.uint8) for _ in range(4)]
    films.write_pictures(tmp_path / "clip", pictures)
    reader = ClipReader(open_clips("folders", tmp_path), CROPS)
    stream = loader.batches(reader, SampleConfig(2, region_rate=rate), 2, loader.LoaderConfig(32))
    batch = next(stream)
    assert batch["regions"].shape == (32, 2, 4, 6) and batch["palette"].shape == (32, REGIONS, 15)
    own = batch["palette"]
    same = (own == own[:, :1]).all((1, 2))
    assert (~same).mean() == rate if rate in (0.0, 1.0) else 0.25 < (~same).mean() < 0.75
    assert (batch["regions"][same] == 0).all()
