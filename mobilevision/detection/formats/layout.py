"""Which format a dataset is in, where its splits are, and how they are read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from mobilevision.detection.formats.annotations import CocoAnnotations
from mobilevision.detection.formats.coco import read_annotations
from mobilevision.detection.formats.csv import read_csv
from mobilevision.detection.formats.description import (
    find_absent,
    find_stated,
    read_description,
    read_listed_names,
    read_names,
)
from mobilevision.detection.formats.exports import LAYOUTS, SINGLE, SPLIT_NAMES, Format, Layout, Split
from mobilevision.detection.formats.labelme import looks_like_labelme, read_labelme
from mobilevision.detection.formats.records import ImageRecord, class_names_in, number_records, read_lines
from mobilevision.detection.formats.voc import read_voc
from mobilevision.detection.formats.yolo import Lines, beside_images, read_yolo, read_yolo_lists
from mobilevision.findings import OnFinding, raise_finding
from mobilevision.images import IMAGE_SUFFIXES

COCO_TEST_FILES = "annotations/instances_test*.json"

SUFFIXES: Mapping[Format, str] = {"coco": ".json", "voc": ".txt", "csv": ".csv", "yolo": ".txt"}
"""The suffixes of files of annotations; the others are folders."""

NUM_FOLDERS = 100
"""Folders of a folder that a dataset is looked for in."""

GivenPaths = Mapping[Split, tuple[str | None, str | None]]
"""The paths of annotations and images of each split, as far as the user gives them."""


class Part(NamedTuple):
    """Where one split of a dataset is.

    Attributes:
        annotations: The file or folder of its annotations.
        images: The folder of its images.
        places: The folders of images and the lists of them that a split of YOLO's may have instead.
    """

    annotations: Path
    images: Path
    places: tuple[Path, ...] = ()


class FoundDataset(NamedTuple):
    """A dataset and where its splits are, whether they are there or not.

    Attributes:
        root: Its folder.
        format: Its format.
        title: What the layout is called.
        parts: The splits.
    """

    root: Path
    format: Format
    title: str
    parts: dict[Split, Part]

    def __str__(self) -> str:
        """Return what was recognized on one line."""
        places = [
            f"{split} in {part.annotations.relative_to(self.root) if part.annotations != self.root else '.'}"
            for split, part in self.parts.items()
            if part.annotations.exists() and part.annotations.is_relative_to(self.root)
        ]
        return f"{self.root}: {self.title}{''.join(f', {place}' for place in places)}"


def find_dataset(root: Path, name: Format | None, given: GivenPaths) -> FoundDataset:
    """Recognize a dataset and find its splits. One without splits is all to train on.

    Args:
        root: Its folder, or one that holds only this dataset, as ``VOCdevkit`` does.
        name: Its format, if the user gives it.
        given: The paths that the user gives.

    Raises:
        FileNotFoundError: There is nothing that looks like a dataset.
        ValueError: It looks like several.
    """
    root = root.expanduser()
    annotations = [path for path, _ in given.values()]
    if not any(path for paths in given.values() for path in paths):
        root = _find_root(root, get_args(Format) if name is None else [name])
    name = name or find_format(root, annotations)
    parts = {split: find_part(name, root, split, *paths) for split, paths in given.items()}
    first: Split = next((split for split, part in parts.items() if part.annotations.exists()), "train")
    title = _find_title(name, root, first, parts[first])
    single = next(_singles(root, name), None)
    if (
        single
        and not any(annotations)
        and not any(parts[each].annotations.exists() for each in parts if each != "test")
    ):
        title, *part = single
        images = given["train"][1]
        parts["train"] = Part(root / part[0], root / (part[1] if images is None else images))
    return FoundDataset(root, name, title, parts)


def find_format(root: Path, annotations: Sequence[str | None] = ()) -> Format:
    """Recognize the format of a dataset by its files.

    Args:
        root: Its folder.
        annotations: Where the annotations are in ``root``, as far as the user has given it.

    Raises:
        FileNotFoundError: There is nothing that looks like a dataset.
        ValueError: It looks like several.
    """
    given = [root / path for path in annotations if path is not None]
    found: list[Format] = [name for name in get_args(Format) if any(_looks_like(name, path) for path in given)]
    if not given:
        # Splits are a surer sign than files that may lie around.
        found = [name for name in get_args(Format) if _holds_splits(root, name)]
        found = found or [name for name in get_args(Format) if next(_singles(root, name), None)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{root} looks like {' and '.join(found)}: set format to one of them")
    expected = ", ".join(f"{LAYOUTS[name][0].annotations.format('train')} ({name})" for name in get_args(Format))
    absence = "holds no dataset with boxes in a known layout" if root.is_dir() else "not found"
    raise FileNotFoundError(f"{root} {absence}: expected {expected}, or set format")


def find_part(
    name: Format, root: Path, split: Split, annotations: str | None = None, images: str | None = None
) -> Part:
    """Return where a split is, whether it is there or not: where the user has it, else where the format has it.

    Args:
        name: The format.
        root: The dataset's folder.
        split: The split.
        annotations: Path of the annotations in ``root``, if the user gives one.
        images: Folder of the images in ``root``, if the user gives one.
    """
    choices = [(annotations or files, folder if images is None else images) for _, files, folder in _usual(name, split)]
    if name == "yolo":
        places = [] if images or annotations else find_stated(root, split)
        if len(places) > 1 or any(place.is_file() for place in places):
            return Part(places[0], root, tuple(places))
        stated = [images] if images else [str(place.relative_to(root)) for place in places]
        choices = [(annotations or beside_images(root, folder), folder) for folder in stated] + choices
    if name == "coco" and split == "test" and annotations is None:
        found = [path.relative_to(root) for path in sorted(root.glob(COCO_TEST_FILES))]
        folders = [(path, path.stem.removeprefix("instances_")) for path in found] + [
            (path, "test2017") for path in found
        ]
        choices += [(str(path), folder if images is None else images) for path, folder in folders]
    parts = [Part(root / Path(files).expanduser(), root / Path(folder).expanduser()) for files, folder in choices]
    there = [part for part in parts if part.annotations.exists() and part.images.exists()]
    # A folder of labels may be empty.
    part = next((part for part in there if _looks_like(name, part.annotations, part.images)), (there or parts)[0])
    return part._replace(places=(part.annotations,)) if name == "yolo" and part.annotations.is_file() else part


def describe_layout(name: Format, split: Split) -> str:
    """Return where a format has a split.

    >>> describe_layout("yolo", "test")
    'labels/test with images/test, or test/labels with test/images'
    """
    places = [(files, folder) for _, files, folder in _usual(name, split)[:2]]
    return ", or ".join(f"{files} with {folder}" if folder else files for files, folder in places)


def read_part(
    name: Format, root: Path, part: Part, *, naming: Iterable[Part] = (), on_finding: OnFinding = raise_finding
) -> CocoAnnotations:
    """Read the annotations of a split.

    COCO's files and YOLO's datasets name their classes. Those of the others are the lines of ``classes.txt`` in
    ``root``, or else all names that occur in the splits of ``naming``, sorted.

    Args:
        name: The format.
        root: The dataset's folder.
        part: The split.
        naming: The splits whose objects name the classes, those to train and validate on; ``part`` where there are
            none.
        on_finding: Called for everything that is wrong; the default stops at the first.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file as a whole is not in the format.
    """
    if name == "coco":
        return read_annotations(part.annotations, folder=part.images, on_finding=on_finding)
    if name == "yolo":
        description = read_description(root)
        for finding in (*description.findings, *find_absent(root, description)):
            on_finding(finding)
        class_names = read_names(root, part.annotations)
        meaning = Lines(class_names, description.keypoints)
        if part.places:
            records = read_yolo_lists(part.places, part.images, meaning, on_finding)
        else:
            records = read_yolo(part.annotations, part.images, meaning, on_finding)
    else:
        records = _read_records(name, part, on_finding)
        # What is wrong with another split is found when that one is read.
        named = (records if other == part else _read_records(name, other, lambda finding: None) for other in naming)
        class_names = read_listed_names(root) or class_names_in([*named] or [records])
    return number_records(part.annotations, part.images, records, class_names, on_finding)


def _read_records(name: Format, part: Part, on_finding: OnFinding) -> list[ImageRecord]:
    if name == "csv":
        return read_csv(part.annotations, on_finding)
    read = read_voc if name == "voc" else read_labelme
    return read(part.annotations, part.images, on_finding)


def _usual(name: Format, split: Split) -> list[Layout]:
    return [Layout(*(text.format(word) for text in each)) for each in LAYOUTS[name] for word in SPLIT_NAMES[split]]


def _find_root(root: Path, names: Sequence[Format]) -> Path:
    """Return the folder itself, or the only one in it that holds a dataset, down to the second level."""
    if not root.is_dir() or any(_holds(root, name) for name in names):
        return root
    folders = [root]
    for _ in range(2):
        inner = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir()]
        folders = [path for path in inner if not path.name.startswith(".")][:NUM_FOLDERS]
        found = [folder for folder in folders if any(_holds(folder, name) for name in names)]
        if len(found) > 1:
            raise ValueError(f"{root} holds several datasets: set root to one of {', '.join(map(str, found))}")
        if found:
            return found[0]
    return root


def _find_title(name: Format, root: Path, split: Split, part: Part) -> str:
    layouts = {root / files: title for title, files, _ in reversed(_usual(name, split))}
    description = read_description(root).path if name == "yolo" else root
    title = layouts.get(part.annotations, LAYOUTS[name][0].title)
    return f"{title} of {description.name}" if description != root else title


def _holds(root: Path, name: Format) -> bool:
    return _holds_splits(root, name) or next(_singles(root, name), None) is not None


def _holds_splits(root: Path, name: Format) -> bool:
    if name == "yolo" and read_description(root).path != root:
        return True
    if name == "coco" and next(root.glob(COCO_TEST_FILES), None):
        return True
    layouts = [layout for split in SPLIT_NAMES for layout in _usual(name, split)]
    return any(_is_there(name, root, layout) for layout in layouts)


def _singles(root: Path, name: Format) -> Iterator[Layout]:
    return (layout for layout in SINGLE[name] if _is_there(name, root, layout))


def _is_there(name: Format, root: Path, layout: Layout) -> bool:
    path = root / layout.annotations
    return path.exists() and _looks_like(name, path, root / layout.images)


def _looks_like(name: Format, path: Path, images: Path | None = None) -> bool:
    """Return whether a file or folder of annotations is in a format."""
    if path.is_dir():
        if name == "yolo" and path == images:
            return any(_has_image(file) for file in path.glob("*.txt"))
        if name == "labelme":
            return looks_like_labelme(path)
        suffix = {"voc": "*.xml", "yolo": "*.txt"}.get(name)
        return suffix is not None and next(path.glob(suffix), None) is not None
    if path.suffix.lower() != SUFFIXES.get(name):
        return False
    return name not in ("yolo", "voc") or not path.is_file() or _lists_images(path) == (name == "yolo")


def _has_image(path: Path) -> bool:
    return any(path.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES)


def _lists_images(path: Path) -> bool:
    """Return whether the first line of a list is the path of an image, as in YOLO's lists, and not a name of VOC's."""
    try:
        line = next((line.strip() for line in read_lines(path) if line.strip()), "")
    except ValueError:
        return False
    return Path(line).suffix.lower() in IMAGE_SUFFIXES and "ImageSets" not in path.parts
