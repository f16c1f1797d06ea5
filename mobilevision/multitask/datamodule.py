"""Batches of several tasks, each from the data module it is trained with alone."""

from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch.utilities import CombinedLoader

from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.multitask.pairing import PairedPictures, Rest, collate_paired, pair_by_name
from mobilevision.multitask.turns import Draw, draw_turns
from mobilevision.multitask.types import BOTH, TASK_NAMES
from mobilevision.segmentation.datamodule import MaskDataModule
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader

Turns = list[tuple[str, ...]]


class MultiTaskDataModule(ImageDataModule):
    """Two or three sets that each know one answer, at their own sizes and with their own augmentation.

    A training batch is a mapping from the tasks to their batches, with None for those whose turn it is not. A picture
    that stands in several sets is trained on with all of its labels: once for each, or with ``pair_by_name`` at once.

    Args:
        classification: The data module of the classifier's set.
        detection: Of the detector's.
        segmentation: Of the segmenter's.
        draw: How their batches become steps: ``together``, ``round_robin``, ``size`` or ``weight``, see ``draw_turns``.
        weights: Share of each set in the steps, by task, where ``draw`` is ``weight``; that of the paired pictures is
            called ``both``.
        pair_by_name: Train on pictures that are in both the detector's and the segmenter's set, by the names of their
            files without folder and ending, with boxes and mask in one pass, at the detector's size and with its
            augmentation. What is in one set only is trained on as ever.
        seed: With the epoch it decides the order of the turns.

    Raises:
        ValueError: There are less than two sets, or ``draw`` and ``weights`` do not fit together, or there are no sets
            to pair.
    """

    def __init__(
        self,
        classification: ImageDataModule | None = None,
        detection: ImageDataModule | None = None,
        segmentation: ImageDataModule | None = None,
        *,
        draw: Draw = "size",
        weights: dict[str, float] | None = None,
        pair_by_name: bool = False,
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
        if pair_by_name and not (isinstance(detection, CocoDataModule) and isinstance(segmentation, MaskDataModule)):
            raise ValueError("pair_by_name needs a set with boxes and one with masks")
        self.pair_by_name = pair_by_name
        self._paired: PairedPictures | None = None
        # Wrong weights are known before anything is read; what there is of paired sets is only seen then.
        known = (weights or (BOTH,)) if pair_by_name else self.members
        draw_turns(dict.fromkeys(known, 1), draw, weights=weights)
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
        if stage == "fit" and self.pair_by_name:
            self._pair()

    def _pair(self) -> None:
        """Take the pictures that are in both sets out of each."""
        boxed, masked = self.members["detection"], self.members["segmentation"]
        assert isinstance(boxed, CocoDataModule)
        assert isinstance(masked, MaskDataModule)
        places = pair_by_name(boxed.train_set, masked.train_set)
        self._paired = PairedPictures(boxed.train_set, masked.train_set, places, boxed.train_transform)
        self.batch_size, self.num_workers = boxed.batch_size, boxed.num_workers
        for module, taken in zip((boxed, masked), zip(*places, strict=True), strict=True):
            left = sorted(set(range(len(module.train_set))).difference(taken))
            module.train_set = Rest(module.train_set, left)

    def train_dataloader(self) -> CombinedLoader:
        """Give the steps of an epoch.

        Raises:
            ValueError: ``weights`` are of other sets than there are once pictures are paired.
        """
        loaders = {task: module.train_dataloader() for task, module in self.members.items() if len(module.train_set)}
        if self._paired is not None:
            loaders[BOTH] = self.train_loader(self._paired, collate_paired)
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
