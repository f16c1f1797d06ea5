"""Batches of several tasks, each from the data module it is trained with alone."""

from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch.utilities import CombinedLoader

from mobilevision.multitask.turns import Draw, draw_turns
from mobilevision.multitask.types import TASK_NAMES
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader

Turns = list[tuple[str, ...]]


class MultiTaskDataModule(ImageDataModule):
    """Two or three sets that each know one answer, at their own sizes and with their own augmentation.

    A training batch is a mapping from the tasks to their batches, with None for those whose turn it is not. A picture
    that stands in several sets is trained on with all of its labels.

    Args:
        classification: The data module of the classifier's set.
        detection: Of the detector's.
        segmentation: Of the segmenter's.
        draw: How their batches become steps: ``together``, ``round_robin``, ``size`` or ``weight``, see ``draw_turns``.
        weights: Share of each set in the steps, by task, where ``draw`` is ``weight``.
        seed: With the epoch it decides the order of the turns.

    Raises:
        ValueError: There are less than two sets, or ``draw`` and ``weights`` do not fit together.
    """

    def __init__(
        self,
        classification: ImageDataModule | None = None,
        detection: ImageDataModule | None = None,
        segmentation: ImageDataModule | None = None,
        *,
        draw: Draw = "size",
        weights: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        given = dict(zip(TASK_NAMES, (classification, detection, segmentation), strict=True))
        self.members: dict[str, ImageDataModule] = {
            str(task): module for task, module in given.items() if module is not None
        }
        if len(self.members) < 2:
            raise ValueError(
                f"two or three of {', '.join(TASK_NAMES)} must have data, got {', '.join(self.members) or 'none'}"
            )
        self.draw: Draw = draw
        self.weights = weights
        # Wrong weights are known before anything is read.
        draw_turns(dict.fromkeys(self.members, 1), draw, weights=weights)
        self._loaders: list[TurnLoader] = []
        self._turns_place: dict[str, int] | None = None

    def prepare_data(self) -> None:
        """Let every member fetch what it fetches."""
        for module in self.members.values():
            module.prepare_data()

    def setup(self, stage: str) -> None:
        """Let every member find its files."""
        for module in self.members.values():
            module.trainer = self.trainer
            module.setup(stage)

    def train_dataloader(self) -> CombinedLoader:
        """Give the steps of an epoch."""
        loaders = {task: module.train_dataloader() for task, module in self.members.items()}
        lengths = {task: len(loader) for task, loader in loaders.items()}

        def turns(epoch: int) -> Turns:
            return draw_turns(lengths, self.draw, weights=self.weights, seed=(self.seed, epoch))

        self._loaders = [TurnLoader(task, loader, turns) for task, loader in loaders.items()]
        if self._turns_place is not None:
            for loader in self._loaders:
                loader.load_state_dict(self._turns_place)
            self._turns_place = None
        return CombinedLoader({loader.task: loader for loader in self._loaders}, "min_size")

    def val_dataloader(self) -> CombinedLoader:
        """Give the validation sets one after the other, in the order of the members."""
        return CombinedLoader({task: module.val_dataloader() for task, module in self.members.items()}, "sequential")

    def test_dataloader(self) -> CombinedLoader:
        """Give the test sets one after the other."""
        return CombinedLoader({task: module.test_dataloader() for task, module in self.members.items()}, "sequential")

    def state_dict(self) -> dict[str, Any]:
        """Say where training stands in its epoch."""
        return self._loaders[0].state_dict() if self._loaders else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, if it is training that starts from the checkpoint."""
        if self.trainer is not None and self.trainer.training:
            self._turns_place = state_dict


class TurnLoader:
    """The batches of one set at its turns, and None at the others'.

    The set is gone through again and again, on from where the epoch before has stopped.

    Args:
        task: Whose set it is.
        loader: Gives its batches.
        turns: Gives the turns of an epoch, this task's among them, always as many of them.
    """

    def __init__(self, task: str, loader: ResumableLoader, turns: Callable[[int], Turns]) -> None:
        self.task = task
        self.loader = loader
        self.turns = turns
        self.epoch = 0
        self._length = len(turns(0))
        self._turns_per_epoch = sum(task in step for step in turns(0))
        self._steps_done = 0
        self._place: dict[str, int] | None = None

    @property
    def sampler(self) -> "TurnLoader":
        """What Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the turns of another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """Go through the steps of the epoch."""
        place, self._place = self._place, None
        start = place["steps_done"] if place and place["epoch"] == self.epoch else 0
        turns = self.turns(self.epoch)
        before = sum(self.task in step for step in turns[:start])
        batches = self._batches(self.epoch * self._turns_per_epoch + before)
        self._steps_done = start
        for step in turns[start:]:
            self._steps_done += 1
            yield next(batches) if self.task in step else None

    def state_dict(self) -> dict[str, int]:
        """Say where it stands: the epoch and the steps given out in it."""
        return {"epoch": self.epoch, "steps_done": self._steps_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from ``state``, if the epoch is still the one it was taken in."""
        self._place = state

    def _batches(self, number: int) -> Iterator[Any]:
        """Give the batches of all passes over the set, from one number on."""
        while True:
            epoch, done = divmod(number, len(self.loader))
            self.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            self.loader.load_state_dict({"epoch": epoch, "batches_done": done})
            for batch in self.loader:
                number += 1
                yield batch
