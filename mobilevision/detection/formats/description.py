"""The file that describes a dataset of YOLO's: ``data.yaml`` under any name, or Darknet's ``obj.data``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mobilevision.detection.formats.records import read_lines
from mobilevision.findings import Finding

USUAL_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
CLASS_LISTS = ("classes.txt", "_darknet.labels")

SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

OTHER_KEYS = frozenset({"path", "names", "nc", "classes", "kpt_shape"})
"""The keys that are read besides those of the splits."""

IGNORED_KEYS = frozenset(
    {"backup", "channels", "colors", "download", "flip_idx", "kpt_names", "license", "minival", "roboflow", "version"}
)
"""The keys that other programs write and that change nothing here."""


class Description(NamedTuple):
    """The description of a dataset that a file holds.

    Attributes:
        path: The file; the dataset's folder where there is none.
        names: Of the classes by their number; none where the file does not have them.
        splits: The folders and lists of each split, as they are written.
        base: The folder that these are in, as it is written.
        keypoints: Number of an object's keypoints, and of the numbers of each; None where there are none.
        findings: What is wrong with the file or not understood.
    """

    path: Path
    names: tuple[str, ...] = ()
    splits: Mapping[str, tuple[str, ...]] = {}
    base: str = ""
    keypoints: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()


def read_description(root: Path) -> Description:
    """Read the file that describes a dataset, if there is one.

    Raises:
        ValueError: It is not YAML, or not a mapping; its classes or keypoints are not what they should be; or there
            are several.
    """
    path = _find_yaml(root)
    if path is not None:
        return _describe(path, _load(path))
    lists = sorted(root.glob("*.data"))
    if not lists:
        return Description(root)
    pairs = [line.split("=", 1) for line in read_lines(lists[0]) if "=" in line]
    content: dict[str, Any] = {key.strip(): value.strip() for key, value in pairs}
    content.pop("names", None)
    return _describe(lists[0], content)


def read_listed_names(*folders: Path) -> tuple[str, ...]:
    """Read the lines of the first ``classes.txt``, ``_darknet.labels`` or ``*.names``; nothing where there is none.

    Raises:
        ValueError: It is not text.
    """
    for folder in folders:
        paths = [folder / name for name in CLASS_LISTS if (folder / name).is_file()] or sorted(folder.glob("*.names"))
        if paths:
            return tuple(line.strip() for line in read_lines(paths[0]) if line.strip())
    return ()


def read_names(root: Path, labels: Path) -> tuple[str, ...]:
    """Read the names of the classes.

    Raises:
        FileNotFoundError: Neither ``data.yaml`` nor ``classes.txt`` names them.
        ValueError: They are not a list, or a mapping from 0, 1, 2 and so on.
    """
    inside = [folder for folder in (labels, *labels.parents) if folder.is_relative_to(root)]
    names = read_description(root).names or read_listed_names(root, *inside)
    if not names:
        raise FileNotFoundError(f"{root} does not name its classes: expected names in data.yaml, or {CLASS_LISTS[0]}")
    return names


def find_stated(root: Path, split: str) -> list[Path]:
    """Return the folders and lists that the dataset's own description names, if they are in the dataset.

    Many files of this kind have ``../train/images`` and mean the folder beside them, or the path of another machine.
    """
    description = read_description(root)
    found = (_find_place(root, description.base, stated) for stated in description.splits.get(split, ()))
    return [place for place in found if place is not None]


def find_absent(root: Path, description: Description) -> list[Finding]:
    """Find the folders and lists that a description names and that are not in the dataset."""
    stated = [(split, place) for split, places in description.splits.items() for place in places]
    absent = [f"{split}: {place}" for split, place in stated if _find_place(root, description.base, place) is None]
    text = f"names what is not in {root}: {', '.join(absent)}"
    return [Finding("not there", description.path, "", text)] if absent else []


def _find_yaml(root: Path) -> Path | None:
    usual = next((root / name for name in USUAL_NAMES if (root / name).is_file()), None)
    if usual is not None:
        return usual
    found = [path for path in sorted(root.glob("*.y*ml")) if path.suffix in (".yaml", ".yml") and _looks_right(path)]
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise ValueError(f"{root} is described by {listed}: keep one, or call it {USUAL_NAMES[0]}")
    return found[0] if found else None


def _looks_right(path: Path) -> bool:
    try:
        content = _load(path)
    except ValueError:
        return False
    return "names" in content and any(key in content for key in SPLIT_KEYS)


def _load(path: Path) -> dict[str, Any]:
    try:
        # Every scalar stays as it is written: yes, no, on and 010 are names of classes like any others.
        text = path.read_text(encoding="utf-8-sig")
        content = yaml.load(text, Loader=yaml.BaseLoader)  # type: ignore[no-untyped-call]  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{path} must be a mapping with 'names', got {type(content).__name__}")
    return content


def _describe(path: Path, content: Mapping[str, Any]) -> Description:
    names = _to_names(path, content.get("names"))
    splits: dict[str, tuple[str, ...]] = {}
    findings = []
    for key, split in SPLIT_KEYS.items():
        value = content.get(key, "")
        places = value if isinstance(value, list) else [value]
        if not all(isinstance(place, str) for place in places):
            text = f"{key} must be a folder, a list of images, or several of them"
            findings.append(Finding("unreadable description", path, "", text))
        elif any(places):
            splits[split] = splits.get(split, ()) + tuple(place for place in places if place)
    count = content.get("nc", content.get("classes"))
    if names and count is not None and count != str(len(names)):
        text = f"nc must be the number of names, {len(names)}, got {count}"
        findings.append(Finding("unreadable description", path, "", text))
    unknown = [key for key in content if key not in {*SPLIT_KEYS, *OTHER_KEYS, *IGNORED_KEYS}]
    if unknown:
        findings.append(Finding("not understood", path, "", f"does nothing here: {', '.join(unknown)}"))
    base = content.get("path", "")
    keypoints = _to_keypoints(path, content.get("kpt_shape"))
    return Description(path, names, splits, base if isinstance(base, str) else "", keypoints, tuple(findings))


def _to_names(path: Path, names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    if isinstance(names, dict):
        if set(names) != {str(number) for number in range(len(names))}:
            raise ValueError(f"{path}: names must count from 0 without gaps, got {', '.join(map(str, names))}")
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f"{path}: names must be a list or a mapping, got {names!r}")
    # Anything else may be a list of lists of lists that is small in the file only.
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise ValueError(f"{path}: names must be texts, got {type(wrong).__name__}")
    return tuple(names)


def _to_keypoints(path: Path, shape: Any) -> tuple[int, int] | None:
    if shape is None:
        return None
    numbers = shape if isinstance(shape, list) else []
    if len(numbers) == 2 and all(isinstance(number, str) and number.isdecimal() for number in numbers):
        count, size = (int(number) for number in numbers)
        if size in (2, 3):
            return count, size
    raise ValueError(f"{path}: kpt_shape must be [number of keypoints, 2 or 3], got {str(shape)[:100]}")


def _find_place(root: Path, base: str, stated: str) -> Path | None:
    parts = [part for part in Path(stated.replace("\\", "/")).parts if part not in ("..", "/")]
    # A folder of images without that of its split is not the one that is meant.
    ends = [Path(*parts[start:]) for start in range(len(parts)) if start == 0 or parts[start:] != ["images"]]
    for path in (root / base / stated, *(root / end for end in ends)):
        resolved = path.resolve()
        if path.exists() and resolved != root.resolve() and resolved.is_relative_to(root.resolve()):
            return root / resolved.relative_to(root.resolve())
    return None
