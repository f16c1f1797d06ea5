"""YOLO's boxes: a text file for each image, a line ``class cx cy width height`` for each object.

The numbers are fractions of the image's sides. A line with the outline of an object, ``class x1 y1 x2 y2 x3 y3 ...``,
stands for the box around it. An image without a file, or with an empty one, has no objects. The names of the classes
are in ``data.yaml`` under ``names``, or line by line in ``classes.txt``.
"""

import math
from pathlib import Path
from typing import Any

import yaml

from mobilevision.detection.formats.records import ImageRecord, ObjectRecord, find_by_stem, read_lines
from mobilevision.findings import Finding, OnFinding

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
CLASS_LIST = "classes.txt"


def read_yolo(labels: Path, folder: Path, class_names: tuple[str, ...], on_finding: OnFinding) -> list[ImageRecord]:
    """Read the label file of each image in ``folder``.

    Args:
        labels: Folder of the label files.
        folder: Folder of the images, with the same folders in it.
        class_names: By the number in the files.
        on_finding: Called for a line without class or box, and for a label file without an image.
    """
    images = find_by_stem(folder)
    lists = {path.relative_to(labels).with_suffix(""): path for path in sorted(labels.rglob("*.txt"))}
    for stem in [stem for stem in lists if stem not in images and str(stem) != Path(CLASS_LIST).stem]:
        on_finding(Finding("missing image", lists[stem], "", f"there is no image for it in {folder}"))
    found = []
    for stem, name in images.items():
        source = lists.get(stem, labels / f"{stem}.txt")
        lines = enumerate(read_lines(source) if stem in lists else [], start=1)
        objects = [
            _read_line(source, number, line.split(), class_names, on_finding) for number, line in lines if line.strip()
        ]
        found.append(ImageRecord(source, name, tuple(filter(None, objects)), relative=True))
    return found


def read_yaml(root: Path) -> dict[str, Any]:
    """Read the ``data.yaml`` of a dataset; nothing where there is none.

    Raises:
        ValueError: It is not YAML, or not a mapping.
    """
    path = next((root / name for name in YAML_NAMES if (root / name).is_file()), None)
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # type: ignore[no-untyped-call]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping with 'names', got {type(content).__name__}")
    return content


def read_listed_names(*folders: Path) -> tuple[str, ...]:
    """Read the lines of the first ``classes.txt``; nothing where there is none.

    Raises:
        ValueError: It is not text.
    """
    path = next((folder / CLASS_LIST for folder in folders if (folder / CLASS_LIST).is_file()), None)
    return () if path is None else tuple(line.strip() for line in read_lines(path) if line.strip())


def read_names(root: Path, labels: Path) -> tuple[str, ...]:
    """Read the names of the classes.

    Raises:
        FileNotFoundError: Neither ``data.yaml`` nor ``classes.txt`` names them.
        ValueError: They are not a list, or a mapping from 0, 1, 2 and so on.
    """
    names = read_yaml(root).get("names")
    if isinstance(names, dict):
        by_number = {str(number): name for number, name in names.items()}
        if set(by_number) != {str(number) for number in range(len(names))}:
            raise ValueError(f"{root}: names in data.yaml must count from 0 without gaps, got {', '.join(by_number)}")
        names = [by_number[str(number)] for number in range(len(names))]
    if isinstance(names, list):
        # Anything else may be a list of lists of lists that is small in the file only.
        wrong = next((name for name in names if not isinstance(name, str | int | float)), None)
        if wrong is not None:
            raise ValueError(f"{root}: names in data.yaml must be texts, got {type(wrong).__name__}")
        return tuple(str(name) for name in names)
    if names is not None:
        raise ValueError(f"{root}: names in data.yaml must be a list or a mapping, got {type(names).__name__}")
    listed = read_listed_names(*(folder for folder in (root, labels, *labels.parents) if folder.is_relative_to(root)))
    if not listed:
        raise FileNotFoundError(f"{root} does not name its classes: expected names in data.yaml, or {CLASS_LIST}")
    return listed


def _read_line(
    path: Path, number: int, fields: list[str], class_names: tuple[str, ...], on_finding: OnFinding
) -> ObjectRecord | None:
    place, text = f"line {number}", " ".join(fields)
    try:
        label, numbers = float(fields[0]), [float(field) for field in fields[1:]]
    except (ValueError, IndexError):
        label, numbers = math.nan, []
    is_box, is_outline = len(numbers) == 4, len(numbers) >= 6 and len(numbers) % 2 == 0
    if not label.is_integer() or not (is_box or is_outline) or not all(map(math.isfinite, numbers)):
        text = f"a line must be 'class cx cy width height' in numbers, got {text[:100]!r}"
        on_finding(Finding("unreadable annotation", path, place, text))
        return None
    if not 0 <= label < len(class_names):
        text = f"class must be from 0 to {len(class_names) - 1}, got {int(label)}"
        on_finding(Finding("unknown class", path, place, text))
        return None
    if is_box:
        x, y, width, height = numbers
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        xs, ys = numbers[::2], numbers[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
    return ObjectRecord(place, corners, class_names[int(label)])
