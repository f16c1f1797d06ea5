"""Batches for several heads, each from the data module that it is trained with alone."""

from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch.utilities import CombinedLoader, rank_zero_info

from mobilevision.multitask.pairing import BOTH, Pairing
from mobilevision.multitask.schedule import Draw, draw_schedule
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import ResumableLoader

Schedule = list[tuple[str, ...]]


class MultiTaskDataModule(ImageDataModule):
    """Several datasets with labels for one head each, at their own sizes and with their own augmentation.

    A training batch is a mapping from the heads to their batches, with None for those whose turn it is not. An image
    that stands in several datasets is trained on with all of its labels: once for each, or with ``pair_by_name`` at
    once.

    Args:
        classification: The data module of the head called ``classification``.
        detection: The data module of the head called ``detection``.
        segmentation: The data module of the head called ``segmentation``.
        datasets: The data modules of heads of other names, by name.
        draw: How their batches become steps: ``together``, ``round_robin``, ``size`` or ``weight``, see
            ``draw_schedule``.
        weights: Share of each dataset in the steps, by head, where ``draw`` is ``weight``; that of the paired images is
            called ``both``.
        pair_by_name: Whether to train on images that are in both a dataset with boxes and one with masks, by the names
            of their files without folder and suffix, with boxes and mask in one pass, at the detector's size and with
            its augmentation. Images that are in one dataset only are trained on as ever.
        seed: With the epoch it decides the order of the steps.

    Raises:
        ValueError: There are less than two datasets, or ``draw`` and ``weights`` do not fit together, or there are not
            one dataset with boxes and one with masks to pair.
    """

    def __init__(
        self,
        classification: ImageDataModule | None = None,
        detection: ImageDataModule | None = None,
        segmentation: ImageDataModule | None = None,
        *,
        datasets: dict[str, ImageDataModule] | None = None,
        draw: Draw = "size",
        weights: dict[str, float] | None = None,
        pair_by_name: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        given = {"classification": classification, "detection": detection, "segmentation": segmentation}
        named = {name: module for name, module in given.items() if module is not None}
        self.by_head: dict[str, ImageDataModule] = named | (datasets or {})
        if len(self.by_head) < 2:
            raise ValueError(f"two or more heads must have data, got {', '.join(self.by_head) or 'none'}")
        self.draw: Draw = draw
        self.weights = weights
        self.pairing = Pairing(self.by_head) if pair_by_name else None
        # Wrong weights are known before anything is read; which datasets pairing leaves is only known then.
        known = (weights or (BOTH,)) if pair_by_name else self.by_head
        draw_schedule(dict.fromkeys(known, 1), draw, weights=weights)
        self._loaders: list[ScheduledLoader] = []
        self._resumed: dict[str, int] | None = None

    def for_head(self, name: str) -> ImageDataModule:
        """Return the data module of the head called ``name``.

        Raises:
            ValueError: There is none.
        """
        if name not in self.by_head:
            raise ValueError(
                f"every head needs a dataset and every dataset a head, got datasets for {', '.join(self.by_head)} and "
                f"a head {name}"
            )
        return self.by_head[name]

    def prepare_data(self) -> None:
        """Prepare every dataset."""
        for module in self.by_head.values():
            module.prepare_data()

    def setup(self, stage: str) -> None:
        """Find the files of every dataset, and pair those that are to be paired.

        Raises:
            ValueError: There are none to pair, or their names are ambiguous; or as the data modules raise.
        """
        for module in self.by_head.values():
            module.trainer = self.trainer
            module.setup(stage)
        if stage == "fit" and self.pairing is not None:
            rank_zero_info(self.pairing.find_pairs())

    def train_dataloader(self) -> CombinedLoader:
        """Build the loader of an epoch's steps.

        Raises:
            ValueError: ``weights`` are of other datasets than there are once images are paired.
        """
        loaders: dict[str, ResumableLoader] = {}
        if self.pairing is not None:
            self.batch_size, self.num_workers = self.pairing.boxed.batch_size, self.pairing.boxed.num_workers
            loaders[BOTH] = self.train_loader(*self.pairing.paired_dataset())
        for name, module in self.by_head.items():
            rest = None if self.pairing is None else self.pairing.rest_of(name)
            if rest is None:
                loaders[name] = module.train_dataloader()
            elif len(rest[0]):
                loaders[name] = module.train_loader(*rest)
        lengths = {name: len(loader) for name, loader in loaders.items()}

        def schedule(epoch: int) -> Schedule:
            return draw_schedule(lengths, self.draw, weights=self.weights, seed=(self.seed, epoch))

        self._loaders = [ScheduledLoader(name, loader, schedule) for name, loader in loaders.items()]
        if self._resumed is not None:
            for loader in self._loaders:
                loader.load_state_dict(self._resumed)
            self._resumed = None
        return CombinedLoader({loader.name: loader for loader in self._loaders}, "min_size")

    def val_dataloader(self) -> CombinedLoader:
        """Build the loader of the validation splits, one after the other."""
        loaders = {name: module.val_dataloader() for name, module in self.by_head.items()}
        return CombinedLoader(loaders, "sequential")

    def test_dataloader(self) -> CombinedLoader:
        """Build the loader of the test splits, one after the other."""
        loaders = {name: module.test_dataloader() for name, module in self.by_head.items()}
        return CombinedLoader(loaders, "sequential")

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands in its epoch."""
        return self._loaders[0].state_dict() if self._loaders else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume training at the place that a checkpoint was saved at."""
        if self.trainer is not None and self.trainer.training:
            self._resumed = state_dict


class ScheduledLoader:
    """The batches of one dataset in the steps that take one, and None in the others.

    The dataset is gone through again and again, from where the epoch before has stopped.

    Args:
        name: Of the dataset.
        loader: Of its batches.
        schedule: From an epoch to its steps, always as many of them with this dataset.
    """

    def __init__(self, name: str, loader: ResumableLoader, schedule: Callable[[int], Schedule]) -> None:
        self.name = name
        self.loader = loader
        self.schedule = schedule
        self.epoch = 0
        self._length = len(schedule(0))
        self._batches_per_epoch = sum(name in step for step in schedule(0))
        self._steps_done = 0
        self._resumed: dict[str, int] | None = None

    @property
    def sampler(self) -> "ScheduledLoader":
        """The object that Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Use the schedule of another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the steps of the epoch."""
        resumed, self._resumed = self._resumed, None
        start = resumed["steps_done"] if resumed and resumed["epoch"] == self.epoch else 0
        schedule = self.schedule(self.epoch)
        before = sum(self.name in step for step in schedule[:start])
        batches = self._batches(self.epoch * self._batches_per_epoch + before)
        self._steps_done = start
        for step in schedule[start:]:
            self._steps_done += 1
            yield next(batches) if self.name in step else None

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of steps done in it."""
        return {"epoch": self.epoch, "steps_done": self._steps_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at ``state``, if the epoch is still the one it was saved in."""
        self._resumed = state

    def _batches(self, number: int) -> Iterator[Any]:
        """Yield the batches of all passes over the dataset, from one number on."""
        while True:
            epoch, done = divmod(number, len(self.loader))
            self.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            self.loader.load_state_dict({"epoch": epoch, "batches_done": done})
            for batch in self.loader:
                number += 1
                yield batch
