"""Loaders that are reproducible and can be resumed: the base of the data modules of all tasks."""

from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, cast

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from mobilevision.head import Head, Preprocess
from mobilevision.images import find_broken
from mobilevision.training.loader import EpochSampler, ResumableLoader

Collate = Callable[[list[Any]], Any]

Split = Literal["train", "val", "test"]

STAGE_SPLITS: Mapping[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The splits that each of Lightning's stages needs."""


class ImageDataset(Protocol):
    """Images with their labels."""

    def __len__(self) -> int: ...

    def path(self, position: int) -> Path:
        """Return the file of one image."""


class ImageDataModule(L.LightningDataModule):
    """Batches of images with their labels.

    Args:
        input_size: Side of the network's images, in pixels; that of the network where None.
        batch_size: Images in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every image.
        skip_broken: Leave out images that do not decode, with a count, instead of stopping at them. Every image is
            read once before the run for this.

    Raises:
        ValueError: ``input_size`` is below 1.
    """

    preprocess: Any
    """The evaluation transform of the datasets."""
    augment: Any
    """The transform of the training set."""
    default_size: ClassVar[int] = 0
    """Side of the images where neither the data nor a network states one, in pixels."""
    class_names: tuple[str, ...] = ()
    """The names of the classes, known after :meth:`setup`."""
    recognized: str = ""
    """The layout that :meth:`setup` has recognized where the user does not state it, on one line."""
    by_head: Mapping[str, "ImageDataModule"] = MappingProxyType({})
    """The data modules of several heads, by head; none where there is one dataset."""

    def __init__(
        self,
        *,
        input_size: int | None = None,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__()
        if input_size is not None and input_size < 1:
            raise ValueError(f"input_size must be at least 1, got {input_size}")
        self.input_size = input_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.skip_broken = skip_broken
        self.datasets: dict[Split, Any] = {}
        """The splits that :meth:`setup` has read."""
        self._train_loader: ResumableLoader | None = None
        self._place: dict[str, int] | None = None

    def for_head(self, name: str) -> "ImageDataModule":
        """Return the data module of the head called ``name``: this one, unless it has several datasets."""
        return self

    @property
    def train_set(self) -> Any:
        """The training split."""
        return self.datasets["train"]

    def attach(self, head: Head) -> None:
        """Use the evaluation transform and the input size of a head; called after :meth:`setup`.

        Raises:
            ValueError: ``input_size`` is given and not that of the head.
        """
        if self.input_size not in (None, head.input_size):
            raise ValueError(
                f"data.input_size must be that of the network, {head.input_size}, got {self.input_size}: set one of "
                "data.input_size and model.input_size"
            )
        self.set_transforms(head.preprocess, head.input_size)
        for split, dataset in self.datasets.items():
            dataset.preprocess = self.preprocess
            dataset.augment = self.augment if split == "train" else None

    def set_transforms(self, preprocess: Preprocess, input_size: int) -> None:
        """Set :attr:`preprocess` and :attr:`augment`.

        Args:
            preprocess: Of an image.
            input_size: Side of the network's images, in pixels.
        """

    def collate(self, split: Split) -> Collate:
        """Return the function that puts samples of a split into a batch."""
        raise NotImplementedError

    def train_dataloader(self) -> Any:
        """Return the shuffled, augmented training batches."""
        return self.train_loader(self.train_set, self.collate("train"))

    def val_dataloader(self) -> Any:
        """Return the validation batches."""
        return self.eval_loader(self.datasets["val"], self.collate("val"))

    def test_dataloader(self) -> Any:
        """Return the batches of the test split."""
        return self.eval_loader(self.datasets["test"], self.collate("test"))

    def train_loader(self, dataset: Sized, collate: Collate) -> ResumableLoader:
        """Build the loader of a training set: shuffled, without the last incomplete batch unless it is the only one."""
        self._train_loader = self._loader(dataset, collate, train=True)
        if self._place is not None:
            self._train_loader.load_state_dict(self._place)
            self._place = None
        return self._train_loader

    def eval_loader(self, dataset: Sized, collate: Collate) -> ResumableLoader:
        """Build the loader of a validation or test set: in order and complete."""
        return self._loader(dataset, collate, train=False)

    def drop_broken(self, paths: list[Path]) -> list[Path]:
        """Return the paths that decode, if ``skip_broken`` asks for it, and warn about the others.

        Raises:
            ValueError: None of them decodes.
        """
        if not self.skip_broken:
            return paths
        broken = find_broken(paths)
        if len(broken) == len(paths) > 0:
            raise ValueError(f"none of {len(paths)} images can be read: {next(iter(broken.values()))}")
        if broken:
            rank_zero_warn(f"skipped {len(broken)} of {len(paths)} images: {'; '.join(sorted(broken.values()))}")
        return [path for path in paths if str(path) not in broken]

    def name_images(self, positions: Sequence[int]) -> list[str]:
        """Return the files of images of the training set."""
        return [str(self.train_set.path(position)) for position in positions]

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands in its epoch."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume training at the place that a checkpoint was saved at."""
        # Lightning restores loaders only if they are made after its loops: too late for a schedule that asks their
        # length. Data modules come earlier.
        if self.trainer is not None and self.trainer.training:
            self._place = state_dict

    def _loader(self, dataset: Sized, collate: Collate, *, train: bool) -> ResumableLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(len(dataset), shuffle=train, seed=self.seed, rank=rank, world_size=world_size)
        return ResumableLoader(
            cast(Any, dataset),
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            drop_last=train and len(sampler) >= self.batch_size,
        )


def no_test_split(place: str) -> FileNotFoundError:
    """Return the error of a dataset without a test split.

    Args:
        place: Where it was looked for.
    """
    return FileNotFoundError(
        f"the dataset has no test split: expected {place}; mobilevision validate measures the validation split"
    )
