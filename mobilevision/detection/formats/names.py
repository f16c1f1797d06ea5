"""Where the images of a dataset are, if not where its annotations say, and how large they are."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from mobilevision.findings import Finding, OnFinding
from mobilevision.images import find_images, read_size

NUM_THREADS = 8


def match_names(source: Path, folder: Path, names: Sequence[str], on_finding: OnFinding) -> list[str]:
    """Return the file of each image, relative to ``folder``; a name stays as it is where there is no file for it.

    Annotations name images by paths of another machine, by URLs, or with other folders or capitals. Such an image is
    the file with the longest end of its path, or else with its base name, where there is only one and no other image
    has it.

    Args:
        source: The file of annotations, for messages.
        folder: Where the images are.
        names: Of all images, as the annotations have them.
        on_finding: Called once, with a note, if an image is found in this way.
    """
    # One listing: asking for each of 118 287 files takes minutes on a network drive.
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = [name for name in dict.fromkeys(names) if name not in present and not is_file(folder / name)]
    if not missing or not folder.is_dir():
        return list(names)
    missing_names = set(missing)
    taken = {str(Path(name)) for name in names if name not in missing_names}
    by_base: dict[str, list[str]] = defaultdict(list)
    for path in find_images(folder):
        by_base[path.name.casefold()].append(str(path.relative_to(folder)))
    found = {name: file for name in missing if (file := _find_file(folder, name, by_base))}
    uses = Counter(found.values())
    found = {name: file for name, file in found.items() if uses[file] == 1 and file not in taken}
    if found:
        first = next(iter(found))
        text = (
            f"{len(found)} of {len(names)} images are not where it says, and were found in {folder} by their base "
            f"names, first {first!r} as {found[first]}"
        )
        on_finding(Finding("found by base name", source, "", text))
    return [found.get(name, name) for name in names]


def read_sizes(
    sources: Sequence[Path], folder: Path, names: Sequence[str], known: Sequence[tuple[int, int] | None]
) -> list[tuple[int, int] | Finding]:
    """Return height and width of each image, from the header of its file where they are not known.

    Args:
        sources: The file that describes each image, for messages.
        folder: Where the images are.
        names: Of the images, relative to ``folder``.
        known: Height and width of each, or None.

    Returns:
        A finding instead where the file is missing or does not decode.
    """
    unknown = [(source, name) for source, name, size in zip(sources, names, known, strict=True) if size is None]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        found = pool.map(partial(_read_size, folder), *zip(*unknown, strict=True)) if unknown else iter(())
        return [next(found) if size is None else size for size in known]


def is_file(path: Path) -> bool:
    """Return whether there is such a file; False also for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_size(folder: Path, source: Path, name: str) -> tuple[int, int] | Finding:
    path = folder / name
    try:
        return read_size(path)
    except FileNotFoundError:
        return Finding("missing image", path, "", f"not found, {source} names it")
    except (OSError, ValueError) as error:
        return Finding("undecodable", path, "", str(error).removeprefix(f"{path} "))


def _find_file(folder: Path, name: str, by_base: dict[str, list[str]]) -> str | None:
    path = _to_path(name)
    for written in dict.fromkeys((path, unquote(path))):
        parts = [part for part in PurePosixPath(written).parts if part not in ("/", "..")]
        ends = (str(PurePosixPath(*parts[start:])) for start in range(len(parts)))
        file = next((end for end in ends if is_file(folder / end)), None)
        found = by_base.get(parts[-1].casefold(), []) if parts else []
        if file or len(found) == 1:
            return file or found[0]
    return None


def _to_path(name: str) -> str:
    r"""Return the path in a name with backslashes or a URL.

    >>> _to_path("kites\\a.jpg"), _to_path("https://x.org/kites/a.jpg?key=1"), _to_path("/data/files/?d=kites/a.jpg")
    ('kites/a.jpg', '/kites/a.jpg', 'kites/a.jpg')
    """
    path = name.replace("\\", "/")
    try:
        parts = urlsplit(path)
    except ValueError:
        return path
    if "://" in path or path.startswith("/data/"):
        return parse_qs(parts.query).get("d", [parts.path])[0] if parts.path.endswith("/") else parts.path
    return path
