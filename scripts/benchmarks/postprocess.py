"""From a network's offsets and logits to detections, for COCO's classes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from benchmarks.torchvision_ssd import torchvision_ssd
from torch import Tensor
from torchvision.models.detection import ssd

from mobilevision.detection.boxes import clip_boxes, decode_boxes
from mobilevision.detection.head import ssdlite_mobilenet_v2
from mobilevision.detection.nms import rescale_detections, select_detections
from mobilevision.detection.types import DetectorOutput
from mobilevision.images import read_image
from mobilevision.models import load_model
from mobilevision.network import Network

NUM_CLASSES = 80
SIZE = 300
LIMITS = {"score_thresh": 0.001, "nms_thresh": 0.6, "detections_per_img": 100}
PRIOR = 1.0
IMAGES = ("grace_hopper", "kite_and_cold", "squat", "face", "cat")


class Case(NamedTuple):
    """The outputs that both sides select from, and the detector whose anchors and score function they are of."""

    network: Network
    outputs: DetectorOutput
    description: str


class Found(NamedTuple):
    """The detections of a side, one image after the other, and what they were selected from."""

    description: str
    rows: list[list[list[float]]]


def make_case(weights: Path | None, images: Path | None, references: Path | None, batch_size: int) -> Case:
    """Compute the outputs of a trained detector on images, or else a stand-in."""
    if weights is None or images is None:
        network = ssdlite_mobilenet_v2(NUM_CLASSES, input_size=SIZE, score_function="softmax")
        return Case(network, make_outputs(str(references), batch_size), "a person detector's logits, spread")
    network = load_model(weights)
    assert network.head.task == "detection"
    pixels = [network.head.preprocess(read_image(path)) for path in sorted(images.iterdir())[:batch_size]]
    with torch.inference_mode():
        outputs = network(torch.stack(pixels))
    above = (network.head.scores(outputs.logits) > LIMITS["score_thresh"]).sum() / len(pixels)
    counts = f"{network.head.num_classes} classes, {above:.0f} scores of an image above the threshold"
    return Case(network, outputs, f"a trained network's logits, {network.head.config.score_function}, {counts}")


def make_outputs(references: str, batch_size: int) -> DetectorOutput:
    """Make outputs for COCO's classes from those of a trained detector of persons on real images.

    A stand-in for a detector that was trained on COCO: each class of an image has the person's logits on one of the
    images, with noise and a prior of its own, so that a few classes are there, most are not, and the boxes that overlap
    an object score high together. Thousands of scores of an image are above the threshold, and a hundred boxes remain.
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
    return DetectorOutput(
        torch.stack([offsets[index % len(IMAGES)] for index in range(batch_size)]), torch.stack(logits)
    )


def ours(weights: Path | None, images: Path | None, references: Path | None, batch_size: int) -> Callable[[], Found]:
    """Prepare this library's selection, with boxes clipped first as the peer has it."""
    network, (offsets, logits), description = make_case(weights, images, references, batch_size)
    head, size = network.head, network.input_size
    sizes = torch.full((len(offsets), 2), size)

    def step() -> Found:
        boxes = clip_boxes(decode_boxes(offsets, head.anchors), size, size)
        selected = select_detections(
            boxes,
            head.scores(logits),
            score_threshold=LIMITS["score_thresh"],
            iou_threshold=LIMITS["nms_thresh"],
            max_per_image=100,
        )
        return Found(description, [_rows(*found) for found in rescale_detections(selected, sizes, size)])

    return step


def peer(weights: Path | None, images: Path | None, references: Path | None, batch_size: int) -> Callable[[], Found]:
    """Prepare torchvision's selection; its limit of candidates per class is the one of its SSD."""
    network, (offsets, logits), description = make_case(weights, images, references, batch_size)
    if network.head.config.score_function == "sigmoid":
        # It has softmax only, which would make other scores of these logits. This process does nothing else.
        ssd.F = SimpleNamespace(softmax=lambda values, dim: values.sigmoid())
    detector = torchvision_ssd(network, **LIMITS)
    anchors = detector.anchor_generator.boxes
    size = network.input_size

    def step() -> Found:
        outputs = {"bbox_regression": offsets, "cls_logits": logits}
        found = detector.postprocess_detections(outputs, [anchors] * len(offsets), [(size, size)] * len(offsets))
        return Found(description, [_rows(each["boxes"], each["scores"], each["labels"] - 1) for each in found])

    return step


def compare(ours: Found, peer: Found) -> str:
    """Return whether both found the same: classes and order exactly, boxes and scores to float32's rounding."""
    same = all(
        len(own) == len(theirs) and np.allclose(own, theirs, rtol=1e-4, atol=1e-4)
        for own, theirs in zip(ours.rows, peer.rows, strict=True)
    )
    count = f"{sum(map(len, ours.rows))} in {len(ours.rows)} images"
    return f"{'identical' if same else 'DIFFERENT'} detections, {count} ({ours.description})"


def _rows(boxes: Tensor, scores: Tensor, labels: Tensor) -> list[list[float]]:
    return torch.cat([boxes, scores[:, None], labels[:, None]], dim=1).tolist()
