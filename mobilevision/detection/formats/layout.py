"""Which format a dataset is in, where its splits are, and how they are read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from mobilevision.detection.formats.annotations import CocoAnnotations
from mobilevision.detection.formats.coco import read_annotations
from mobilevision.detection.formats.csv import read_csv
from mobilevision.detection.formats.records import ImageRecord, class_names_in, number_records
from mobilevision.detection.formats.voc import read_voc
from mobilevision.detection.formats.yolo import YAML_NAMES, read_listed_names, read_names, read_yaml, read_yolo
from mobilevision.findings import OnFinding, raise_finding

Format = Literal["coco", "voc", "yolo", "csv"]
"""COCO's JSON, Pascal VOC's XML files, YOLO's text files, or a table ``path,xmin,ymin,xmax,ymax,label``."""

Split = Literal["train", "val", "test"]

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}

LAYOUTS: Mapping[Format, tuple[tuple[str, str], ...]] = {
    "coco": (("annotations/instances_{}2017.json", "{}2017"),),
    "voc": (("ImageSets/Main/{}.txt", "JPEGImages"), ("{}", "{}")),
    "yolo": (("labels/{}", "images/{}"), ("{}/labels", "{}/images")),
    "csv": (("{}.csv", ""),),
}
"""Where annotations and images of a split are unless the user gives other places, the usual place first."""

COCO_TEST_FILES = "annotations/instances_test*.json"

SUFFIXES: Mapping[Format, str] = {"coco": ".json", "voc": ".txt", "csv": ".csv"}
"""The suffixes of files of annotations; YOLO's are folders."""


class Part(NamedTuple):
    """Where one split of a dataset is: the file or folder of its annotations, and the folder of its images."""

    annotations: Path
    images: Path


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
        found = [name for name in get_args(Format) if _holds(root, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{root} looks like {' and '.join(found)}: set format to one of them")
    expected = ", ".join(f"{LAYOUTS[name][0][0].format('train')} ({name})" for name in get_args(Format))
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
    choices = [(annotations or files, folder if images is None else images) for files, folder in _usual(name, split)]
    if name == "yolo":
        stated = [images] if images else _stated_folders(root, split)
        choices = [(annotations or _beside_images(folder), folder) for folder in stated] + choices
    if name == "coco" and split == "test" and annotations is None:
        found = [path.relative_to(root) for path in sorted(root.glob(COCO_TEST_FILES))]
        folders = [(path, path.stem.removeprefix("instances_")) for path in found] + [
            (path, "test2017") for path in found
        ]
        choices += [(str(path), folder if images is None else images) for path, folder in folders]
    parts = [Part(root / files, root / folder) for files, folder in choices]
    return next((part for part in parts if part.annotations.exists() and part.images.exists()), parts[0])


def describe_layout(name: Format, split: Split) -> str:
    """Return where a format has a split.

    >>> describe_layout("yolo", "test")
    'labels/test with images/test, or test/labels with test/images'
    """
    return ", or ".join(f"{files} with {folder}" if folder else files for files, folder in _usual(name, split))


def read_part(
    name: Format, root: Path, part: Part, *, naming: Iterable[Part] = (), on_finding: OnFinding = raise_finding
) -> CocoAnnotations:
    """Read the annotations of a split.

    COCO's files and YOLO's datasets name their classes. Those of VOC's files and of tables are the lines of
    ``classes.txt`` in ``root``, or else all names that occur in the splits of ``naming``, sorted.

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
        class_names = read_names(root, part.annotations)
        records = read_yolo(part.annotations, part.images, class_names, on_finding)
    else:
        records = _read_records(name, part, on_finding)
        # What is wrong with another split is found when that one is read.
        named = (records if other == part else _read_records(name, other, lambda finding: None) for other in naming)
        class_names = read_listed_names(root) or class_names_in([*named] or [records])
    return number_records(part.annotations, part.images, records, class_names, on_finding)


def _read_records(name: Format, part: Part, on_finding: OnFinding) -> list[ImageRecord]:
    return read_voc(*part, on_finding) if name == "voc" else read_csv(part.annotations, on_finding)


def _usual(name: Format, split: Split) -> list[tuple[str, str]]:
    return [(files.format(word), folder.format(word)) for word in SPLIT_NAMES[split] for files, folder in LAYOUTS[name]]


def _holds(root: Path, name: Format) -> bool:
    if name == "yolo" and any((root / file).is_file() for file in YAML_NAMES):
        return True
    if name == "coco" and next(root.glob(COCO_TEST_FILES), None):
        return True
    places = [root / files for split in SPLIT_NAMES for files, _ in _usual(name, split)]
    return any(place.exists() and _looks_like(name, place) for place in places)


def _looks_like(name: Format, path: Path) -> bool:
    """Return whether a file or folder of annotations is in a format."""
    if path.is_dir():
        suffix = {"voc": "*.xml", "yolo": "*.txt"}.get(name)
        return suffix is not None and next(path.glob(suffix), None) is not None
    return path.suffix.lower() == SUFFIXES.get(name)


def _stated_folders(root: Path, split: Split) -> list[str]:
    """Return the folder of images that ``data.yaml`` names, if it is in the dataset.

    Many files of this kind have ``../train/images`` and mean the folder beside them.
    """
    stated = read_yaml(root).get(split)
    folder = str(stated).removeprefix("../").removeprefix("./") if isinstance(stated, str) else ""
    inside = folder and (root / folder).is_dir() and (root / folder).resolve().is_relative_to(root.resolve())
    return [folder] if inside else []


def _beside_images(folder: str) -> str:
    """Return the folder of labels: ``images`` becomes ``labels``; without such a part it is the folder of images."""
    parts = list(Path(folder).parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return str(Path(*parts))
