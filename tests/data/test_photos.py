"""Photos among the training clips: one frame each, repeated in a window, drawn at a given rate."""

import numpy as np
import pytest

from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.loader import LoaderConfig, batches
from palette_vc_jax.data.samples import ClipReader, JoinedReader, SampleConfig
from palette_vc_jax.data.sources import open_clips
from tests import films

CROPS = CropConfig(frames=4, size=(16, 24), short_sides=(16, 16), crops=2, reference_every=4)
WINDOWS = SampleConfig(window=3, seed=5)


@pytest.fixture
def joined(tmp_path):
    """Return a reader of two dark clips and three bright photos, a quarter of the samples."""
    dark = [np.full((16, 24, 3), 10 + n, np.uint8) for n in range(4)]
    for clip in "ab":
        films.write_pictures(tmp_path / "clips" / clip, dark)
    bright = [np.full((16, 24, 3), 200 + 10 * n, np.uint8) for n in range(3)]
    films.write_pictures(tmp_path / "photos", bright)
    readers = (
        ClipReader(open_clips("folders", tmp_path / "clips"), CROPS),
        ClipReader(open_clips("photos", tmp_path / "photos"), CROPS),
    )
    return JoinedReader(readers, (0.75, 0.25))


def _take(reader, count, first=0):
    stream = batches(reader, WINDOWS, 4, LoaderConfig(4), first)
    return np.concatenate([next(stream)["frames"] for _ in range(count)])


def test_a_window_of_a_photo_repeats_it(joined):
    """If this fails, photos are refused as short clips, or a window mixes two of them."""
    frames = _take(joined, 20)
    stills = frames[frames[:, 0, 0, 0, 0] > 100]
    assert len(stills) and (stills == stills[:, :1]).all()
    assert {int(value) for value in np.unique(stills)} <= {*range(195, 225)}


def test_photos_are_drawn_at_their_rate_and_all_of_them(joined):
    """If this fails, photos crowd out the clips, or some photos are never seen."""
    frames = _take(joined, 48)
    bright = frames[:, 0, 0, 0, 0] > 100
    assert bright.mean() == pytest.approx(0.25, abs=0.02)
    assert len(np.unique(frames[bright][:, 0, 0, 0, 0])) == 3
    assert len(np.unique(frames[~bright][:, 0, 0, 0, 0])) == 2  # where windows of 3 of 4 begin


def test_a_resumed_run_sees_the_same_samples(joined):
    """If this fails, a run that was interrupted trains on other samples than one that was not."""
    np.testing.assert_array_equal(_take(joined, 6)[8:], _take(joined, 4, first=8))


def test_a_folder_without_photos_is_refused(tmp_path):
    """If this fails, a wrong folder of photos is a traceback."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="no photos found; give a folder"):
            open_clips("photos", folder)
