"""VOC's augmented training batches with one worker: this library's, and those of torchvision's references."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import VOCSegmentation
from torchvision.transforms import InterpolationMode, RandomCrop
from torchvision.transforms import functional as F

from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.types import IGNORE_INDEX

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ours(root: str, crop: int, batch_size: int) -> Callable[[], int]:
    """Prepare an epoch of the training batches."""
    data = VocDataModule(root, train_split="train", input_size=crop, batch_size=batch_size, num_workers=1)
    data.setup("fit")
    return _epoch(data.train_dataloader())


def peer(root: str, crop: int, batch_size: int) -> Callable[[], int]:
    """Prepare an epoch of torchvision's: PIL, a random size, mirrored, padded, cut, normalized."""
    dataset = reference_dataset(root, "train", ReferencePreset(crop))
    return _epoch(DataLoader(dataset, batch_size, shuffle=True, num_workers=1, drop_last=True, persistent_workers=True))


def reference_dataset(root: str, split: str, preset: "ReferencePreset | None" = None) -> VOCSegmentation:
    """Return torchvision's VOC: PIL images and masks, or what ``preset`` makes of them."""
    folder = next(path for path in (Path(root), *Path(root).parents) if (path / "VOCdevkit").is_dir())
    return VOCSegmentation(folder, image_set=split, transforms=preset)


class ReferencePreset:
    """Training augmentation of an image and its mask, as in torchvision's segmentation references."""

    def __init__(self, crop: int, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        self.crop = crop
        self.mean, self.std = list(mean), list(std)

    def __call__(self, image: Image, mask: Image) -> tuple[Tensor, Tensor]:
        """Transform both alike."""
        size = random.randint(self.crop // 2, self.crop * 2)  # noqa: S311
        image = F.resize(image, [size], antialias=True)
        mask = F.resize(mask, [size], interpolation=InterpolationMode.NEAREST)
        if random.random() < 0.5:  # noqa: S311
            image, mask = F.hflip(image), F.hflip(mask)
        missing = [0, 0, max(0, self.crop - image.width), max(0, self.crop - image.height)]
        image, mask = F.pad(image, missing), F.pad(mask, missing, fill=IGNORE_INDEX)
        window = RandomCrop.get_params(image, (self.crop, self.crop))
        image, mask = F.crop(image, *window), F.crop(mask, *window)
        pixels = F.convert_image_dtype(F.pil_to_tensor(image), torch.float)
        return F.normalize(pixels, self.mean, self.std), F.pil_to_tensor(mask).squeeze(0).long()


def _epoch(loader: DataLoader[Any]) -> Callable[[], int]:
    def step() -> int:
        return sum(1 for _ in loader)

    return step
