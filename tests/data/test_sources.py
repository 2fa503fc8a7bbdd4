"""Clips from video files and from a prepared TFDS."""

import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.data import sources
from palette_vc_jax.data.recent import RecentClips
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
                    "segmentations": io.BytesIO(b"no picture: never to be decoded"),
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


def test_a_prepared_davis_is_read_without_tensorflow(tmp_path, monkeypatch):
    """If this fails, the paper's data needs a library that the product does not install.

    Or clips are decoded whole for a few of their frames.
    """
    pytest.importorskip("tensorflow_datasets")
    subprocess.run([sys.executable, "-c", DAVIS, str(tmp_path)], check=True, capture_output=True)
    parse, decoded = sources.parse_image, []
    monkeypatch.setattr(
        sources, "parse_image", lambda file, name: decoded.append(name) or parse(file, name)
    )
    source = open_clips("tfds", tmp_path, "train+validation")
    assert len(source) == 4 and len({source.name(n) for n in range(4)}) == 4
    lengths = sorted(source.length(n) for n in range(4))
    assert lengths == [5, 5, 6, 7] and not decoded
    longest = max(range(4), key=source.length)
    np.testing.assert_allclose(_levels(source.read(longest, [6, 0, 3])), [122, 2, 62], atol=2)
    assert len(decoded) == 3 and "tensorflow" not in sys.modules
    copied = pickle.loads(pickle.dumps(source))  # as for a worker process
    np.testing.assert_array_equal(copied.read(longest, [2]), source.read(longest, [2]))


def test_threads_share_the_clips_that_were_read_last():
    """If this fails, a clip is read by each thread, or clips pile up in memory."""
    loaded = []

    def load(number):
        time.sleep(0.05)
        loaded.append(number)
        if number == 9:
            raise ValueError("damaged")
        return [bytes(40), bytes(10)]

    clips = RecentClips(load, 100)  # bytes: two clips
    threads = [threading.Thread(target=clips, args=(n % 2,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(loaded) == [0, 1] and len(clips(0)[0]) == 40
    clips(2)  # 1 is the oldest now
    clips(0)
    assert sorted(loaded) == [0, 1, 2]
    clips(1)
    assert loaded[-1] == 1
    for _ in range(2):  # an error is not kept
        with pytest.raises(ValueError, match="damaged"):
            clips(9)
    assert loaded[-2:] == [9, 9]


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    """If this fails, a temporal model is trained on shuffled time."""
    (tmp_path / "clip").mkdir()
    for number in range(1, 13):
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(
            tmp_path / "clip" / f"{number}.png"
        )
    source = open_clips("folders", tmp_path)
    assert _levels(source.read(0, range(12))) == [20 * n for n in range(1, 13)]


def test_pictures_are_read_as_sampling_reads_them(tmp_path):
    """If this fails, 16-bit scans train as white frames, or photographs lie on their side."""
    (tmp_path / "clip").mkdir()
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "clip" / "1.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned right
    picture = np.zeros((64, 32, 3), np.uint8)
    picture[:8] = 255
    Image.fromarray(picture).save(tmp_path / "clip" / "2.png", exif=exif)
    deep, turned = open_clips("folders", tmp_path).read(0, [0, 1])
    assert deep.dtype == np.uint8 and abs(deep.mean() - 127.5) < 0.6
    assert (
        turned.shape == (32, 64, 3) and (turned[:, -8:] == 255).all() and not turned[:, :-8].any()
    )


def test_hidden_files_are_no_clips_and_no_frames(tmp_path):
    """If this fails, what a Mac leaves beside footage stops the run or is trained on."""
    films.write_pictures(tmp_path / "a" / "clip", [np.zeros((16, 16, 3), np.uint8)] * 3)
    (tmp_path / "a" / "clip" / "._00001.jpg").write_bytes(b"Mac OS X")
    films.write_pictures(tmp_path / "a" / ".thumbnails", [np.zeros((16, 16, 3), np.uint8)])
    source = open_clips("folders", tmp_path / "a")
    assert len(source) == 1 and source.length(0) == 3 and len(source.read(0, range(3))) == 3
    for name in ("one.mp4", "._one.mp4", ".trash/two.mp4", "deep/one.mp4"):
        path = tmp_path / "b" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    source = open_clips("videos", tmp_path / "b")
    assert [source.name(clip) for clip in range(len(source))] == ["deep/one.mp4", "one.mp4"]


def test_a_turned_video_is_read_upright(tmp_path):
    """If this fails, films from telephones are trained on lying on their side."""
    lumas = [np.tile(np.linspace(20, 200, 48).astype(np.uint8), (32, 1))] * 3
    path = films.write_film(tmp_path / "a.mp4", lumas, codec="libx264", turn=90)
    frame = open_clips("videos", path.parent).read(0, [1])[0]
    assert frame.shape == (48, 32, 3) and np.ptp(frame[:, 16, 0].astype(int)) > 150
