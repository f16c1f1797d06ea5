"""Fine-tune the detector that is put together from torchvision's parts, as well as it can be on a CPU.

Its SSD, matcher, loss and reference augmentation, SGD and a cosine as its references have them; bfloat16, channels last
and an allocator that keeps its pages, which they do not have, so that speed is not what decides.
"""

import io
import math
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.loader import TorchvisionSet, collate
from benchmarks.torchvision_ssd import torchvision_ssd
from mobilevision.detection.ssdlite import ssdlite_mobilenet_v2
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader, RandomSampler
from torchvision.models.detection.ssd import SSD

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.weights.file import load_backbone, read_weights

SIZE = 320
BATCH_SIZE = 16
EPOCHS_BETWEEN = 5
"""Epochs from one validation to the next."""

WARMUP_STEPS = 30
ENDLESS = 2**40
LIMITS = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
"""Those of torchvision's own SSDLite."""


def train(root: Path, weights: Path, *, minutes: float, seed: int, learning_rate: float) -> dict[str, Any]:
    """Train for as long, with validations on the way, and validate what came of it.

    Returns:
        ``validations`` with the names that this library logs; the ``images`` that were trained on and the ``seconds``.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    images = TorchvisionSet(root, SIZE)
    network = make_network(weights, len(images.categories))
    loader = DataLoader(
        images,
        batch_size=BATCH_SIZE,
        # One epoch after the other without an end, so that no batch is waited for between them.
        sampler=RandomSampler(images, num_samples=ENDLESS),
        num_workers=1,
        collate_fn=collate,
    )
    optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum=0.9, weight_decay=4e-5)
    interval = EPOCHS_BETWEEN * len(images) // BATCH_SIZE
    validations: list[dict[str, float]] = []
    network.train()
    start = time.perf_counter()
    for step, (pictures, targets) in enumerate(loader, start=1):
        progress = (time.perf_counter() - start) / (60 * minutes)
        if progress >= 1:
            break
        # The cosine runs over the time, and so ends with it.
        factor = min(1.0, step / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * factor
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(network(list(pictures), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % interval == 0:
            validations.append(validate(network, root))
    validations.append(validate(network, root))
    return {"validations": validations, "images": (step - 1) * BATCH_SIZE, "seconds": time.perf_counter() - start}


def make_network(weights: Path, num_classes: int) -> SSD:
    """Build the network with the backbone's weights; its statistics move as torchvision's SSDLite has them move."""
    network = ssdlite_mobilenet_v2(
        num_classes,
        input_size=SIZE,
        padding=str(read_weights(weights).card.options["padding"]),
        norm_momentum=0.03,
        head_norm_momentum=0.03,
    )
    load_backbone(network, weights)
    return torchvision_ssd(network, **LIMITS).to(memory_format=torch.channels_last)


def validate(network: SSD, root: Path) -> dict[str, float]:
    """Find the objects of the validation set and measure them by pycocotools."""
    images = TorchvisionSet(root, SIZE, split="val2017", augmented=False)
    network.eval()
    rows = []
    for entry, (picture, _) in zip(images.images, images, strict=True):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            (found,) = network([picture])
        boxes = found["boxes"].float() * torch.tensor([entry["width"], entry["height"]] * 2) / SIZE
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True):
            rows.append([entry["id"], *box, score, images.categories[label - 1]])
    network.train()
    with redirect_stdout(io.StringIO()):
        truth = COCO(root / "annotations/instances_val2017.json")
        evaluation = COCOeval(truth, truth.loadRes(np.array(rows).reshape(-1, 7)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"val/map": float(evaluation.stats[0]), "val/map_50": float(evaluation.stats[1])}
