"""Which format a set is in, where its parts are, and how they are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from mobilevision.detection.annotations import CocoAnnotations, read_annotations
from mobilevision.detection.boxed import BoxedPicture, class_names_in, read_lines, to_annotations
from mobilevision.detection.csv_boxes import read_csv
from mobilevision.detection.voc_xml import read_voc
from mobilevision.detection.yolo import CLASS_LIST, YAML_NAMES, read_names, read_yaml, read_yolo
from mobilevision.findings import Complain, Finding, refuse

Format = Literal["coco", "voc", "yolo", "csv"]
"""COCO's JSON, Pascal VOC's XML files, YOLO's text files, or a table ``path,xmin,ymin,xmax,ymax,label``."""

Split = Literal["train", "val"]

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid")}

LAYOUTS: Mapping[Format, tuple[tuple[str, str], ...]] = {
    "coco": (("annotations/instances_{}2017.json", "{}2017"),),
    "voc": (("ImageSets/Main/{}.txt", "JPEGImages"), ("{}", "{}")),
    "yolo": (("labels/{}", "images/{}"), ("{}/labels", "{}/images")),
    "csv": (("{}.csv", ""),),
}
"""Where annotations and pictures of a split are unless the user says so, the usual place first."""


class Part(NamedTuple):
    """Where one split of a set is: the file or folder of its annotations, and the folder of its pictures."""

    annotations: Path
    images: Path


def find_format(root: Path, annotations: Sequence[str | None] = ()) -> Format:
    """Recognise a set by what it holds.

    Args:
        root: Its folder.
        annotations: What the user says of where the annotations are, in ``root``.

    Raises:
        FileNotFoundError: There is nothing that looks like a set.
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
    absence = "holds no set of boxes in a known layout" if root.is_dir() else "not found"
    raise FileNotFoundError(f"{root} {absence}: expected {expected}, or set format")


def find_part(
    name: Format, root: Path, split: Split, annotations: str | None = None, images: str | None = None
) -> Part:
    """Say where a split is: where the user says, else where the format has it.

    Args:
        name: The format.
        root: The set's folder.
        split: Which part.
        annotations: Path in ``root``, if the user says one.
        images: Likewise.
    """
    usual = [
        (files.format(word), pictures.format(word)) for word in SPLIT_NAMES[split] for files, pictures in LAYOUTS[name]
    ]
    if name == "yolo":
        stated = [images] if images else _stated_folders(root, split)
        usual = [(_beside_images(folder), folder) for folder in stated] + usual
    choices = [(annotations or files, images if images is not None else pictures) for files, pictures in usual]
    parts = [Part(root / files, root / pictures) for files, pictures in choices]
    return next((part for part in parts if part.annotations.exists() and part.images.exists()), parts[0])


def read_part(
    name: Format, root: Path, part: Part, *, others: Sequence[Part] = (), complain: Complain = refuse
) -> CocoAnnotations:
    """Read the annotations of a split.

    The classes of YOLO are those that the set names. Those of VOC's files and of tables are the lines of
    ``classes.txt`` in ``root``, or else all names that occur in ``part`` or ``others``, sorted.

    Args:
        name: The format.
        root: The set's folder.
        part: The split.
        others: The set's other splits, where they are at hand.
        complain: Called for what is wrong; by default it is an error.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not what it should be.
    """
    match name:
        case "coco":
            return read_annotations(part.annotations)
        case "yolo":
            class_names = read_names(root, part.annotations)
            pictures = read_yolo(part.annotations, part.images, class_names, complain)
        case "voc" | "csv":
            pictures = _parse(name, part, complain)
            class_names = _listed_names(root) or class_names_in(
                [*pictures, *(picture for other in others for picture in _parse(name, other, _say_nothing))]
            )
    return to_annotations(part.annotations, part.images, pictures, class_names, complain)


def _parse(name: Literal["voc", "csv"], part: Part, complain: Complain) -> list[BoxedPicture]:
    if name == "voc":
        return read_voc(part.annotations, part.images, complain)
    return read_csv(part.annotations, complain)


def _listed_names(root: Path) -> tuple[str, ...]:
    path = root / CLASS_LIST
    return tuple(line.strip() for line in read_lines(path) if line.strip()) if path.is_file() else ()


def _say_nothing(finding: Finding) -> None:
    """Leave it to whoever reads that split."""


def _holds(root: Path, name: Format) -> bool:
    if name == "yolo" and any((root / file).is_file() for file in YAML_NAMES):
        return True
    words = [word for words in SPLIT_NAMES.values() for word in words]
    places = [root / files.format(word) for word in words for files, _ in LAYOUTS[name]]
    return any(place.exists() and _looks_like(name, place) for place in places)


def _looks_like(name: Format, path: Path) -> bool:
    """Whether a file or folder of annotations is in a format."""
    if path.is_dir():
        suffix = {"voc": "*.xml", "yolo": "*.txt"}.get(name)
        return suffix is not None and next(path.glob(suffix), None) is not None
    return path.suffix.lower() == {"coco": ".json", "csv": ".csv", "voc": ".txt"}.get(name)


def _stated_folders(root: Path, split: Split) -> list[str]:
    """Give the folder of pictures that ``data.yaml`` names, if it is in the set.

    Many files of this kind say ``../train/images`` and mean the folder beside them.
    """
    stated = read_yaml(root).get(split)
    folder = str(stated).removeprefix("../").removeprefix("./") if isinstance(stated, str) else ""
    inside = folder and (root / folder).is_dir() and (root / folder).resolve().is_relative_to(root.resolve())
    return [folder] if inside else []


def _beside_images(folder: str) -> str:
    """Give the folder of labels: ``images`` becomes ``labels``; where there is no such part, they are side by side."""
    parts = list(Path(folder).parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return str(Path(*parts))
