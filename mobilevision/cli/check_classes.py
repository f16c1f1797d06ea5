"""The part of ``mobilevision check-data`` for images in one folder per class."""

from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from mobilevision.classification.dataset import (
    SYNSET_LIST,
    LabeledFile,
    find_labeled_images,
    list_class_folders,
    read_synset_list,
)
from mobilevision.cli.tables import print_line, print_table
from mobilevision.detection.check import check_repeats
from mobilevision.files import replacing
from mobilevision.findings import Finding, InspectedImage, inspect_images
from mobilevision.images import IMAGE_SUFFIXES, Pixels, read_image
from mobilevision.inference.drawing import contact_sheet, draw_boxes

CLASS_FORMAT = "class-folders"
SPLITS = ("train", "val", "test")
NUM_SAMPLES = 16


def looks_like_class_folders(given: Namespace) -> bool:
    """Return whether there are folders of classes with images in them."""
    classes = [each for folder in _find_splits(given).values() for each in folder.iterdir() if each.is_dir()]
    return any(path.suffix.lower() in IMAGE_SUFFIXES for each in classes for path in each.iterdir())


def check_class_folders(given: Namespace) -> tuple[list[Finding], dict[str, Any]]:
    """Check every split, print its content, and draw samples of it.

    Args:
        given: The command's options.

    Returns:
        All findings, and the content of the splits as plain values.

    Raises:
        FileNotFoundError: There is no folder of a split.
        ValueError: A folder is not among the classes, or there is no image.
    """
    folders = _find_splits(given)
    if not folders:
        raise FileNotFoundError(f"{given.root} must hold folders of images by class: expected train/CLASS/IMAGE")
    synsets = given.root / SYNSET_LIST
    classes = read_synset_list(synsets) if synsets.is_file() else list_class_folders(next(iter(folders.values())))
    images = {split: find_labeled_images(folder, classes) for split, folder in folders.items()}
    inspected = {split: _inspect(split, found, given.num_threads) for split, found in images.items()}
    findings = [finding for found in inspected.values() for image in found for finding in image.findings]
    counts = {split: Counter(image.label for image in found) for split, found in images.items()}
    for split, count in counts.items():
        absent = [name for label, name in enumerate(classes.names) if not count[label]]
        if absent:
            findings.append(Finding("absent classes", folders[split], "", f"no image is of {', '.join(absent)}"))
    rows = [(name, *(str(count[label]) for count in counts.values())) for label, name in enumerate(classes.names)]
    print_table("images of each class", ("", *counts), rows)
    samples = _draw_samples([image for found in images.values() for image in found], classes.names)
    if samples:
        with replacing(given.sheet) as temporary:
            Image.fromarray(contact_sheet(samples)).save(temporary)
        print_line(f"samples: {given.sheet}")
    report = {
        split: {"images": len(images[split]), "classes": {name: count[i] for i, name in enumerate(classes.names)}}
        for split, count in counts.items()
    }
    return [*findings, *check_repeats(inspected)], {"splits": report}


def _find_splits(given: Namespace) -> dict[str, Path]:
    folders = {split: given.root / (getattr(given, f"{split}_images") or split) for split in SPLITS}
    return {split: folder for split, folder in folders.items() if folder.is_dir()}


def _inspect(split: str, images: list[LabeledFile], num_threads: int) -> list[InspectedImage]:
    console, paths = Console(stderr=True), [image.path for image in images]
    hidden = not console.is_terminal
    found = inspect_images(paths, num_threads)
    shown = track(found, f"reading {split}", total=len(paths), console=console, transient=True, disable=hidden)
    return list(shown)


def _draw_samples(images: list[LabeledFile], names: tuple[str, ...]) -> list[Pixels]:
    """Draw images from all over the dataset with their classes; those that cannot be read are left out."""
    drawn = []
    for place in np.unique(np.linspace(0, len(images) - 1, min(NUM_SAMPLES, len(images))).round().astype(int)).tolist():
        try:
            pixels = read_image(images[place].path)
        except (OSError, ValueError):
            continue
        frame = np.array([[0.0, 0.0, pixels.shape[1], pixels.shape[0]]])
        drawn.append(draw_boxes(pixels, frame, np.array([images[place].label]), class_names=names))
    return drawn
