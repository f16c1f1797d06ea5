"""Check a set of pictures with boxes: read it, draw it, mend it."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from mobilevision.cli.tables import print_line, print_table
from mobilevision.detection.check import (
    AnchorFit,
    CheckedSplit,
    check_boxes_of,
    check_repeats,
    check_sizes,
    clean,
    count_classes,
    fit_anchors,
    picture_paths,
    read_leniently,
)
from mobilevision.detection.formats import Format, Part, Split, find_part
from mobilevision.detection.ssdlite import ssdlite_mobilenet_v2
from mobilevision.files import replacing, write_json
from mobilevision.findings import Finding, InspectedPicture, inspect_pictures
from mobilevision.images import read_image
from mobilevision.inference.drawing import Pixels as Picture
from mobilevision.inference.drawing import contact_sheet, draw_boxes

NUM_SAMPLES = 16
BAR = 24


def check_boxes(name: Format, given: Namespace) -> tuple[list[Finding], dict[str, Any]]:
    """Check every split that is there, print what it holds, and write the pictures and files that are asked for.

    Args:
        name: The set's format.
        given: The command's options.

    Returns:
        All findings, and what the report says beside them.

    Raises:
        FileNotFoundError: No split is there.
        ValueError: A file of annotations as a whole is not in the format.
    """
    parts = _find_parts(name, given)
    splits = {split: _check_split(name, given, split, parts) for split in parts}
    findings = [finding for split in splits.values() for finding in split.findings]
    repeats = check_repeats({name: split.pictures for name, split in splits.items()})
    fit = fit_anchors(tuple(splits.values()), _anchors(given.input_size), given.input_size)
    _print_contents(splits, fit, given.input_size)
    samples = _draw_samples(splits)
    if samples:
        with replacing(given.sheet) as temporary:
            Image.fromarray(contact_sheet(samples)).save(temporary)
        print_line(f"samples: {given.sheet}")
    if given.fix is not None:
        _write_fixed(given.fix, splits)
    report = {
        "splits": {
            name: {
                "images": len(split.annotations.images),
                "objects": len(split.annotations.labels),
                "classes": count_classes(split.annotations),
            }
            for name, split in splits.items()
        },
        "anchors": {"input_size": given.input_size, "uncovered_share": fit.share, **fit._asdict()},
    }
    return findings + repeats, report


def _find_parts(name: Format, given: Namespace) -> dict[Split, Part]:
    paths: dict[Split, tuple[str | None, str | None]] = {
        "train": (given.train_annotations, given.train_images),
        "val": (given.val_annotations, given.val_images),
    }
    parts = {split: find_part(name, given.root, split, *given_paths) for split, given_paths in paths.items()}
    named = {split: part for split, part in parts.items() if any(paths[split])}
    found = {split: part for split, part in parts.items() if part.annotations.exists()}
    # What the user names must be there, and what is there must be whole; but a set may have one split only.
    for part in ({**found, **named} or parts).values():
        for path in part:
            if not path.exists():
                raise FileNotFoundError(f"{path} not found")
    return found


def _check_split(name: Format, given: Namespace, split: Split, parts: Mapping[Split, Part]) -> CheckedSplit:
    part = parts[split]
    others = [other for other in parts.values() if other != part]
    annotations, findings = read_leniently(name, given.root, part, others)
    paths = picture_paths(annotations, part.images)
    console = Console(stderr=True)
    reading = track(
        inspect_pictures(paths, given.num_threads),
        f"reading {split}",
        total=len(paths),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    pictures: tuple[InspectedPicture, ...] = tuple(reading)
    findings += check_boxes_of(annotations)
    findings += [finding for picture in pictures for finding in picture.findings]
    findings += check_sizes(annotations, pictures)
    return CheckedSplit(part, annotations, pictures, tuple(findings))


def _anchors(input_size: int) -> Any:
    # The anchors do not depend on the width, and a narrow network is built in no time.
    return ssdlite_mobilenet_v2(1, input_size=input_size, width_mult=0.35).anchors


def _print_contents(splits: Mapping[Split, CheckedSplit], fit: AnchorFit, input_size: int) -> None:
    counts = {name: count_classes(split.annotations) for name, split in splits.items()}
    classes = dict.fromkeys(label for count in counts.values() for label in count)
    rows = [("images", *(str(len(split.annotations.images)) for split in splits.values()))]
    rows += [(label, *(str(count.get(label, 0)) for count in counts.values())) for label in classes]
    print_table("images, and objects of each class", ("", *splits), rows)
    largest = max(*fit.counts, 1)
    uppers = [*map(str, fit.sides[1:]), ""]
    bars = [
        (f"{low}-{high}", str(count), str(none), ("#" * round(BAR * count / largest)).ljust(BAR, "."))
        for low, high, count, none in zip(fit.sides, uppers, fit.counts, fit.uncovered, strict=True)
    ]
    header = ("side", "objects", "uncovered", "")
    print_table(f"objects by the root of their area at {input_size}x{input_size}", header, bars)
    print_line(f"uncovered, since no anchor overlaps them by 0.5: {fit.share:.1%} of the objects")


def _draw_samples(splits: Mapping[Split, CheckedSplit]) -> list[Picture]:
    """Draw pictures from all over the set with their boxes as they are annotated, those with objects first."""
    choices = [
        (split, index)
        for split in splits.values()
        for index, picture in enumerate(split.pictures)
        if picture.size is not None and np.diff(split.annotations.starts)[index] > 0
    ]
    chosen = np.unique(np.linspace(0, len(choices) - 1, min(NUM_SAMPLES, len(choices))).round().astype(int))
    drawn = []
    for split, index in (choices[place] for place in chosen.tolist()):
        truth = split.annotations.truth(index)
        boxes = np.concatenate([truth.boxes_xywh[:, :2], truth.boxes_xywh[:, :2] + truth.boxes_xywh[:, 2:]], axis=1)
        image = read_image(split.pictures[index].path)
        drawn.append(draw_boxes(image, boxes, truth.labels, class_names=split.annotations.class_names))
    return drawn


def _write_fixed(path: Path, splits: Mapping[Split, CheckedSplit]) -> None:
    """Write each split's cleaned copy; a picture in both splits stays where it is measured on."""
    measured = {picture.digest for picture in splits["val"].pictures} - {""} if "val" in splits else set()
    for name, split in splits.items():
        shared = [picture.path for picture in split.pictures if picture.digest in measured] if name == "train" else []
        target = path if len(splits) == 1 else path.with_stem(f"{path.stem}_{name}")
        if target.exists() and target.samefile(split.part.annotations):
            raise ValueError(f"--fix must be another file than the annotations, got {path}")
        data = clean(split, leave_out=shared)
        write_json(target, data)
        kept = f"{len(data['images'])} of {len(split.pictures)} images"
        print_line(f"fixed: {target}, {kept}, {len(data['annotations'])} of {len(split.annotations.labels)} objects")
