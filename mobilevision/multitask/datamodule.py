"""Batches of several tasks, each from the data module it is trained with alone."""

from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch.utilities import CombinedLoader, rank_zero_info

from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.datamodule import collate as collate_boxes
from mobilevision.multitask.pairing import PairedPictures, Places, Rest, collate_paired, pair_by_name
from mobilevision.multitask.turns import Draw, draw_turns
from mobilevision.multitask.types import BOTH, TASK_NAMES
from mobilevision.segmentation.datamodule import MaskDataModule
from mobilevision.segmentation.datamodule import collate_train as collate_masks
from mobilevision.training.datamodule import Collate, ImageDataModule
from mobilevision.training.loader import ResumableLoader

Turns = list[tuple[str, ...]]

DETECTION, SEGMENTATION = "detection", "segmentation"


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
            raise ValueError(
                f"pair_by_name needs a set with boxes and one with masks, got {', '.join(self.members)} as "
                f"{', '.join(type(module).__name__ for module in self.members.values())}"
            )
        self.pair_by_name = pair_by_name
        self._places: list[Places] = []
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
        """Let every member find its files, and pair those that are to be.

        Raises:
            ValueError: There are none to pair, or their names do not say which belong together; or as the members do.
        """
        for module in self.members.values():
            module.trainer = self.trainer
            module.setup(stage)
        if stage == "fit" and self.pair_by_name:
            boxed, masked = (self.members[task].train_set for task in (DETECTION, SEGMENTATION))
            self._places = pair_by_name(boxed, masked)
            only_boxes, only_masks = (len(each) - len(self._places) for each in (boxed, masked))
            rank_zero_info(
                f"{len(self._places)} pictures have boxes and a mask, {only_boxes} boxes only, {only_masks} a mask only"
            )

    def train_dataloader(self) -> CombinedLoader:
        """Give the steps of an epoch.

        Raises:
            ValueError: ``weights`` are of other sets than there are once pictures are paired.
        """
        loaders = self._paired_loaders() if self.pair_by_name else {}
        for task, module in self.members.items():
            if not self.pair_by_name or task not in (DETECTION, SEGMENTATION):
                loaders[task] = module.train_dataloader()
        lengths = {task: len(loader) for task, loader in loaders.items()}

        def turns(epoch: int) -> Turns:
            return draw_turns(lengths, self.draw, weights=self.weights, seed=(self.seed, epoch))

        self._loaders = [TurnLoader(task, loader, turns) for task, loader in loaders.items()]
        if self._turns_place is not None:
            for loader in self._loaders:
                loader.load_state_dict(self._turns_place)
            self._turns_place = None
        return CombinedLoader({loader.task: loader for loader in self._loaders}, "min_size")

    def _paired_loaders(self) -> dict[str, ResumableLoader]:
        """Make the loaders of the pictures in both sets, and of those that are in one, as far as there are any."""
        boxed, masked = self.members[DETECTION], self.members[SEGMENTATION]
        assert isinstance(boxed, CocoDataModule)
        assert isinstance(masked, MaskDataModule)
        self.batch_size, self.num_workers = boxed.batch_size, boxed.num_workers
        paired = PairedPictures(boxed.train_set, masked.train_set, self._places, boxed.train_transform)
        loaders = {BOTH: self.train_loader(paired, collate_paired)}
        collates: dict[str, Collate] = {DETECTION: collate_boxes, SEGMENTATION: collate_masks}
        for (task, collate), taken in zip(collates.items(), zip(*self._places, strict=True), strict=True):
            module = self.members[task]
            left = sorted(set(range(len(module.train_set))).difference(taken))
            if left:
                loaders[task] = module.train_loader(Rest(module.train_set, left), collate)
        return loaders

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
