"""Everything that is wrong with a set of boxes, before it is trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mobilevision.detection.annotations import CocoAnnotations
from mobilevision.detection.boxes import cxcywh_to_xyxy, pairwise_iou
from mobilevision.detection.coco import MIN_SIDE, clip_to_images, find_broken_boxes, image_sizes
from mobilevision.detection.formats import Format, Part, read_part
from mobilevision.detection.sift import sift_coco
from mobilevision.findings import Finding, InspectedPicture

EDGE = 1.0
"""Boxes may reach over the edge of their picture by this many pixels, as rounding makes them, without a word."""

IOU_THRESHOLD = 0.5
"""What an anchor has to overlap a box by to be matched with it; a box without one has a single forced match."""

SIDES = (0, 8, 16, 32, 64, 128, 256)
"""Lower bounds of the histogram's bins: square roots of areas, in pixels of the network's input."""

CHUNK = 4096


class CheckedSplit(NamedTuple):
    """What is known of one split after all of it was read.

    Attributes:
        part: Where it is.
        annotations: All that could be read.
        pictures: The files of its images, in their order.
        findings: What is wrong with it.
    """

    part: Part
    annotations: CocoAnnotations
    pictures: tuple[InspectedPicture, ...]
    findings: tuple[Finding, ...]


class AnchorFit(NamedTuple):
    """How well anchors cover the objects of a set, by the objects' size.

    Attributes:
        sides: Lower bound of each bin: the square root of a box's area, in pixels of the network's input.
        counts: The objects in each bin.
        uncovered: Those that no anchor overlaps by ``IOU_THRESHOLD``.
    """

    sides: tuple[int, ...]
    counts: tuple[int, ...]
    uncovered: tuple[int, ...]

    @property
    def share(self) -> float:
        """The share of all objects that is not covered; 0 where there are none."""
        return sum(self.uncovered) / max(sum(self.counts), 1)


def read_leniently(
    name: Format, root: Path, part: Part, others: Sequence[Part] = ()
) -> tuple[CocoAnnotations, list[Finding]]:
    """Read a split and go on after what is wrong.

    Args:
        name: The format.
        root: The set's folder.
        part: The split.
        others: The set's other splits.

    Returns:
        What could be read, and what could not.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file as a whole is not in the format.
    """
    findings: list[Finding] = []
    if name == "coco":
        return sift_coco(part.annotations, findings.append), findings
    return read_part(name, root, part, others=others, complain=findings.append), findings


def picture_paths(annotations: CocoAnnotations, folder: Path) -> list[Path]:
    """List the files of the images, in their order."""
    return [folder / str(image["file_name"]) for image in annotations.images]


def check_boxes_of(annotations: CocoAnnotations) -> list[Finding]:
    """Find boxes that cannot be trained on, boxes that will be cut, and images without objects."""
    broken = find_broken_boxes(annotations)
    clipped = clip_to_images(annotations)
    thin = ~broken & ((clipped[:, 2:] - clipped[:, :2]).min(axis=1) < MIN_SIDE)
    over = ~broken & (np.abs(_corners(annotations) - clipped).max(axis=1, initial=0) > EDGE)
    findings: list[Finding] = []
    for row in np.flatnonzero(broken | thin | over).tolist():
        image = annotations.images[annotations.owners[row]]
        numbers = ", ".join(f"{number:.6g}" for number in annotations.boxes_xywh[row])
        box = f"box {numbers} (x, y, width, height) of {image['file_name']}, {image['width']}x{image['height']},"
        flat = annotations.boxes_xywh[row, 2:].min() <= 0
        faults = {
            "box of no size": (broken[row] and flat, "has no size"),
            "box outside": (broken[row] and not flat, "lies outside"),
            "thinner than a pixel": (thin[row], "is thinner than a pixel: evaluated, not trained on"),
            "over the edge": (over[row], "reaches over the edge: it will be cut"),
        }
        place = f"annotation {annotations.ids[row]}"
        findings += [
            Finding(kind, annotations.path, place, f"{box} {text}") for kind, (is_so, text) in faults.items() if is_so
        ]
    for index in np.flatnonzero(np.diff(annotations.starts) == 0):
        name = annotations.images[index]["file_name"]
        findings.append(
            Finding("no objects", annotations.path, f"image {annotations.image_ids[index]}", f"{name} has none")
        )
    return findings


def check_sizes(annotations: CocoAnnotations, pictures: Sequence[InspectedPicture]) -> list[Finding]:
    """Find pictures of another size than their annotations say."""
    findings = []
    for (height, width), picture in zip(image_sizes(annotations).tolist(), pictures, strict=True):
        if picture.size is not None and picture.size != (height, width):
            text = f"is {picture.size[1]}x{picture.size[0]} pixels, {annotations.path} says {width:.0f}x{height:.0f}"
            findings.append(Finding("size differs", picture.path, "", text))
    return findings


def check_repeats(splits: Mapping[str, Sequence[InspectedPicture]]) -> list[Finding]:
    """Find pictures that are in two splits, which makes figures too good, or twice in one."""
    findings = []
    first: dict[str, tuple[str, Path]] = {}
    for split, pictures in splits.items():
        for picture in pictures:
            if not picture.digest:
                continue
            other, path = first.setdefault(picture.digest, (split, picture.path))
            if other != split:
                text = f"is in {split} and, as {path}, in {other}"
                findings.append(Finding("in two splits", picture.path, "", text))
            elif path != picture.path:
                findings.append(Finding("same picture twice", picture.path, "", f"has the pixels of {path}"))
    return findings


def fit_anchors(splits: Sequence[CheckedSplit], anchors: Float[Tensor, "A 4"], input_size: int) -> AnchorFit:
    """Compare the objects that can be trained on with the anchors, at the network's input size.

    Args:
        splits: The set.
        anchors: cxcywh, in pixels of the network's input.
        input_size: Side of the network's input, in pixels.
    """
    boxes = torch.cat([torch.zeros(0, 4), *(_trained_boxes(split.annotations, input_size) for split in splits)])
    corners = cxcywh_to_xyxy(anchors)
    best = torch.cat(
        [torch.zeros(0), *(pairwise_iou(chunk, corners).amax(dim=1) for chunk in torch.split(boxes, CHUNK))]
    )
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    bins = torch.bucketize(sides, torch.tensor(SIDES[1:], dtype=torch.float32), right=True)
    return AnchorFit(
        sides=SIDES,
        counts=tuple(torch.bincount(bins, minlength=len(SIDES)).tolist()),
        uncovered=tuple(torch.bincount(bins[best < IOU_THRESHOLD], minlength=len(SIDES)).tolist()),
    )


def clean(split: CheckedSplit, leave_out: Sequence[Path] = ()) -> dict[str, Any]:
    """Give a split as COCO's JSON with what is wrong left out; of the outlines nothing is known any more.

    Pictures go that do not decode or have another size than the annotations say, since nobody knows what their boxes
    mean. Boxes go that have no size or lie outside; those that reach over the edge are cut.

    Args:
        split: What was read.
        leave_out: Further pictures to leave out.
    """
    annotations, corners = split.annotations, clip_to_images(split.annotations)
    wrong = {finding.file for finding in split.findings if finding.kind == "size differs"} | set(leave_out)
    good = np.array([picture.size is not None and picture.path not in wrong for picture in split.pictures], np.bool_)
    rows = np.flatnonzero(~find_broken_boxes(annotations) & good[annotations.owners])
    sides = corners[:, 2:] - corners[:, :2]
    box_areas = np.maximum(annotations.boxes_xywh[:, 2:], 0).prod(axis=1)
    # The areas that a file states are those of outlines; the others change with their boxes.
    areas = np.where(annotations.areas == box_areas, sides.prod(axis=1), annotations.areas)
    return {
        "images": [dict(image) for image, keep in zip(annotations.images, good, strict=True) if keep],
        "categories": [dict(category) for category in annotations.categories],
        "annotations": [
            {
                "id": number,
                "image_id": annotations.image_ids[annotations.owners[row]],
                "category_id": annotations.category_ids[annotations.labels[row]],
                "bbox": [*corners[row, :2].tolist(), *sides[row].tolist()],
                "area": float(areas[row]),
                "iscrowd": int(annotations.crowd[row]),
            }
            for number, row in enumerate(rows, start=1)
        ],
    }


def count_classes(annotations: CocoAnnotations) -> dict[str, int]:
    """Count the objects of each class."""
    counts: Int64[np.ndarray, " C"] = np.bincount(annotations.labels, minlength=len(annotations.categories))
    return dict(zip(annotations.class_names, counts.tolist(), strict=True))


def _corners(annotations: CocoAnnotations) -> Float[np.ndarray, "N 4"]:
    low, sides = annotations.boxes_xywh[:, :2], annotations.boxes_xywh[:, 2:]
    return np.concatenate([low, low + sides], axis=1)


def _trained_boxes(annotations: CocoAnnotations, input_size: int) -> Float[Tensor, "M 4"]:
    trained: Bool[np.ndarray, " N"] = ~find_broken_boxes(annotations) & ~annotations.crowd
    scales = input_size / np.tile(image_sizes(annotations)[annotations.owners][:, ::-1], 2)
    return torch.from_numpy((clip_to_images(annotations) * scales)[trained]).float()
