"""A network, a task and data small enough to train in a test."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.training.objective import Loss, Objective
from mobilevision.training.report import Report
from mobilevision.training.sampling import SampleKey, sample_seed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, default_collate

from mobilevision.backbone import MobileNetV2, Normalization
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.task import NetworkTask


class NoiseBatch(NamedTuple):
    images: Tensor
    labels: Tensor
    positions: Tensor


class NoiseSet(Dataset):
    """Pictures of noise, drawn anew in every epoch from the sample's own seed."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, key: SampleKey) -> NoiseBatch:
        generator = torch.Generator().manual_seed(sample_seed(self.seed, key))
        label = key.sample % 2
        noise = torch.randint(0, 128, (3, 32, 32), generator=generator, dtype=torch.uint8)
        return NoiseBatch(noise + 100 * label, torch.tensor(label), torch.tensor(key.sample))


class TinyHead(nn.Module):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(in_channels, num_classes)

    def forward(self, feature: Tensor) -> Tensor:
        return self.linear(self.dropout(feature.mean((2, 3))))


class TinyClassifier(ImageNetwork):
    taps = ("stage7",)

    def __init__(self, num_classes: int, width_mult: float = 0.1) -> None:
        options = {"num_classes": num_classes, "width_mult": width_mult}
        backbone = MobileNetV2(width_mult=width_mult, last=False)
        super().__init__(backbone, Normalization(), input_size=32, model_name="tiny", options=options)
        self.head = TinyHead(backbone.feature_info["stage7"].channels, num_classes)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.compute_taps(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.run_head(images)


class TinyObjective(Objective):
    def begin(self) -> None:
        self.right: list[Tensor] = []

    def loss(self, network: TinyClassifier, predictions: Tensor, batch: NoiseBatch) -> Loss:
        return Loss(F.cross_entropy(predictions, batch.labels))

    def measure(self, network: TinyClassifier, predictions: Tensor, batch: NoiseBatch) -> None:
        self.right.append((predictions.argmax(1) == batch.labels).float())

    def conclude(self, class_names: Sequence[str]) -> Report:
        right = torch.cat(self.right)
        return Report({"top1": float(right.mean())}, {}, len(right))


class TinyTask(NetworkTask):
    monitor = "val/top1"

    def __init__(self, num_classes: int = 2, **options) -> None:
        self.num_classes = num_classes
        super().__init__(**options)
        self.save_hyperparameters()
        self.objective = TinyObjective()

    def build_network(self) -> TinyClassifier:
        return TinyClassifier(self.num_classes)


class TinyData(ImageDataModule):
    def __init__(self, num_train: int = 12, num_val: int = 5, class_names: tuple[str, ...] = (), **options) -> None:
        super().__init__(**{"batch_size": 2, "num_workers": 0} | options)
        self.num_train = num_train
        self.num_val = num_val
        self.class_names = class_names

    def train_dataloader(self):
        return self.train_loader(NoiseSet(self.num_train, self.seed), default_collate)

    def val_dataloader(self):
        return self.eval_loader(NoiseSet(self.num_val, self.seed), default_collate)


@pytest.fixture
def tiny_data() -> type[TinyData]:
    return TinyData


@pytest.fixture
def tiny_task() -> type[TinyTask]:
    return TinyTask


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """Make a trainer on one CPU that writes to the test's folder and says nothing."""

    def make(*callbacks: Callback, **options) -> L.Trainer:
        settled = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(callbacks=list(callbacks), **settled | options)

    return make


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep Lightning's notes on its hardware out of the output, and OpenMP from waking threads for 32 pixels."""
    logger, num_threads = logging.getLogger("lightning.pytorch"), torch.get_num_threads()
    level = logger.level
    logger.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    yield
    logger.setLevel(level)
    torch.set_num_threads(num_threads)
