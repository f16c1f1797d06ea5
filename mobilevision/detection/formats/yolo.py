"""YOLO's boxes: a text file for each image, a line ``class cx cy width height`` for each object.

The numbers are fractions of the image's sides. A line with the outline of an object, ``class x1 y1 x2 y2 x3 y3 ...``,
stands for the box around it; one with the box and keypoints, as ``kpt_shape`` in ``data.yaml`` describes them, for its
box. An image without a file, or with an empty one, has no objects. The names of the classes are in ``data.yaml`` under
``names``, or line by line in ``classes.txt``.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mobilevision.detection.formats.names import is_file, match_names
from mobilevision.detection.formats.records import (
    ImageRecord,
    ObjectRecord,
    choose_image,
    find_by_stem,
    find_visible,
    read_lines,
)
from mobilevision.findings import Finding, OnFinding

MAX_FRACTION = 2.0
"""A larger number is not a fraction of an image's side, however far a box reaches out of it."""

MIN_FLAGS = 4
"""As many points of an outline are not all on the lower edges by chance."""

OTHER_FILES = frozenset({"classes", "notes", "obj", "predefined_classes", "test", "train", "trainval", "val", "valid"})
"""The stems of text files that lie beside labels and are none."""


class Lines(NamedTuple):
    """The meaning of the lines of label files.

    Attributes:
        class_names: By the number in the files.
        keypoints: Number of an object's keypoints, and of the numbers of each; None where there are none.
    """

    class_names: tuple[str, ...]
    keypoints: tuple[int, int] | None = None


def read_yolo(labels: Path, folder: Path, meaning: Lines, on_finding: OnFinding) -> list[ImageRecord]:
    """Read the label file of each image in ``folder``.

    Args:
        labels: Folder of the label files.
        folder: Folder of the images, with the same folders in it.
        meaning: Of the lines.
        on_finding: Called for a line without class or box, a label file without an image or with several, and one that
            is not text.
    """
    images = find_by_stem(folder)
    lists = {path.relative_to(labels).with_suffix(""): path for path in find_visible(labels, "*.txt")}
    for stem, path in lists.items():
        if stem not in images and stem.name not in OTHER_FILES and not stem.name.startswith("README"):
            on_finding(Finding("missing image", path, "", f"there is no image for it in {folder}"))
    found = []
    for stem, names in images.items():
        source = lists.get(stem, labels / f"{stem}.txt")
        chosen = [choose_image(source, names, "", on_finding)] if stem in lists else names
        found += [_read_file(source, name, meaning, on_finding) for name in chosen]
    return found


def read_yolo_lists(places: Sequence[Path], root: Path, meaning: Lines, on_finding: OnFinding) -> list[ImageRecord]:
    """Read the labels of images in several folders or in lists of their paths; images are named relative to ``root``.

    The labels of ``images/a.jpg`` are ``labels/a.txt``, or else ``images/a.txt``.

    Args:
        places: Folders of images, and text files with the path of an image in each line.
        root: The dataset's folder, in which all images are.
        meaning: Of the lines.
        on_finding: Called for everything that is wrong, see :func:`read_yolo`.

    Raises:
        ValueError: A list is not text.
    """
    found = []
    for place in places:
        if place.is_dir():
            labels = root / beside_images(root, str(place.relative_to(root)))
            records = read_yolo(labels, place, meaning, on_finding)
            found += [record._replace(name=str((place / record.name).relative_to(root))) for record in records]
        else:
            for name in read_list(place, root, on_finding):
                labels = root / beside_images(root, str(Path(name).parent)) / Path(name).name
                found.append(_read_file(labels.with_suffix(".txt"), name, meaning, on_finding))
    return found


def read_list(path: Path, root: Path, on_finding: OnFinding) -> list[str]:
    """Read the paths of images in a list, relative to ``root``.

    Raises:
        ValueError: It is not text.
    """
    lines = [line.strip().replace("\\", "/") for line in read_lines(path) if line.strip()]
    near = os.path.relpath(path.parent, root)
    names = [str(Path(near, line)) if is_file(path.parent / line) else str(Path(line)) for line in lines]
    inside = []
    # Lists of other programs have paths of other machines: where the images are found is no news.
    for line, name in zip(lines, match_names(path, root, names, lambda finding: None), strict=True):
        if is_file(root / name) and (root / name).resolve().is_relative_to(root.resolve()):
            inside.append(name)
        else:
            on_finding(Finding("missing image", path, "", f"there is no image {line!r} in {root}"))
    return inside


