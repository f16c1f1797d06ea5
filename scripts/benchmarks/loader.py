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

ANNOTATIONS = "annotations/instances_train2017.json"


class TorchvisionSet(Dataset[Any]):
    """Pictures by PIL, cropped by IoU and mirrored, to float, then resized as torchvision's detector does.

    Args:
        root: A set in COCO's layout.
        input_size: Side of the pictures given to the network.
    """

    def __init__(self, root: Path, input_size: int) -> None:
        data = json.loads((root / ANNOTATIONS).read_text())
        self.folder, self.images = root / "train2017", data["images"]
        self.objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
        for annotation in data["annotations"]:
            self.objects[annotation["image_id"]].append(annotation)
        self.augment = v2.Compose(
            [
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
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
        """Give a picture and its boxes."""
        entry = self.images[index]
        picture = Image.open(self.folder / entry["file_name"]).convert("RGB")
        objects = self.objects[entry["id"]]
        boxes = torch.tensor([each["bbox"] for each in objects], dtype=torch.float32).reshape(-1, 4)
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=(picture.height, picture.width)),
            "labels": torch.tensor([each["category_id"] for each in objects], dtype=torch.int64),
        }
        result: tuple[Tensor, dict[str, Tensor]] = self.augment(picture, target)
        return result


def ours(root: str, batch_size: int, input_size: int, batches: int) -> Callable[[], None]:
    """Prepare this library's loader: crop, mirror, resize, as the data module does by default."""
    data = CocoDataModule(root, input_size=input_size, batch_size=batch_size, num_workers=1, skip_broken=False)
    data.setup("fit")
    return _take(data.train_dataloader(), batches)


def peer(root: str, batch_size: int, input_size: int, batches: int) -> Callable[[], None]:
    """Prepare torchvision's."""
    loader = DataLoader(
        TorchvisionSet(Path(root), input_size),
        batch_size=batch_size,
        shuffle=True,
        num_workers=1,
        collate_fn=collate,
        persistent_workers=True,
        drop_last=True,
    )
    return _take(loader, batches)


def compare(ours: None, peer: None) -> str:
    """Say that there is nothing to compare: both draw their own crops."""
    return ""


def collate(samples: list[Any]) -> tuple[Any, ...]:
    """Put samples side by side, as the references do."""
    return tuple(zip(*samples, strict=True))


def _take(loader: DataLoader[Any], batches: int) -> Callable[[], None]:
    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    stream = endless()

    def step() -> None:
        for _ in range(batches):
            next(stream)

    return step
