"""From a network's offsets and logits to detections, for COCO's classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.torchvision_ssd import torchvision_ssd
from torch import Tensor

from mobilevision.detection.boxes import clip_boxes, decode_boxes
from mobilevision.detection.postprocess import rescale_detections, select_detections
from mobilevision.detection.ssdlite import ssdlite_mobilenet_v2
from mobilevision.detection.types import RawPredictions

NUM_CLASSES = 80
SIZE = 300
LIMITS = {"score_thresh": 0.001, "nms_thresh": 0.6, "detections_per_img": 100}
PRIOR = 1.0
IMAGES = ("grace_hopper", "kite_and_cold", "squat", "face", "cat")


def make_predictions(references: str, batch_size: int) -> RawPredictions:
    """Make predictions for COCO's classes from those of a trained detector of persons on real pictures.

    A stand-in for a detector that was trained on COCO: each class of an image takes the person's logits on one of the
    pictures, with noise and a prior of its own, so that a few classes are there, most are not, and what overlaps an
    object scores high together. Thousands of scores of an image are above the threshold, and a hundred boxes remain.
    """
    archive = np.load(Path(references))
    generator = torch.Generator().manual_seed(0)
    margins, offsets = [], []
    for name in IMAGES:
        found, person = (torch.from_numpy(archive[f"ssdlite/{name}/{key}"]) for key in ("offsets", "class_logits"))
        margins.append(person[:, 1] - person[:, 0])
        offsets.append(found[:, [1, 0, 3, 2]])
    logits = []
    for _ in range(batch_size):
        chosen = torch.randint(len(IMAGES), (NUM_CLASSES,), generator=generator)
        prior = PRIOR * torch.rand(NUM_CLASSES, generator=generator)
        noise = torch.randn(len(margins[0]), NUM_CLASSES, generator=generator)
        moved = torch.stack([margins[index] for index in chosen], dim=1) + prior + noise
        logits.append(torch.cat([torch.zeros(len(moved), 1), moved], dim=1))
    return RawPredictions(
        torch.stack([offsets[index % len(IMAGES)] for index in range(batch_size)]), torch.stack(logits)
    )


def ours(references: str, batch_size: int) -> Callable[[], list[list[list[float]]]]:
    """Prepare this library's selection, with softmax and boxes clipped first as the peer has it."""
    network = ssdlite_mobilenet_v2(NUM_CLASSES, input_size=SIZE, score_function="softmax")
    predictions = make_predictions(references, batch_size)
    sizes = torch.full((batch_size, 2), SIZE)

    def step() -> list[list[list[float]]]:
        boxes = clip_boxes(decode_boxes(predictions.offsets, network.anchors), SIZE, SIZE)
        selected = select_detections(
            boxes,
            network.scores(predictions.logits),
            score_threshold=LIMITS["score_thresh"],
            iou_threshold=LIMITS["nms_thresh"],
            max_per_image=100,
        )
        return [_rows(*found) for found in rescale_detections(selected, sizes, SIZE)]

    return step


def peer(references: str, batch_size: int) -> Callable[[], list[list[list[float]]]]:
    """Prepare torchvision's selection; its limit of candidates per class is the one of its SSD."""
    network = torchvision_ssd(ssdlite_mobilenet_v2(NUM_CLASSES, input_size=SIZE), **LIMITS)
    offsets, logits = make_predictions(references, batch_size)
    anchors = network.anchor_generator.boxes

    def step() -> list[list[list[float]]]:
        heads = {"bbox_regression": offsets, "cls_logits": logits}
        found = network.postprocess_detections(heads, [anchors] * batch_size, [(SIZE, SIZE)] * batch_size)
        return [_rows(each["boxes"], each["scores"], each["labels"] - 1) for each in found]

    return step


def compare(ours: list[list[list[float]]], peer: list[list[list[float]]]) -> str:
    """Say whether both found the same: classes and order exactly, boxes and scores to float32's rounding."""
    same = all(
        len(own) == len(theirs) and np.allclose(own, theirs, rtol=1e-4, atol=1e-4)
        for own, theirs in zip(ours, peer, strict=True)
    )
    return f"{'identical' if same else 'DIFFERENT'} detections, {sum(map(len, ours))} in {len(ours)} images"


def _rows(boxes: Tensor, scores: Tensor, labels: Tensor) -> list[list[float]]:
    return torch.cat([boxes, scores[:, None], labels[:, None]], dim=1).tolist()
