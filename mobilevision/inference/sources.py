"""The pictures that a command line names, and names for what is made of them."""

import glob
from collections.abc import Iterable
from pathlib import Path

from mobilevision.images import find_images


def find_sources(sources: Iterable[str], leave_out: Path) -> list[Path]:
    """List the pictures that files, folders and glob patterns stand for, each once, in their order.

    Args:
        sources: A folder stands for all pictures in it and below; a file for itself, whatever its suffix.
        leave_out: Folders are not searched below this, which the results go to.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A folder without pictures, or a pattern that matches nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        matches = [Path(source)] if Path(source).exists() else [Path(path) for path in sorted(_expand(source))]
        pictures = [picture for match in matches for picture in _pictures(match, leave_out)]
        if not pictures:
            raise ValueError(f"no pictures in {source}")
        found.update(dict.fromkeys(pictures))
    return list(found)


def distinct_names(paths: Iterable[Path]) -> list[str]:
    """Give every file a name of its own without a suffix: its own name, numbered from the second of a name on.

    >>> distinct_names([Path("a/cat.jpg"), Path("b/cat.jpg"), Path("cat_2.png"), Path("Cat.png")])
    ['cat', 'cat_2', 'cat_2_2', 'Cat_3']
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        # Some file systems do not tell upper from lower case.
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _expand(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        raise FileNotFoundError(f"{pattern} not found")
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 - pathlib takes no absolute patterns


def _pictures(path: Path, leave_out: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [picture for picture in find_images(path) if leave_out.resolve() not in picture.resolve().parents]
