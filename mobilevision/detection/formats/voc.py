"""Pascal VOC's boxes: an XML file for each image.

The corners of the files are whole pixels that count from 1 and belong to the object: ``xmin`` 1 is the left edge of the
image, ``xmax`` 500 the right edge of one 500 wide. A 0, which other programs write, is read as a 1. Objects that are
``difficult`` are not trained on, and a detection of one is neither right nor wrong, as in VOC's own protocol; they are
treated as COCO's crowds, whose overlap is measured over the detection's own area.
"""

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from mobilevision.detection.formats.names import is_file
from mobilevision.detection.formats.records import (
    CORNERS,
    ImageRecord,
    ObjectRecord,
    find_visible,
    read_corners,
    read_lines,
    read_records,
    without_image_suffix,
)
from mobilevision.detection.formats.values import to_flag, to_number
from mobilevision.findings import Finding, OnFinding


class _PlainTree(ElementTree.TreeBuilder):
    """A tree without a document type, the only place where entities that grow without end can be declared."""

    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("a DOCTYPE is not allowed")


def read_voc(annotations: Path, folder: Path, on_finding: OnFinding) -> list[ImageRecord]:
    """Read the XML files of a folder, or of those images that a list names.

    Args:
        annotations: A folder of XML files, or a list with a name in each line, as ``ImageSets/Main/train.txt``, whose
            XML files are in the ``Annotations`` next above it.
        folder: Where the images are. An image has the name of its XML file, or else the one that is written in it.
        on_finding: Called for a file that is not the XML of an image, and for an object without class or corners.

    Raises:
        FileNotFoundError: There is no such list.
    """
    if annotations.is_dir():
        paths = find_visible(annotations, "*.xml")
        stems = [path.relative_to(annotations).with_suffix("") for path in paths]
    else:
        folder_of_xml = _find_xml_folder(annotations)
        stems = [_read_stem(folder_of_xml, line.strip()) for line in read_lines(annotations) if line.strip()]
        paths = [folder_of_xml / f"{stem}.xml" for stem in stems]
    return read_records(zip(paths, stems, strict=True), folder, _read_file, on_finding)


def _read_stem(folder: Path, line: str) -> Path:
    """Return the image of a line, which has a second column, -1, 0 or 1, in the lists of one class."""
    stem = without_image_suffix(line)
    first, _, second = line.rpartition(" ")
    if second in ("-1", "0", "1") and first.strip() and not is_file(folder / f"{stem}.xml"):
        return without_image_suffix(first.strip())
    return stem


def _find_xml_folder(path: Path) -> Path:
    folders = [parent / "Annotations" for parent in path.parents[:3]]
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def _read_file(path: Path, on_finding: OnFinding) -> ImageRecord | None:
    try:
        # No document type: nothing to expand, nothing to fetch.
        tree = ElementTree.fromstring(path.read_bytes(), parser=ElementTree.XMLParser(target=_PlainTree()))  # noqa: S314
    except FileNotFoundError:
        on_finding(Finding("unreadable annotation", path, "", "not found"))
        return None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        on_finding(Finding("unreadable annotation", path, "", f"is not the XML of an image: {error}"))
        return None
    objects = []
    for number, element in enumerate(tree.findall("object"), start=1):
        try:
            objects.append(_read_object(element, f"object {number}"))
        except ValueError as error:
            on_finding(Finding("unreadable annotation", path, f"object {number}", str(error)))
    height, width = (to_number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    size = (int(height), int(width)) if height >= 1 and width >= 1 else None
    return ImageRecord(path, tree.findtext("filename", "").strip(), tuple(objects), size)


def _read_object(element: ElementTree.Element, place: str) -> ObjectRecord:
    label = element.findtext("name", "").strip()
    if not label:
        raise ValueError("name must be that of a class, got none")
    left, top, right, bottom = read_corners({name: element.findtext(f"bndbox/{name}") for name in CORNERS})
    corners = (_from_zero(left), _from_zero(top), right, bottom)
    difficult = to_flag(element.findtext("difficult") or None)
    if difficult is None:
        raise ValueError(f"difficult must be 0, 1, true or false, got {element.findtext('difficult')!r}")
    return ObjectRecord(place, corners, label, difficult)


def _from_zero(low: float) -> float:
    return 0.0 if 0 <= low < 1 else low - 1
