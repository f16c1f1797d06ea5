"""Which sample comes when, and with which randomness."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import DistributedSampler


class SampleKey(NamedTuple):
    """What a dataset is asked for: a sample, and the epoch it is asked in."""

    epoch: int
    sample: int


def sample_seed(seed: int, key: SampleKey) -> int:
    """Make the seed of one sample's augmentation: a function of the run's seed, the epoch and the index only.

    >>> sample_seed(0, SampleKey(1, 2)) == sample_seed(0, SampleKey(epoch=1, sample=2))
    True
    """
    return int(np.random.SeedSequence((seed, key.epoch, key.sample)).generate_state(1)[0])


class EpochSampler(DistributedSampler[SampleKey]):
    """Yield this process's share of the samples as keys, shuffled by (seed, epoch), from any position on.

    Shares are even: a set that does not divide is filled up with repeats, which the metrics drop by their index.
    Lightning sets the epoch and leaves samplers of this base class alone.

    Args:
        num_samples: Size of the whole set.
        shuffle: Whether the order changes with the epoch.
        seed: The run's seed.
        rank: This process.
        world_size: The number of processes.
    """

    def __init__(self, num_samples: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        # DistributedSampler asks its dataset for nothing but the length.
        super().__init__(range(num_samples), world_size, rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.skip = 0

    def __iter__(self) -> Iterator[SampleKey]:
        """Go through this epoch's keys, but for the first ``skip``, which are left out once."""
        skip, self.skip = self.skip, 0
        for index in list(super().__iter__())[skip:]:
            yield SampleKey(self.epoch, int(index))  # type: ignore[call-overload]
