"""The part of ``mobilevision check-data`` for images with masks."""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.console import Console
from rich.progress import track

from mobilevision.cli.tables import print_line, print_table
from mobilevision.files import replacing
from mobilevision.findings import Finding
from mobilevision.inference.drawing import contact_sheet, draw_mask
from mobilevision.segmentation.check import MaskReport, check_masks
from mobilevision.segmentation.class_table import ClassTable, read_class_table
from mobilevision.segmentation.dataset import ImageAndMask, SplitFiles, read_pair
from mobilevision.segmentation.layouts import (
    AUGMENTED_MASK_DIR,
    AUGMENTED_SPLITS,
    VOC_CLASSES,
    MaskFolders,
    VocLayout,
)

SPLITS = ("train", "val", "test")
MASK_FORMATS = ("voc-masks", "masks")
NUM_SAMPLES = 16


def check_mask_splits(name: str, given: Namespace) -> tuple[list[Finding], dict[str, Any]]:
    """Check every split, print its content, and draw samples of it.

    Args:
        name: ``voc-masks``, VOC 2012's layout; or ``masks``, a folder of images and a folder of masks.
        given: The command's options.

    Returns:
        All findings, and the content of the splits as plain values.

    Raises:
        FileNotFoundError: A list or a folder is missing.
        ValueError: The classes are not given, or a list is empty.
    """
    table = None if given.class_table is None else read_class_table(given.class_table)
    names = _class_names(name, given, table)
    splits = _list_voc(given) if name == "voc-masks" else _list_folders(given)
    reports = {
        split: check_masks(files, names, table, track=partial(_track, split=split, total=len(files.pairs)))
        for split, files in splits.items()
    }
    _print_contents(names, reports)
    samples = _draw_samples([pair for files in splits.values() for pair in files.pairs], names, table)
    if samples:
        with replacing(given.sheet) as temporary:
            Image.fromarray(contact_sheet(samples)).save(temporary)
        print_line(f"samples: {given.sheet}")
    findings = [finding for report in reports.values() for finding in report.findings]
    return findings, {"splits": {split: report.to_json() for split, report in reports.items()}}


def find_asked_format(given: Namespace) -> str | None:
    """Return the format of masks that the options are for, or None where none of them is about masks."""
    if any(getattr(given, f"{split}_masks") for split in SPLITS):
        return "masks"
    if given.splits or ((given.classes or given.class_table) and looks_like_voc(given.root)):
        return "voc-masks"
    return "masks" if given.classes or given.class_table else None


def guess_format(root: Path) -> str | None:
    """Return the format of masks that a folder has by its files, if any."""
    if looks_like_voc(root):
        return "voc-masks"
    return "masks" if any((root / "masks" / split).is_dir() for split in SPLITS) else None


def looks_like_voc(root: Path) -> bool:
    """Return whether a folder has lists of VOC's segmentation."""
    return any(path.is_file() for split in (*SPLITS, "trainval") for path in [VocLayout(root).list_file(split)])


def _class_names(name: str, given: Namespace, table: ClassTable | None) -> tuple[str, ...]:
    if table is not None:
        return table.names
    if given.classes:
        return tuple(given.classes)
    if name == "voc-masks":
        return VOC_CLASSES
    raise ValueError("--classes or --class-table must say the classes of the masks, background included")


def _list_voc(given: Namespace) -> dict[str, SplitFiles]:
    layout = VocLayout(given.root)
    splits = given.splits or [split for split in SPLITS if layout.list_file(split).is_file()]
    augmented = layout._replace(mask_dir=AUGMENTED_MASK_DIR)
    return {split: (augmented if split in AUGMENTED_SPLITS else layout).list_pairs(split) for split in splits}


def _list_folders(given: Namespace) -> dict[str, SplitFiles]:
    layouts = {
        split: MaskFolders(
            given.root / (getattr(given, f"{split}_images") or f"images/{split}"),
            given.root / (getattr(given, f"{split}_masks") or f"masks/{split}"),
            given.image_suffix,
            given.mask_suffix,
        )
        for split in SPLITS
    }
    present = {split: layout for split, layout in layouts.items() if layout.image_dir.is_dir()} or layouts
    return {split: layout.list_pairs() for split, layout in present.items()}


def _track(contents: Iterable[Any], *, split: str, total: int) -> Iterable[Any]:
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(contents, f"reading {split}", total=total, console=console, transient=True, disable=hidden)


def _print_contents(names: tuple[str, ...], reports: Mapping[str, MaskReport]) -> None:
    rows = [("images with mask", *(str(report.num_pairs) for report in reports.values()))]
    rows += [("ignored pixels", *(f"{report.ignored_share:.1%}" for report in reports.values()))]
    rows += [
        (name, *(f"{of.share:.2%} in {of.num_images}" for of in (report.classes[label] for report in reports.values())))
        for label, name in enumerate(names)
    ]
    print_table("share of each class, and the images that it is in", ("", *reports), rows)


def _draw_samples(
    pairs: list[ImageAndMask], names: tuple[str, ...], table: ClassTable | None
) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Draw masks from all over the dataset; those that cannot be read are left out."""
    places = np.unique(np.linspace(0, len(pairs) - 1, min(NUM_SAMPLES, len(pairs))).round().astype(int))
    drawn = []
    for pair in (pairs[place] for place in places.tolist()):
        try:
            drawn.append(draw_mask(*read_pair(pair, len(names), table), names))
        except (OSError, ValueError):
            continue
    return drawn
