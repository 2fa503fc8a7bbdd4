"""How far data is read ahead, and what that takes of memory."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from palette_vc_jax.data import cache as caches
from palette_vc_jax.data import loader
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.samples import SampleConfig

MIB = 2**20
WINDOWS = SampleConfig(window=2)


class Counting:
    """A reader of crops that are all alike, each sample of one MiB, that counts what is read."""

    def __init__(self):
        self.count, self.lock = 0, threading.Lock()

    def __len__(self):
        return 10

    def name(self, crop):
        return str(crop)

    def length(self, crop):
        return 4

    def sample_bytes(self, window):
        return MIB

    def read(self, crop, window):
        with self.lock:
            self.count += 1
        return {"frames": np.zeros(MIB, np.uint8)}

    def settled(self):
        """Wait until nothing more is read, and return how much was."""
        before = -1
        while before != self.count:
            before = self.count
            time.sleep(0.3)
        return before


@pytest.mark.parametrize(
    ("given", "ahead"),
    [
        ({}, 4),
        ({"ahead": 2}, 2),
        ({"ahead_mib": 7}, 2),  # 3 MiB a batch
        ({"ahead_mib": 1}, 1),
        ({"rows": (1,), "ahead_mib": 3}, 3),  # of a batch this process reads one row
    ],
)
def test_batches_read_ahead_are_those_that_are_asked_for(given, ahead):
    """If this fails, reading ahead takes more memory than the config says, as 65 batches did."""
    reader = Counting()
    options = loader.LoaderConfig(3, **given)
    rows = len(options.rows or range(3))
    stream = loader.batches(reader, WINDOWS, 2, options)
    for taken in (1, 2):
        assert next(stream)["frames"].shape == (rows, MIB)
        assert reader.settled() == (taken + ahead) * rows


def test_workers_read_ahead_no_more_than_they_may():
    """If this fails, worker processes read ahead without a bound, or too many are started."""
    ahead = loader.batches_ahead
    assert ahead(loader.LoaderConfig(1, workers=3, ahead=4), MIB) == 6  # two each
    assert ahead(loader.LoaderConfig(1, workers=1, ahead=4), MIB) == 4
    assert ahead(loader.LoaderConfig(1, workers=3, ahead=4, ahead_mib=5), MIB) == 5
    assert ahead(loader.LoaderConfig(1, workers=3, ahead=4, ahead_mib=1), MIB) == 2


def test_small_shared_memory_is_named(monkeypatch):
    """If this fails, workers in a container die of SIGBUS, or wait forever, without an error."""
    facts = SimpleNamespace(f_bavail=64, f_frsize=MIB)  # what docker gives
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    options = loader.LoaderConfig(16, workers=2)  # 4 batches of 16 MiB ahead, two in use
    with pytest.raises(
        ValueError, match="need 96 MiB.*/dev/shm has 64 MiB free.*workers=0"
    ) as error:
        next(loader.batches(Counting(), WINDOWS, 2, options))
    assert "\n" not in str(error.value)


class Killed(Counting):
    """A reader whose process is killed, as by a full /dev/shm."""

    def read(self, crop, window):
        os.kill(os.getpid(), signal.SIGBUS)

    def __reduce__(self):
        return Killed, ()


def test_a_killed_worker_is_reported_in_one_line():
    """If this fails, a worker that ran out of memory ends the run in grain's traceback."""
    with pytest.raises(OSError, match="data.workers=1: a worker .* /dev/shm may be full") as error:
        next(loader.batches(Killed(), WINDOWS, 2, loader.LoaderConfig(1, workers=1)))
    assert "\n" not in str(error.value)


class Frames:
    """A clip of 4 frames that counts how many crops are read and not yet encoded."""

    def __init__(self):
        self.open, self.most, self.lock = 0, 0, threading.Lock()

    def __len__(self):
        return 12

    def name(self, clip):
        return str(clip)

    def fingerprint(self, clip):
        return str(clip)

    def length(self, clip):
        return 4

    def scan(self, clip, frames):
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        for frame in sorted(set(frames)):
            yield frame, np.zeros((256, 256, 3), np.uint8)


def test_the_cache_writer_reads_ahead_by_bytes(tmp_path, monkeypatch):
    """If this fails, writing a cache of full-size clips takes tens of gigabytes of memory."""
    source = Frames()
    config = CropConfig(4, (256, 256), (256, 256), crops=1, reference_every=4)  # 0.75 MiB a crop
    seen = []

    def encode(crop, config, encoder):
        time.sleep(0.05)
        with source.lock:
            source.open -= 1
        seen.append(crop["pixels"].shape)
        return {"color": np.full((4, 2, 2, 4), len(seen), np.float16)}

    monkeypatch.setattr(caches, "_encode", encode)
    key = {"clips": list(range(12)), "crops": 1, "shard": 8}
    caches.write_cache(tmp_path, key, source, config, None, ahead_mib=3)
    assert source.most <= 4 + 1 and len(seen) == 12
    colors = [np.load(tmp_path / f"shard-0000{n}" / "color.npy") for n in range(2)]
    np.testing.assert_array_equal(np.concatenate(colors)[:, 0, 0, 0, 0], range(1, 13))
