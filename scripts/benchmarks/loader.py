"""Batches from JPEG files with one worker: this library's data module, and the steps of torchvision's references."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mobilevision.detection.datamodule import CocoDataModule


class TorchvisionDataset(Dataset[Any]):
    """Images by PIL, cropped by IoU and mirrored, to float, then resized as torchvision's detector does.

    Args:
        root: A dataset in COCO's layout.
        input_size: Side of the network's images.
        split: The name of its folder.
        augmented: Whether to crop and mirror.
    """

    def __init__(self, root: Path, input_size: int, *, split: str = "train2017", augmented: bool = True) -> None:
        data = json.loads((root / f"annotations/instances_{split}.json").read_text())
        self.folder, self.images = root / split, data["images"]
        self.categories = sorted(category["id"] for category in data["categories"])
        self.objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
        for annotation in data["annotations"]:
            self.objects[annotation["image_id"]].append(annotation)
        self.transform = v2.Compose(
            [
                *([v2.RandomIoUCrop(), v2.RandomHorizontalFlip()] if augmented else []),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYXY),
                v2.SanitizeBoundingBoxes(),
                v2.Resize((input_size, input_size), antialias=False),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an image and its boxes, whose classes count from 1.

        Raises:
            IndexError: There is no such image.
        """
        entry = self.images[index]
        image = Image.open(self.folder / entry["file_name"]).convert("RGB")
        objects = self.objects[entry["id"]]
        boxes = torch.tensor([each["bbox"] for each in objects], dtype=torch.float32).reshape(-1, 4)
        labels = [self.categories.index(each["category_id"]) + 1 for each in objects]
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=(image.height, image.width)),
            "labels": torch.tensor(labels, dtype=torch.int64),
        }
        result: tuple[Tensor, dict[str, Tensor]] = self.transform(image, target)
        return result


def ours(root: str, batch_size: int, input_size: int, batches: int) -> Callable[[], None]:
    """Prepare this library's loader: crop, mirror, resize, as the data module does by default."""
    data = CocoDataModule(root, input_size=input_size, batch_size=batch_size, num_workers=1)
    data.setup("fit")
    return _draw(data.train_dataloader(), batches)


def peer(root: str, batch_size: int, input_size: int, batches: int) -> Callable[[], None]:
    """Prepare torchvision's."""
    loader = DataLoader(
        TorchvisionDataset(Path(root), input_size),
        batch_size=batch_size,
        shuffle=True,
        num_workers=1,
        collate_fn=collate,
        persistent_workers=True,
        drop_last=True,
    )
    return _draw(loader, batches)


def compare(ours: None, peer: None) -> str:
    """Return nothing: both draw their own crops."""
    return ""


def collate(samples: list[Any]) -> tuple[Any, ...]:
    """Return a tuple of each part of the samples, as the references do."""
    return tuple(zip(*samples, strict=True))


def _draw(loader: DataLoader[Any], batches: int) -> Callable[[], None]:
    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    stream = endless()

    def step() -> None:
        for _ in range(batches):
            next(stream)

    return step
