"""Write files completely or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file through a temporary path beside it, which replaces it if the block ends without an error.

    The temporary name keeps the suffix, from which many writers infer the format. Missing folders are created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner may read.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_files(folder: str | Path) -> Iterator[Path]:
    """Write files through a temporary folder, whose files move into ``folder`` if the block ends without an error.

    Files of the same names are replaced, others stay.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        temporary = Path(name)
        yield temporary
        for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
            place = target / path.relative_to(temporary)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write ``data`` to ``path`` as JSON."""
    write_text(path, json.dumps(data, indent=2) + "\n")
