"""Fine-tune the detector that is put together from torchvision's parts, as well as it can be on a CPU.

Its SSD, matcher, loss and reference augmentation, SGD and a cosine as its references have them; bfloat16, channels last
and an allocator that keeps its pages, which they do not have, so that speed is not what decides.
"""

import io
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.loader import TorchvisionDataset, collate
from benchmarks.timed_training import ENDLESS, train_for
from benchmarks.torchvision_ssd import torchvision_ssd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader, RandomSampler
from torchvision.models.detection.ssd import SSD

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.detection.head import ssdlite_mobilenet_v2
from mobilevision.weights.file import read_weights
from mobilevision.weights.loading import load_backbone

SIZE = 320
BATCH_SIZE = 16
EPOCHS_BETWEEN = 5
"""Epochs from one validation to the next."""

WARMUP_STEPS = 30
LIMITS = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
"""Those of torchvision's own SSDLite."""


def train(root: Path, weights: Path, *, minutes: float, seed: int, learning_rate: float) -> dict[str, Any]:
    """Train for a number of minutes, with validations on the way and at the end.

    Returns:
        ``validations`` with the names that this library logs; the number of trained ``images`` and the ``seconds``.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    images = TorchvisionDataset(root, SIZE)
    network = make_network(weights, len(images.categories)).train()
    loader = DataLoader(
        images,
        batch_size=BATCH_SIZE,
        sampler=RandomSampler(images, num_samples=ENDLESS),
        num_workers=1,
        collate_fn=collate,
    )

    def rate(step: int, progress: float) -> float:
        return learning_rate * min(1.0, step / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))

    done = train_for(
        minutes,
        loader,
        torch.optim.SGD(network.parameters(), learning_rate, momentum=0.9, weight_decay=4e-5),
        compute_loss=lambda batch: sum(network(*map(list, batch)).values()),
        rate=rate,
        interval=EPOCHS_BETWEEN * len(images) // BATCH_SIZE,
        validate=lambda: validate(network, root),
    )
    return {"validations": done["validations"], "images": done["steps"] * BATCH_SIZE, "seconds": done["seconds"]}


def make_network(weights: Path, num_classes: int) -> SSD:
    """Build the network with the backbone's weights; its statistics move as torchvision's SSDLite has them move."""
    start = read_weights(weights)
    network = ssdlite_mobilenet_v2(
        num_classes,
        input_size=SIZE,
        padding=start.card.backbone.padding,
        norm_momentum=0.03,
        head_norm_momentum=0.03,
    )
    load_backbone(network, start, weights)
    return torchvision_ssd(network, **LIMITS).to(memory_format=torch.channels_last)


def validate(network: SSD, root: Path) -> dict[str, float]:
    """Find the objects of the validation split and measure them by pycocotools."""
    dataset = TorchvisionDataset(root, SIZE, split="val2017", augmented=False)
    network.eval()
    rows = []
    for entry, (image, _) in zip(dataset.images, dataset, strict=True):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            (found,) = network([image])
        boxes = found["boxes"].float() * torch.tensor([entry["width"], entry["height"]] * 2) / SIZE
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True):
            rows.append([entry["id"], *box, score, dataset.categories[label - 1]])
    network.train()
    with redirect_stdout(io.StringIO()):
        truth = COCO(root / "annotations/instances_val2017.json")
        evaluation = COCOeval(truth, truth.loadRes(np.array(rows).reshape(-1, 7)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"val/map": float(evaluation.stats[0]), "val/map_50": float(evaluation.stats[1])}
