"""Images with boxes and class names, as text formats have them, and their numbering as COCO has it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mobilevision.detection.formats.annotations import CocoAnnotations
from mobilevision.detection.formats.coco import FARTHEST, annotations_of
from mobilevision.detection.formats.names import match_names, read_sizes
from mobilevision.detection.formats.values import to_number
from mobilevision.findings import Finding, OnFinding
from mobilevision.images import IMAGE_SUFFIXES, find_images

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class ObjectRecord(NamedTuple):
    """One object of an image.

    Attributes:
        place: Where in its file: ``line 3``, ``object 2``.
        corners: xyxy, in pixels of the image, or in fractions of its sides where the format has them so.
        label: The name of its class.
        ignored: Whether a detection of it is neither right nor wrong, and nothing is trained on it.
    """

    place: str
    corners: tuple[float, float, float, float]
    label: str
    ignored: bool = False


class ImageRecord(NamedTuple):
    """One image and its objects.

    Attributes:
        source: The file that describes it.
        name: The image, relative to the folder of images.
        objects: The objects on it.
        size: Height and width in pixels; None where the format does not have it.
        relative: Whether the corners are fractions of the image's sides.
    """

    source: Path
    name: str
    objects: tuple[ObjectRecord, ...]
    size: tuple[int, int] | None = None
    relative: bool = False


def class_names_in(splits: Iterable[Sequence[ImageRecord]]) -> tuple[str, ...]:
    """Return the classes of all objects, sorted."""
    return tuple(sorted({thing.label for records in splits for record in records for thing in record.objects}))


def number_records(
    path: Path, folder: Path, records: Sequence[ImageRecord], class_names: Sequence[str], on_finding: OnFinding
) -> CocoAnnotations:
    """Return records as annotations: images count from 1 in the order of their names, classes from 0.

    Args:
        path: The name of the dataset in messages.
        folder: Where the images are; the size of those that come without is read from their files.
        records: All images.
        class_names: All classes, in the order of their labels.
        on_finding: Called for images without a size, for objects of no class, and where an image comes twice.
    """
    for name in sorted({name for name in class_names if list(class_names).count(name) > 1}):
        text = f"there are several classes of the name {name!r}: rename one"
        on_finding(Finding("repeated name", path, "", text))
    known: dict[str, ImageRecord] = {}
    for record, name in zip(
        records, match_names(path, folder, [record.name for record in records], on_finding), strict=True
    ):
        if name in known:
            on_finding(Finding("duplicate id", record.source, "", f"{name} is already in the dataset"))
        known.setdefault(name, record)
    names = sorted(known)
    sizes = read_sizes([known[name].source for name in names], folder, names, [known[name].size for name in names])
    labels = {name: label for label, name in enumerate(class_names)}
    images, annotations = [], []
    for number, (name, size) in enumerate(zip(names, sizes, strict=True), start=1):
        if isinstance(size, Finding):
            on_finding(size)
            continue
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for thing in known[name].objects:
            row = _to_row(known[name], thing, size, labels)
            if isinstance(row, Finding):
                on_finding(row)
            else:
                annotations.append({"image_id": number, **row})
    categories = [{"id": label, "name": name} for name, label in labels.items()]
    return annotations_of(path, {"images": images, "annotations": annotations, "categories": categories})


def read_corners(texts: Mapping[str, str | None]) -> list[float]:
    """Return the numbers of ``CORNERS``, in this order.

    Raises:
        ValueError: One of them is not a finite number.
    """
    numbers = [to_number(texts[name]) for name in CORNERS]
    wrong = next((name for name, number in zip(CORNERS, numbers, strict=True) if math.isnan(number)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} must be a finite number, got {texts[wrong]!r}")
    return numbers


def find_by_stem(folder: Path) -> dict[Path, list[str]]:
    """Return the images in ``folder`` and below: path without suffix to paths, all relative to the folder."""
    found: dict[Path, list[str]] = {}
    for path in find_images(folder):
        relative = path.relative_to(folder)
        found.setdefault(relative.with_suffix(""), []).append(str(relative))
    return found


def find_visible(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern in ``folder`` and below, sorted, without hidden ones as macOS adds them."""
    return sorted(path for path in folder.rglob(pattern) if not path.name.startswith("."))


def read_records(
    files: Iterable[tuple[Path, Path]],
    folder: Path,
    read_file: Callable[[Path, OnFinding], ImageRecord | None],
    on_finding: OnFinding,
) -> list[ImageRecord]:
    """Read files of one image each, whose image has their name, or else the one that is written in them.

    Args:
        files: Each with the path of its image, without suffix and relative to ``folder``.
        folder: Where the images are.
        read_file: Reads one; None if it is not understood, which it has reported then.
        on_finding: Called where a file belongs to several images.
    """
    images = find_by_stem(folder)
    found = []
    for path, stem in files:
        record = read_file(path, on_finding)
        if record is not None:
            name = record.name or f"{stem}.jpg"
            if stem in images:
                name = choose_image(path, images[stem], record.name, on_finding)
            found.append(record._replace(name=name))
    return found


def choose_image(source: Path, names: Sequence[str], written: str, on_finding: OnFinding) -> str:
    """Return the image that a file of annotations belongs to, of those that share its name.

    Args:
        source: The file.
        names: The images: at least one.
        written: The name that is written in the file, or nothing. An image of this name goes first.
        on_finding: Called where there are several images, and none or no single one of this name.
    """
    base = written.replace("\\", "/").rpartition("/")[2]
    named = [name for name in names if Path(name).name == base]
    if len(names) > 1 and len(named) != 1:
        text = f"belongs to each of {', '.join(names)}: give them different names, or keep one"
        on_finding(Finding("several images", source, "", text))
    return (named or names)[0]


def without_image_suffix(name: str) -> Path:
    """Return a name without the suffix of an image; anything else that looks like a suffix stays.

    >>> str(without_image_suffix("a.b.jpg")), str(without_image_suffix("a.b"))
    ('a.b', 'a.b')
    """
    path = Path(name)
    return path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path


def read_lines(path: Path) -> list[str]:
    """Read a text file line by line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from error


def _to_row(
    record: ImageRecord, thing: ObjectRecord, size: tuple[int, int], labels: Mapping[str, int]
) -> dict[str, Any] | Finding:
    if thing.label not in labels:
        text = f"there is no class {thing.label!r}, only {', '.join(labels)}"
        return Finding("unknown class", record.source, thing.place, text)
    height, width = size if record.relative else (1, 1)
    left, top, right, bottom = thing.corners
    left, top, right, bottom = left * width, top * height, right * width, bottom * height
    box = [left, top, right - left, bottom - top]
    if not all(abs(number) <= FARTHEST for number in box):
        text = f"corners must be pixels of an image, got {', '.join(map(str, thing.corners))}"
        return Finding("unreadable annotation", record.source, thing.place, text)
    return {
        "id": f"{record.source.name}: {thing.place}",
        "category_id": labels[thing.label],
        "bbox": box,
        "iscrowd": int(thing.ignored),
    }
