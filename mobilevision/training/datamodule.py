"""What the data modules of all tasks share: loaders that are reproducible and can be resumed."""

from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from mobilevision.images import find_broken
from mobilevision.training.loader import ResumableLoader
from mobilevision.training.sampling import EpochSampler

Collate = Callable[[list[Any]], Any]


class PictureSet(Protocol):
    """What is trained on."""

    def __len__(self) -> int: ...

    def path(self, position: int) -> Path:
        """Give the file of one picture."""


class ImageDataModule(L.LightningDataModule):
    """Batches of pictures with their labels.

    Args:
        batch_size: Pictures in a batch of one process.
        num_workers: Processes that read and augment; 0 reads in the training process.
        seed: With epoch and index it decides order and augmentation of every picture.
        skip_broken: Leave pictures that do not decode out, with a count, instead of stopping at them. Every picture is
            read once before the run for this.
    """

    class_names: tuple[str, ...] = ()
    members: Mapping[str, "ImageDataModule"] = MappingProxyType({})
    """Those that it is put together from, by task; a single one has none."""
    train_set: PictureSet
    input_size: int | None = None
    """The side of the pictures in pixels, where all have the same."""

    def __init__(self, *, batch_size: int = 32, num_workers: int = 2, seed: int = 0, skip_broken: bool = False) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.skip_broken = skip_broken
        self._train_loader: ResumableLoader | None = None
        self._place: dict[str, int] | None = None

    def train_loader(self, dataset: Sized, collate: Collate) -> ResumableLoader:
        """Make the loader of a training set: shuffled, the last incomplete batch left out unless it is the only one."""
        self._train_loader = self._loader(dataset, collate, train=True)
        if self._place is not None:
            self._train_loader.load_state_dict(self._place)
            self._place = None
        return self._train_loader

    def eval_loader(self, dataset: Sized, collate: Collate) -> ResumableLoader:
        """Make the loader of a validation set: in order and complete."""
        return self._loader(dataset, collate, train=False)

    def drop_broken(self, paths: list[Path]) -> list[Path]:
        """Leave out the paths that do not decode, if ``skip_broken`` asks for it, and warn which."""
        if not self.skip_broken:
            return paths
        broken = find_broken(paths)
        if broken:
            rank_zero_warn(f"skipped {len(broken)} of {len(paths)} pictures: {'; '.join(sorted(broken.values()))}")
        return [path for path in paths if str(path) not in broken]

    def name_pictures(self, positions: Sequence[int]) -> list[str]:
        """Name pictures of the training set by their places in it."""
        return [str(self.train_set.path(position)) for position in positions]

    def state_dict(self) -> dict[str, Any]:
        """Say where training stands in its epoch."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, if it is training that starts from the checkpoint."""
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
