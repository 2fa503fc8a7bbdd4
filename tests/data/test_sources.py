"""Clips from video files and from a prepared TFDS."""

import subprocess
import sys

import numpy as np
import pytest

from palette_vc_jax.data.sources import open_clips
from tests import films


@pytest.fixture
def videos(tmp_path):
    """Write a film of 50 frames whose luma tells the frame, with a keyframe each 12."""
    lumas = [np.full((32, 48), 30 + 4 * n, np.uint8) for n in range(50)]
    options = {"g": "12", "bf": "2", "qp": "0"}
    films.write_film(tmp_path / "a.mp4", lumas, codec="libx264", chroma=128, options=options)
    return tmp_path


def _levels(pictures):
    return [float(picture.mean()) for picture in pictures]


def test_any_frames_of_a_video_in_any_order(videos):
    """If this fails, a window's frames are those of another place in the film."""
    source = open_clips("videos", videos)
    assert len(source) == 1 and source.name(0) == "a.mp4" and source.length(0) == 50
    whole = _levels(source.read(0, range(50)))
    np.testing.assert_allclose(np.diff(whole), 4 * 255 / 219, atol=1.2)  # TV range is expanded
    for frames in ([0], [49], [13, 12, 11], [30, 5, 30], [24, 25]):
        np.testing.assert_allclose(_levels(source.read(0, frames)), [whole[n] for n in frames])


def test_a_video_that_ends_early_is_named(videos):
    """If this fails, training goes on with frames that are not there, or ends in a traceback."""
    films.write_film(
        videos / "b.mkv", [np.full((32, 48), n, np.uint8) for n in range(60)], codec="libx264"
    )
    path = videos / "b.mkv"
    whole = path.read_bytes()
    source = open_clips("videos", videos)
    assert source.length(1) == 60
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match="b.mkv"):
        source.read(1, [0, 59])


DAVIS = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

def encoded(array, kind):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return io.BytesIO(file.getvalue())

class Davis(tfds.core.GeneratorBasedBuilder):
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="full_resolution", version="2.1.0")]

    def _info(self):
        features = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict({
                "metadata": {"num_frames": np.int64, "video_name": features.Text()},
                "video": features.Sequence({
                    "frames": features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "segmentations": features.Image(shape=(None, None, 1)),
                }),
            }),
        )

    def _split_generators(self, manager):
        return {"train": self._clips(3), "validation": self._clips(1)}

    def _clips(self, count):
        for clip in range(count):
            frames = [
                {
                    "frames": encoded(np.full((32, 48, 3), 20 * n + clip, np.uint8), "JPEG"),
                    "segmentations": encoded(np.zeros((32, 48), np.uint8), "PNG"),
                }
                for n in range(5 + clip)
            ]
            name = {"num_frames": len(frames), "video_name": str(clip)}
            yield clip, {"metadata": name, "video": frames}

    def _generate_examples(self):
        raise NotImplementedError

Davis(data_dir=sys.argv[1], config="full_resolution").download_and_prepare(
    file_format="array_record"
)
"""


def test_a_prepared_davis_is_read_without_tensorflow(tmp_path):
    """If this fails, the paper's data needs a library that the product does not install."""
    pytest.importorskip("tensorflow_datasets")
    subprocess.run([sys.executable, "-c", DAVIS, str(tmp_path)], check=True, capture_output=True)
    source = open_clips("tfds", tmp_path, "train+validation")
    assert len(source) == 4 and len({source.name(n) for n in range(4)}) == 4
    lengths = sorted(source.length(n) for n in range(4))
    assert lengths == [5, 5, 6, 7]
    longest = max(range(4), key=source.length)
    np.testing.assert_allclose(_levels(source.read(longest, [6, 0, 3])), [122, 2, 62], atol=2)
    assert "tensorflow" not in sys.modules
