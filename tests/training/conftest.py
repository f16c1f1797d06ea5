"""Data and a task small enough to train in a test."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.data import Dataset, default_collate

from mobilevision.classification.task import ClassificationTask
from mobilevision.classification.types import ClassificationBatch
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.loader import SampleKey, sample_seed


class NoiseDataset(Dataset):
    """Noise, darker for one class than for the other, drawn in every epoch from the sample's own seed."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, key: SampleKey) -> ClassificationBatch:
        generator = torch.Generator().manual_seed(sample_seed(self.seed, key))
        label = key.sample % 2
        noise = torch.randint(0, 128, (3, 32, 32), generator=generator, dtype=torch.uint8)
        return ClassificationBatch(noise + 100 * label, torch.tensor(label), torch.tensor(key.sample))


class NoiseData(ImageDataModule):
    def __init__(
        self, num_train: int = 12, num_val: int = 5, class_names: tuple[str, ...] = ("dark", "light"), **options
    ) -> None:
        super().__init__(**{"input_size": 32, "batch_size": 2, "num_workers": 0} | options)
        self.num_train = num_train
        self.num_val = num_val
        self.class_names = class_names

    def train_dataloader(self):
        return self.train_loader(NoiseDataset(self.num_train, self.seed), default_collate)

    def val_dataloader(self):
        return self.eval_loader(NoiseDataset(self.num_val, self.seed), default_collate)


@pytest.fixture
def make_data() -> type[NoiseData]:
    return NoiseData


@pytest.fixture
def make_task() -> Callable[..., ClassificationTask]:
    """Build a task with options."""

    def make(**options) -> ClassificationTask:
        small = {"width_mult": 0.1, "depth_mult": 0.3, "scale_last": True, "label_smoothing": 0.0}
        return ClassificationTask(**small | options)

    return make
