"""A data loader that goes on in the middle of an epoch."""

from collections.abc import Iterator
from typing import Any, cast

import cv2
from torch.utils.data import DataLoader

from mobilevision.training.sampling import EpochSampler


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
        """Go through the batches of the epoch, counting them."""
        # A generator starts at its first batch, when Lightning has told the sampler the epoch.
        sampler = cast(EpochSampler, self.sampler)
        resume, self._resume = self._resume, None
        self._batches_done = resume["batches_done"] if resume and resume["epoch"] == sampler.epoch else 0
        sampler.skip = self._batches_done * cast(int, self.batch_size)
        for batch in super().__iter__():
            self._batches_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Say where the loader stands: the epoch and the batches given out in it."""
        return {"epoch": cast(EpochSampler, self.sampler).epoch, "batches_done": self._batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from ``state``, if the epoch is still the one it was taken in."""
        self._resume = state


def _use_one_thread(worker: int) -> None:
    # There is a worker for every core already, and OpenCV's pool of threads does not survive a fork.
    cv2.setNumThreads(0)
