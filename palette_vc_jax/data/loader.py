"""Batches in a shuffled order, read ahead by threads or worker processes.

The order is a pure function of the seed and the step, the same for any number of processes,
workers and devices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import grain
from absl import flags

from palette_vc_jax.data.samples import Batch, Reader, SampleConfig, read_sample


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are put together."""

    batch_size: int  # over all processes
    workers: int = 0  # processes that read ahead; 0 reads in threads
    ahead: int = 4  # batches read ahead
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

    Args:
        reader: of crops.
        config: of windows; its seed orders the crops, each of which is seen once an epoch.
        every: frames between references.
        loader: of batches.
        first: sample of the run to begin with, counted over all processes: what was consumed.
    """
    rows = tuple(range(loader.batch_size)) if loader.rows is None else loader.rows
    order = grain.MapDataset.range(len(reader)).shuffle(seed=config.seed).repeat()
    samples = _Samples(reader, order, config, every, loader.batch_size, rows, first)
    dataset = grain.MapDataset.source(samples).batch(len(rows))
    ahead = loader.ahead * len(rows)
    threads = grain.ReadOptions(num_threads=min(8, ahead), prefetch_buffer_size=ahead)
    dataset = dataset.to_iter_dataset(threads)
    if loader.workers:
        if not flags.FLAGS.is_parsed():  # grain hands absl's flags on to its workers
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(loader.workers, per_worker_buffer_size=loader.ahead)
        dataset = dataset.mp_prefetch(options)
    try:
        yield from dataset
    except ValueError as error:
        # Without grain's advice on tracebacks: this is a line for the user.
        raise ValueError(str(error).partition("\n---")[0]) from None