def beside_images(root: Path, folder: str) -> str:
    """Return the folder of labels: ``images`` becomes ``labels``; the folder of images if there is no such folder."""
    parts = list(Path(folder).parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if not places:
        return str(Path(*parts))
    parts[places[-1]] = "labels"
    return str(Path(*parts)) if (root / Path(*parts)).is_dir() or not (root / folder).is_dir() else folder


def _read_file(source: Path, name: str, meaning: Lines, on_finding: OnFinding) -> ImageRecord:
    try:
        lines = read_lines(source) if source.is_file() else []
    except ValueError as error:
        on_finding(Finding("unreadable annotation", source, "", str(error).removeprefix(f"{source} ")))
        lines = []
    objects = [
        _read_line(source, number, line.split(), meaning, on_finding)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    return ImageRecord(source, name, tuple(filter(None, objects)), relative=True)


def _read_line(
    path: Path, number: int, fields: list[str], meaning: Lines, on_finding: OnFinding
) -> ObjectRecord | None:
    place = f"line {number}"
    try:
        label, numbers = float(fields[0]), [float(field) for field in fields[1:]]
    except ValueError:
        label, numbers = math.nan, []
    fault = _find_fault(fields, label, numbers, meaning.keypoints)
    if fault:
        on_finding(Finding("unreadable annotation", path, place, fault))
        return None
    if not 0 <= label < len(meaning.class_names):
        text = f"class must be from 0 to {len(meaning.class_names) - 1}, got {int(label)}"
        on_finding(Finding("unknown class", path, place, text))
        return None
    if len(numbers) == 4 or meaning.keypoints:
        x, y, width, height = numbers[:4]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        xs, ys = numbers[::2], numbers[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
    return ObjectRecord(place, corners, meaning.class_names[int(label)])


def _find_fault(
    fields: Sequence[str], label: float, numbers: Sequence[float], keypoints: tuple[int, int] | None
) -> str:
    """Return why a line has neither a box nor an outline, with the likely cause; nothing where it has one."""
    counts = [4] if keypoints is None else [4, 4 + keypoints[0] * keypoints[1]]
    columns, count = counts[-1] + 1, len(numbers)
    is_outline = keypoints is None and count >= 6 and count % 2 == 0
    is_known = label.is_integer() and (count in counts or is_outline) and all(map(math.isfinite, numbers))
    largest = max(map(abs, numbers if is_outline else numbers[:4]), default=0)
    faults = {
        "numbers must be separated by spaces, not by commas": any("," in field for field in fields),
        f"a line must have {columns} columns, one less: is the last one a confidence?": count - 1 in counts,
        "has a box and keypoints, it seems: kpt_shape in data.yaml must say how many": (
            keypoints is None and _looks_like_keypoints(numbers)
        ),
        f"a line must have 5 columns, or {columns} with keypoints, as kpt_shape says": (
            keypoints is not None and count > 0 and count not in counts
        ),
        "a line must be 'class cx cy width height' in numbers": not is_known,
        "numbers must be fractions of the image's sides from 0 to 1: are they pixels?": largest > MAX_FRACTION,
    }
    fault = next((text for text, is_so in faults.items() if is_so), "")
    return fault and f"{fault}, got {' '.join(fields)[:100]!r}"


def _looks_like_keypoints(numbers: Sequence[float]) -> bool:
    flags = numbers[6::3]
    has_flags = len(numbers) >= 7 and (len(numbers) - 4) % 3 == 0 and set(flags) <= {0, 1, 2}
    # With an even count it may be an outline, none of whose numbers is a 2.
    return has_flags and (len(numbers) % 2 == 1 or 2 in flags or len(flags) >= MIN_FLAGS)
