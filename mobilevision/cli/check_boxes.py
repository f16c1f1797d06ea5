"""Check a dataset with boxes: read it, draw it, clean it."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mobilevision.cli.tables import print_line, print_table
from mobilevision.detection.check import (
    AnchorCoverage,
    CheckedSplit,
    check_annotations,
    check_repeats,
    check_sizes,
    check_splits,
    clean_annotations,
    count_classes,
    measure_coverage,
)
from mobilevision.detection.formats.exports import SPLIT_NAMES, Format, Split
from mobilevision.detection.formats.layout import FoundDataset, GivenPaths, find_dataset, read_part
from mobilevision.detection.head import SSDLiteHead, ssdlite_mobilenet_v2
from mobilevision.files import replacing, write_json
from mobilevision.findings import Finding, InspectedImage, inspect_images
from mobilevision.images import Pixels, read_image
from mobilevision.inference.drawing import contact_sheet, draw_boxes

NUM_SAMPLES = 16
BAR = 24


def check_boxes(name: Format, given: Namespace) -> tuple[list[Finding], dict[str, Any]]:
    """Check every split that is there, print what it holds, and write the images and files that are asked for.

    Args:
        name: The dataset's format.
        given: The command's options.

    Returns:
        All findings, and the other figures of the report.

    Raises:
        FileNotFoundError: No split is there.
        ValueError: A file of annotations as a whole is not in the format.
    """
    dataset = _find_splits(name, given)
    print_line(str(dataset))
    splits = {split: _check_split(dataset, given.num_threads, split) for split in dataset.parts}
    # What is wrong with a description is found with each split.
    findings = list(dict.fromkeys(finding for split in splits.values() for finding in split.findings))
    findings += check_splits({split: checked.annotations for split, checked in splits.items()})
    repeats = check_repeats({name: split.images for name, split in splits.items()})
    coverage = measure_coverage(tuple(splits.values()), _make_anchors(given.input_size), given.input_size)
    _print_contents(splits, coverage, given.input_size)
    samples = _draw_samples(splits)
    if samples:
        with replacing(given.sheet) as temporary:
            Image.fromarray(contact_sheet(samples)).save(temporary)
        print_line(f"samples: {given.sheet}")
    if given.fix is not None:
        _write_cleaned(given.fix, splits)
    report = {
        "splits": {
            name: {
                "images": len(split.annotations.images),
                "objects": len(split.annotations.labels),
                "classes": count_classes(split.annotations),
            }
            for name, split in splits.items()
        },
        "anchors": {"input_size": given.input_size, "uncovered_share": coverage.share, **coverage._asdict()},
    }
    return findings + repeats, report


def find_boxes(name: Format | None, given: Namespace) -> FoundDataset:
    """Find the splits of a dataset with boxes, whether they are there or not.

    Args:
        name: The dataset's format; recognized by its files where None.
        given: The command's options.

    Raises:
        FileNotFoundError: There is nothing that looks like a dataset.
        ValueError: It looks like several.
    """
    return find_dataset(given.root, name, _given_paths(given))


def _given_paths(given: Namespace) -> GivenPaths:
    options = vars(given)
    return {split: (options[f"{split}_annotations"], options[f"{split}_images"]) for split in SPLIT_NAMES}


def _find_splits(name: Format, given: Namespace) -> FoundDataset:
    paths = _given_paths(given)
    dataset = find_boxes(name, given)
    parts = dataset.parts
    named = {split: part for split, part in parts.items() if any(paths[split])}
    found = {split: part for split, part in parts.items() if part.annotations.exists()}
    # What the user names must be there, and what is there must be whole; but a dataset may have one split only.
    for part in ({**found, **named} or parts).values():
        for path in part[:2]:
            if not path.exists():
                raise FileNotFoundError(f"{path} not found")
    return dataset._replace(parts=found)


def _check_split(dataset: FoundDataset, num_threads: int, split: Split) -> CheckedSplit:
    part = dataset.parts[split]
    naming = [other for name, other in dataset.parts.items() if name != "test"]
    findings: list[Finding] = []
    annotations = read_part(dataset.format, dataset.root, part, naming=naming, on_finding=findings.append)
    paths = annotations.paths(part.images)
    console = Console(stderr=True)
    reading = track(
        inspect_images(paths, num_threads),
        f"reading {split}",
        total=len(paths),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    images: tuple[InspectedImage, ...] = tuple(reading)
    findings += check_annotations(annotations)
    findings += [finding for image in images for finding in image.findings]
    findings += check_sizes(annotations, images)
    return CheckedSplit(part, annotations, images, tuple(findings))


def _make_anchors(input_size: int) -> Float[Tensor, "A 4"]:
    # The anchors do not depend on the width, and a narrow network is built in no time.
    head = ssdlite_mobilenet_v2(1, input_size=input_size, width_mult=0.35).head
    return cast(SSDLiteHead, head).anchors


def _print_contents(splits: Mapping[Split, CheckedSplit], coverage: AnchorCoverage, input_size: int) -> None:
    counts = {name: count_classes(split.annotations) for name, split in splits.items()}
    classes = dict.fromkeys(label for count in counts.values() for label in count)
    rows = [("images", *(str(len(split.annotations.images)) for split in splits.values()))]
    rows += [(label, *(str(count.get(label, 0)) for count in counts.values())) for label in classes]
    print_table("images, and objects of each class", ("", *splits), rows)
    largest = max(*coverage.counts, 1)
    uppers = [*map(str, coverage.sides[1:]), ""]
    bars = [
        (f"{low}-{high}", str(count), str(none), ("#" * round(BAR * count / largest)).ljust(BAR, "."))
        for low, high, count, none in zip(coverage.sides, uppers, coverage.counts, coverage.uncovered, strict=True)
    ]
    header = ("side", "objects", "uncovered", "")
    print_table(f"objects by the root of their area at {input_size}x{input_size}", header, bars)
    print_line(f"uncovered, since no anchor overlaps them by 0.5: {coverage.share:.1%} of the objects")


def _draw_samples(splits: Mapping[Split, CheckedSplit]) -> list[Pixels]:
    """Draw images from all over the dataset with their boxes as they are annotated, only those with objects."""
    choices = [
        (split, index)
        for split in splits.values()
        for index, (image, count) in enumerate(zip(split.images, np.diff(split.annotations.starts), strict=True))
        if image.size is not None and count > 0
    ]
    chosen = np.unique(np.linspace(0, len(choices) - 1, min(NUM_SAMPLES, len(choices))).round().astype(int))
    drawn = []
    for split, index in (choices[place] for place in chosen.tolist()):
        truth = split.annotations.truth(index)
        boxes = np.concatenate([truth.boxes_xywh[:, :2], truth.boxes_xywh[:, :2] + truth.boxes_xywh[:, 2:]], axis=1)
        image = read_image(split.images[index].path)
        drawn.append(draw_boxes(image, boxes, truth.labels, class_names=split.annotations.class_names))
    return drawn


def _write_cleaned(path: Path, splits: Mapping[Split, CheckedSplit]) -> None:
    """Write each split's cleaned copy; an image in several splits stays in the last one, where it is measured."""
    names = list(splits)
    for place, (name, split) in enumerate(splits.items()):
        later = {image.digest for other in names[place + 1 :] for image in splits[other].images} - {""}
        shared = [image.path for image in split.images if image.digest in later]
        target = path if len(splits) == 1 else path.with_stem(f"{path.stem}_{name}")
        if target.exists() and target.samefile(split.part.annotations):
            raise ValueError(f"--fix must be another file than the annotations, got {path}")
        data = clean_annotations(split, leave_out=shared)
        write_json(target, data)
        kept = f"{len(data['images'])} of {len(split.images)} images"
        print_line(f"fixed: {target}, {kept}, {len(data['annotations'])} of {len(split.annotations.labels)} objects")
