"""A data loader that is reproducible and resumes in the middle of an epoch."""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler


class SampleKey(NamedTuple):
    """The index of a dataset for training: a sample, and the epoch it is asked in."""

    epoch: int
    sample: int


def sample_seed(seed: int, key: SampleKey) -> int:
    """Return the seed of one sample's augmentation: a function of the run's seed, the epoch and the index only.

    >>> sample_seed(0, SampleKey(1, 2)) == sample_seed(0, SampleKey(epoch=1, sample=2))
    True
    """
    return int(np.random.SeedSequence((seed, key.epoch, key.sample)).generate_state(1)[0])


class EpochSampler(DistributedSampler[SampleKey]):
    """This process's share of the samples as keys, shuffled by (seed, epoch), from any position on.

    Shares are even: a dataset that does not divide is filled up with repeats, which the evaluators drop by their index.
    Lightning sets the epoch and leaves samplers of this base class alone.

    Args:
        num_samples: Size of the whole dataset.
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
        """Iterate over this epoch's keys, without the first ``skip``, which are left out once."""
        skip, self.skip = self.skip, 0
        for index in list(super().__iter__())[skip:]:
            yield SampleKey(self.epoch, int(index))  # type: ignore[call-overload]


class ResumableLoader(DataLoader[Any]):
    """A data loader over an :class:`EpochSampler` that a checkpoint can bring back to its place.

    The samples before the place are skipped in the sampler, without being read.

    Raises:
        ValueError: The sampler is another one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"worker_init_fn": _use_one_thread} | kwargs)
        if not isinstance(self.sampler, EpochSampler):
            # Lightning does so for overfit_batches.
            raise ValueError(
                f"the sampler must stay an EpochSampler, got {type(self.sampler).__name__}: in place of "
                "trainer.overfit_batches set trainer.limit_train_batches and trainer.limit_val_batches"
            )
        self._batches_done = 0
        self._resume: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Iterate over the batches of the epoch, counting them."""
        # A generator starts at its first batch, when Lightning has told the sampler the epoch.
        sampler = cast(EpochSampler, self.sampler)
        resume, self._resume = self._resume, None
        self._batches_done = resume["batches_done"] if resume and resume["epoch"] == sampler.epoch else 0
        sampler.skip = self._batches_done * cast(int, self.batch_size)
        for batch in super().__iter__():
            self._batches_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches given out in it."""
        return {"epoch": cast(EpochSampler, self.sampler).epoch, "batches_done": self._batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at ``state``, if the epoch is still the one it was saved in."""
        self._resume = state


def stack_images(images: list[UInt8[Tensor, "3 H W"]]) -> UInt8[Tensor, "B 3 H W"]:
    """Stack images whose pixels are in memory as they were decoded, channels last, without moving a byte twice."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def _use_one_thread(worker: int) -> None:
    # There is a worker for every core already, and OpenCV's pool of threads does not survive a fork.
    cv2.setNumThreads(0)
