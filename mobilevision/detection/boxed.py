"""What formats without numbers of their own say - pictures, boxes, names - and its numbering in COCO's terms."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mobilevision.detection.annotations import CocoAnnotations, annotations_of
from mobilevision.findings import Complain, Finding
from mobilevision.images import IMAGE_SUFFIXES, find_images, read_size

NUM_THREADS = 8


class BoxedObject(NamedTuple):
    """One object.

    Attributes:
        place: Where its file says so: ``line 3``, ``object 2``.
        corners: xyxy, in pixels of the picture, or in parts of its sides where the format has them so.
        label: The name of its class.
        ignored: Whether a detection of it is neither right nor wrong, and nothing is trained on it.
    """

    place: str
    corners: tuple[float, float, float, float]
    label: str
    ignored: bool = False


class BoxedPicture(NamedTuple):
    """One picture and its objects.

    Attributes:
        source: The file that says so.
        name: The picture, relative to the folder of pictures.
        objects: What is in it.
        size: Height and width in pixels; None where the format does not say.
        relative: Whether the corners are parts of the picture's sides.
    """

    source: Path
    name: str
    objects: tuple[BoxedObject, ...]
    size: tuple[int, int] | None = None
    relative: bool = False


def class_names_in(pictures: Iterable[BoxedPicture]) -> tuple[str, ...]:
    """List the classes of all objects, sorted."""
    return tuple(sorted({thing.label for picture in pictures for thing in picture.objects}))


def to_annotations(
    path: Path, folder: Path, pictures: Sequence[BoxedPicture], class_names: Sequence[str], complain: Complain
) -> CocoAnnotations:
    """Number pictures from 1 in the order of their names, and classes from 0 in the order of theirs.

    Args:
        path: What the set is called in messages.
        folder: Where the pictures are; the size of those that come without is read from their files.
        pictures: What the set says.
        class_names: All classes.
        complain: Called for pictures without a size, for objects of no class, and where a picture comes twice.
    """
    known: dict[str, BoxedPicture] = {}
    for picture in pictures:
        if picture.name in known:
            complain(Finding("duplicate id", picture.source, "", f"{picture.name} is already in the set"))
        known.setdefault(picture.name, picture)
    names = sorted(known)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        sizes = list(pool.map(partial(_find_size, folder), (known[name] for name in names)))
    labels = {name: label for label, name in enumerate(class_names)}
    images, annotations = [], []
    for number, (name, size) in enumerate(zip(names, sizes, strict=True), start=1):
        if isinstance(size, Finding):
            complain(size)
            continue
        height, width = size
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        picture = known[name]
        for thing in picture.objects:
            if thing.label not in labels:
                text = f"there is no class {thing.label!r}, only {', '.join(class_names)}"
                complain(Finding("unknown class", picture.source, thing.place, text))
                continue
            x_scale, y_scale = (width, height) if picture.relative else (1, 1)
            left, top, right, bottom = thing.corners
            annotations.append(
                {
                    "id": f"{picture.source.name}: {thing.place}",
                    "image_id": number,
                    "category_id": labels[thing.label],
                    "bbox": [left * x_scale, top * y_scale, (right - left) * x_scale, (bottom - top) * y_scale],
                    "iscrowd": int(thing.ignored),
                }
            )
    categories = [{"id": label, "name": name} for name, label in labels.items()]
    return annotations_of(path, {"images": images, "annotations": annotations, "categories": categories})


def pictures_by_stem(folder: Path) -> dict[Path, str]:
    """Find the pictures in ``folder`` and below: path without suffix to path, both relative to the folder."""
    found = (path.relative_to(folder) for path in find_images(folder))
    return {path.with_suffix(""): str(path) for path in found}


def without_picture_suffix(name: str) -> Path:
    """Leave the suffix of a picture out, and nothing else that looks like one.

    >>> str(without_picture_suffix("a.b.jpg")), str(without_picture_suffix("a.b"))
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


def _find_size(folder: Path, picture: BoxedPicture) -> tuple[int, int] | Finding:
    if picture.size is not None:
        return picture.size
    try:
        return read_size(folder / picture.name)
    except FileNotFoundError:
        return Finding("missing picture", folder / picture.name, "", f"not found, {picture.source} names it")
    except (OSError, ValueError) as error:
        reason = str(error).removeprefix(f"{folder / picture.name} ")
        return Finding("undecodable", folder / picture.name, "", reason)
