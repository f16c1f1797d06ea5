"""Find everything that is wrong with a dataset with boxes, before it is trained on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mobilevision.detection.boxes import cxcywh_to_xyxy, pairwise_iou
from mobilevision.detection.dataset import describe_untrainable, find_thin
from mobilevision.detection.formats.annotations import CocoAnnotations, match_categories
from mobilevision.detection.formats.layout import Part
from mobilevision.findings import Finding, InspectedImage

EDGE = 1.0
"""Boxes may reach over the edge of their image by this many pixels, as rounding makes them, without a note."""

MATCH_THRESHOLD = 0.5
"""The overlap by which an anchor is matched with a box; a box without such an anchor has a single forced match."""

SIDES = (0, 8, 16, 32, 64, 128, 256)
"""Lower bounds of the histogram's bins: square roots of areas, in pixels of the network's input."""

CHUNK = 4096


class CheckedSplit(NamedTuple):
    """One split after all of it was read.

    Attributes:
        part: Where it is.
        annotations: All that could be read.
        images: The files of its images, in their order.
        findings: What is wrong with it.
    """

    part: Part
    annotations: CocoAnnotations
    images: tuple[InspectedImage, ...]
    findings: tuple[Finding, ...]


class AnchorCoverage(NamedTuple):
    """How well anchors cover the objects of a dataset, by the objects' size.

    Attributes:
        sides: Lower bound of each bin: the square root of a box's area, in pixels of the network's input.
        counts: The objects in each bin.
        uncovered: Those that no anchor overlaps by ``MATCH_THRESHOLD``.
    """

    sides: tuple[int, ...]
    counts: tuple[int, ...]
    uncovered: tuple[int, ...]

    @property
    def share(self) -> float:
        """The share of all objects that is not covered; 0 where there are none."""
        return sum(self.uncovered) / max(sum(self.counts), 1)


def check_annotations(annotations: CocoAnnotations) -> list[Finding]:
    """Find boxes that cannot be trained on or will be cut, images and classes without objects, and what is twice."""
    path, images = annotations.path, annotations.images
    findings = _check_boxes(annotations) + _check_classes(annotations)
    for index in np.flatnonzero(np.diff(annotations.starts) == 0).tolist():
        text = f"{images[index]['file_name']} has none"
        findings.append(Finding("no objects", path, f"image {images[index]['id']}", text))
    for row in _find_repeats(annotations.ids):
        name = annotations.ids[row]
        findings.append(Finding("duplicate id", path, f"annotation {name}", f"there are several with the id {name}"))
    for index in _find_repeats(_file_names(annotations)):
        text = f"there are several with the file_name {images[index]['file_name']}"
        findings.append(Finding("duplicate id", path, f"image {images[index]['id']}", text))
    return findings


def check_sizes(annotations: CocoAnnotations, images: Sequence[InspectedImage]) -> list[Finding]:
    """Find images of another size than their annotations have."""
    findings = []
    for (height, width), image in zip(annotations.sizes.tolist(), images, strict=True):
        if image.size is not None and image.size != (height, width):
            text = f"is {image.size[1]}x{image.size[0]} pixels, {annotations.path} says {width:.0f}x{height:.0f}"
            findings.append(Finding("size differs", image.path, "", text))
    return findings


def check_repeats(splits: Mapping[str, Sequence[InspectedImage]]) -> list[Finding]:
    """Find images that are in two splits, which makes figures too good, or twice in one."""
    findings = []
    first: dict[str, tuple[str, Path]] = {}
    for split, images in splits.items():
        for image in images:
            if not image.digest:
                continue
            other, path = first.setdefault(image.digest, (split, image.path))
            if other != split:
                text = f"is in {split} and, as {path}, in {other}"
                findings.append(Finding("in two splits", image.path, "", text))
            elif path != image.path:
                findings.append(Finding("same image twice", image.path, "", f"has the pixels of {path}"))
    return findings


def check_splits(splits: Mapping[str, CocoAnnotations]) -> list[Finding]:
    """Find splits with other classes than the first, and a training set without a box to train on."""
    findings = []
    if "train" in splits and (reason := describe_untrainable(splits["train"])):
        findings.append(Finding("nothing to train on", splits["train"].path, "", reason))
    for other in list(splits.values())[1:]:
        try:
            match_categories(next(iter(splits.values())), other)
        except ValueError as error:
            findings.append(Finding("other categories", other.path, "", str(error)))
    return findings


def measure_coverage(splits: Sequence[CheckedSplit], anchors: Float[Tensor, "A 4"], input_size: int) -> AnchorCoverage:
    """Compare the objects that can be trained on with the anchors, at the network's input size.

    Args:
        splits: All splits of the dataset.
        anchors: cxcywh, in pixels of the network's input.
        input_size: Side of the network's input, in pixels.
    """
    boxes = torch.cat([torch.zeros(0, 4), *(_scale_trained(split.annotations, input_size) for split in splits)])
    corners = cxcywh_to_xyxy(anchors)
    best = torch.cat(
        [torch.zeros(0), *(pairwise_iou(chunk, corners).amax(dim=1) for chunk in torch.split(boxes, CHUNK))]
    )
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    bins = torch.bucketize(sides, torch.tensor(SIDES[1:], dtype=torch.float32), right=True)
    return AnchorCoverage(
        sides=SIDES,
        counts=tuple(torch.bincount(bins, minlength=len(SIDES)).tolist()),
        uncovered=tuple(torch.bincount(bins[best < MATCH_THRESHOLD], minlength=len(SIDES)).tolist()),
    )


def clean_annotations(split: CheckedSplit, leave_out: Iterable[Path] = ()) -> dict[str, Any]:
    """Return a split as COCO's JSON without what is wrong; outlines are not in it.

    Images are left out that do not decode or have another size than their annotations, since nobody knows what their
    boxes mean, and all but the first of one file. Boxes are left out that have no size or lie outside; those that reach
    over the edge are cut.

    Args:
        split: What was read.
        leave_out: Further images to leave out.
    """
    wrong = {finding.file for finding in split.findings if finding.kind == "size differs"} | set(leave_out)
    good = np.array([image.size is not None and image.path not in wrong for image in split.images], np.bool_)
    good[_find_repeats(_file_names(split.annotations))] = False
    annotations = split.annotations.without(split.annotations.find_broken()).of_images(good)
    corners = annotations.clip_boxes()
    sides = corners[:, 2:] - corners[:, :2]
    box_areas = np.maximum(annotations.boxes_xywh[:, 2:], 0).prod(axis=1)
    # The areas that a file states are those of outlines; the others change with their boxes.
    areas = np.where(annotations.areas == box_areas, sides.prod(axis=1), annotations.areas)
    image_ids = np.array(annotations.image_ids, dtype=object)[annotations.owners]
    category_ids = np.array(annotations.category_ids, dtype=object)[annotations.labels]
    columns = (image_ids, category_ids, np.concatenate([corners[:, :2], sides], axis=1), areas, annotations.crowd)
    return {
        "images": [dict(image) for image in annotations.images],
        "categories": [
            {**category, "name": name}
            for category, name in zip(annotations.categories, annotations.class_names, strict=True)
        ],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for number, (image, category, box, area, crowd) in enumerate(
                zip(*(column.tolist() for column in columns), strict=True), start=1
            )
        ],
    }


def count_classes(annotations: CocoAnnotations) -> dict[str, int]:
    """Count the objects of each class."""
    counts: Int64[np.ndarray, " C"] = np.bincount(annotations.labels, minlength=len(annotations.categories))
    return dict(zip(annotations.class_names, counts.tolist(), strict=True))


def _check_boxes(annotations: CocoAnnotations) -> list[Finding]:
    broken, clipped, owners = annotations.find_broken(), annotations.clip_boxes(), annotations.owners
    low, sides = annotations.boxes_xywh[:, :2], annotations.boxes_xywh[:, 2:]
    thin = ~broken & find_thin(annotations)
    reach = np.abs(np.concatenate([low, low + sides], axis=1) - clipped).max(axis=1, initial=0)
    over = ~broken & (reach > EDGE)
    findings: list[Finding] = []
    for row in np.flatnonzero(broken | thin | over).tolist():
        image = annotations.images[owners[row]]
        numbers = ", ".join(f"{number:.6g}" for number in annotations.boxes_xywh[row])
        box = f"box {numbers} (x, y, width, height) of {image['file_name']}, {image['width']}x{image['height']},"
        flat = sides[row].min() <= 0
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
    return findings


def _check_classes(annotations: CocoAnnotations) -> list[Finding]:
    path, names = annotations.path, annotations.class_names
    parents = {category.get("supercategory") for category in annotations.categories if "name" in category}
    findings = []
    for label in np.flatnonzero(np.bincount(annotations.labels, minlength=len(names)) == 0).tolist():
        name, place = names[label], f"category {annotations.category_ids[label]}"
        what = ", and is only the supercategory of others" if name in parents - {None} else ""
        text = f"{name!r} has no objects{what}: leave it out of the categories, or of data.classes"
        findings.append(Finding("class without objects", path, place, text))
    for label in _find_repeats(names):
        place = f"category {annotations.category_ids[label]}"
        text = f"there are several of the name {names[label]!r}: rename it, or give its objects to the first"
        findings.append(Finding("repeated name", path, place, text))
    return findings


def _file_names(annotations: CocoAnnotations) -> list[str]:
    return [image["file_name"] for image in annotations.images]


def _find_repeats(values: Iterable[object]) -> list[int]:
    """Return the places of values that are there before already."""
    seen: set[str] = set()
    repeats = []
    for place, value in enumerate(map(str, values)):
        if value in seen:
            repeats.append(place)
        seen.add(value)
    return repeats


def _scale_trained(annotations: CocoAnnotations, input_size: int) -> Float[Tensor, "M 4"]:
    """Return the boxes that can be trained on as xyxy in pixels of the network's input."""
    scales = input_size / np.tile(annotations.sizes[annotations.owners][:, ::-1], 2)
    boxes = (annotations.clip_boxes() * scales)[~annotations.find_broken() & ~annotations.crowd]
    return torch.from_numpy(boxes).float()
