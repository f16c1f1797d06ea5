"""Find the images that files, folders and glob patterns stand for, and name what is made of them."""

import glob
from collections.abc import Iterable
from pathlib import Path

from mobilevision.images import find_images


def find_sources(sources: Iterable[str], exclude: Path) -> list[Path]:
    """Return the images that files, folders and glob patterns stand for, each once, in their order.

    Args:
        sources: A folder stands for all images in it and below, a file for itself, whatever its suffix.
        exclude: The output folder: folders are not searched below it.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A folder has no images, or a pattern matches nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        images = [image for match in _match(source) for image in _list_images(match, exclude)]
        if not images:
            raise ValueError(f"no images in {source}")
        found.update(dict.fromkeys(images))
    return list(found)


def distinct_names(paths: Iterable[Path]) -> list[str]:
    """Return a distinct name without suffix for every file: its own, numbered from the second file of a name on.

    >>> distinct_names([Path("a/cat.jpg"), Path("b/cat.jpg"), Path("cat_2.png"), Path("Cat.png")])
    ['cat', 'cat_2', 'cat_2_2', 'Cat_3']
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        # Some file systems do not distinguish upper and lower case.
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _match(source: str) -> list[Path]:
    if Path(source).exists():
        return [Path(source)]
    if not glob.has_magic(source):
        raise FileNotFoundError(f"{source} not found")
    # pathlib's own glob takes no absolute patterns.
    return [Path(path) for path in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207


def _list_images(path: Path, exclude: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [image for image in find_images(path) if exclude.resolve() not in image.resolve().parents]
