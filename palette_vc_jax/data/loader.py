"""Batches in a shuffled order, read ahead by threads or worker processes.

The order is a pure function of the seed and the step, the same for any number of processes,
workers and devices. How far is read ahead is bounded by batches and by bytes.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grain
from absl import flags

from palette_vc_jax.data.samples import Batch, JoinedReader, Reader, SampleConfig, read_sample

MIB = 2**20
THREADS = 8  # that read samples, at most
SHARED_MEMORY = Path("/dev/shm")  # where worker processes leave their batches


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are put together."""

    batch_size: int  # over all processes
    workers: int = 0  # processes that read ahead; 0 reads in threads
    ahead: int = 4  # batches read ahead, at most; two or more for each worker
    ahead_mib: int = 1024  # MiB that this process' share of them may take; one is read anyway
    rows: tuple[int, ...] | None = None  # of a batch, that this process reads; None: all of them


@dataclass(frozen=True)
class _Samples:
    """This process' samples from a step on, by number: a source for grain."""

    reader: Reader
    order: grain.MapDataset
    config: SampleConfig
    every: int
    batch_size: int
    rows: tuple[int, ...]  # of each batch
    first: int  # sample of the run that the iterator begins with

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> Batch:
        batch, row = divmod(int(index), len(self.rows))
        number = self.first + batch * self.batch_size + self.rows[row]
        return read_sample(self.reader, self.order[number], number, self.config, self.every)


def batches(
    reader: Reader, config: SampleConfig, every: int, loader: LoaderConfig, first: int = 0
) -> Iterator[Batch]:
    """Iterate over this process' share of batches, without end.

    When a batch is taken, `batches_ahead` more have been read or are being read.

    Args:
        reader: of crops.
        config: of windows; its seed orders the crops, each of which is seen once an epoch.
        every: frames between references.
        loader: of batches.
        first: sample of the run to begin with, counted over all processes: what was consumed.

    Raises ValueError if shared memory is too small for the worker processes, OSError if one of
    them is killed, and whatever reading a sample raises.
    """
    rows = tuple(range(loader.batch_size)) if loader.rows is None else loader.rows
    order = shuffled(reader, config.seed)
    samples = _Samples(reader, order, config, every, loader.batch_size, rows, first)
    dataset = grain.MapDataset.source(samples)
    batch_bytes = len(rows) * reader.sample_bytes(config.window)
    ahead = batches_ahead(loader, batch_bytes)
    if loader.workers:
        if not flags.FLAGS.is_parsed():  # grain hands absl's flags on to its workers
            flags.FLAGS.mark_as_parsed()
        check_shared_memory(loader.workers, (ahead + 2) * batch_bytes)  # two are in use
        # A worker holds what is in its buffer, and one batch more that waits to get there.
        workers = min(loader.workers, ahead // 2)
        options = grain.MultiprocessingOptions(workers, ahead // workers - 1)
        on_demand = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        dataset = dataset.batch(len(rows)).to_iter_dataset(on_demand).mp_prefetch(options)
    else:
        count = ahead * len(rows)
        threads = grain.ReadOptions(min(THREADS, count), prefetch_buffer_size=count)
        dataset = dataset.to_iter_dataset(threads).batch(len(rows))
    try:
        yield from dataset
    except ValueError as error:
        # Without grain's advice on tracebacks: this is a line for the user.
        raise ValueError(str(error).partition("\n---")[0]) from None
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        raise OSError(
            f"data.workers={loader.workers}: a worker process was killed; memory or "
            f"{SHARED_MEMORY} may be full: lower data.prefetch_mib, or give "
            "--config.data.workers=0."
        ) from None


def shuffled(reader: Reader, seed: int) -> grain.MapDataset:
    """Return the numbers of a reader's crops in a random order, without end.

    Each crop is seen once an epoch; of joined readers, in an epoch of its own reader.
    """
    if not isinstance(reader, JoinedReader):
        return grain.MapDataset.range(len(reader)).shuffle(seed=seed).repeat()
    orders, first = [], 0
    for part in reader.readers:
        numbers = grain.MapDataset.range(first, first + len(part))
        orders.append(numbers.shuffle(seed=seed).repeat())
        first += len(part)
    return grain.MapDataset.mix(orders, reader.shares)


def batches_ahead(loader: LoaderConfig, batch_bytes: int) -> int:
    """Return how many batches of `batch_bytes` are read ahead: one or more, by a worker two."""
    wanted = max(loader.ahead, 2 * loader.workers)
    return max(2 if loader.workers else 1, min(wanted, loader.ahead_mib * MIB // batch_bytes))


def check_shared_memory(workers: int, needed: int) -> None:
    """Raise ValueError if `needed` bytes of batches do not fit the free shared memory."""
    if not SHARED_MEMORY.is_dir():
        return  # not Linux
    facts = os.statvfs(SHARED_MEMORY)
    free = facts.f_bavail * facts.f_frsize
    if free < needed:
        raise ValueError(
            f"data.workers={workers}: the worker processes need {-(-needed // MIB)} MiB of shared "
            f"memory, and {SHARED_MEMORY} has {free // MIB} MiB free; make it larger (docker run "
            "--shm-size), or give --config.data.workers=0."
        )
