"""The weights in an archive, read in memory: nothing of it is written to the disk."""

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath

MAGIC = b"\x1f\x8b"

SUFFIXES = (".pb", ".tflite")
"""Of the files that are looked for, in this order."""

MAX_RATIO = 20
"""Unpacked to packed size. Weights hardly compress: an archive beyond this is refused."""

MAX_HELD_RATIO = 2
"""Unpacked size of the files kept in memory to packed size: the other files only pass through."""

ALLOWANCE = 2**20
"""Bytes beyond these ratios, for the blocks that a small archive is filled up with."""


class BoundedReader:
    """A stream that ends in an error instead of going on for ever.

    Args:
        stream: What to read from.
        limit: The number of bytes after which it is refused.
    """

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes.

        Raises:
            ValueError: The limit is passed.
        """
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"the archive unpacks to more than {MAX_RATIO} times its size")
        return data


def read_archived_graph(path: Path) -> bytes:
    """Read the frozen graph, or else the .tflite file, in a ``.tar.gz`` of one of TensorFlow's model zoos.

    Raises:
        ValueError: The archive is damaged, holds neither, or is made to do harm.
    """
    size = path.stat().st_size
    try:
        with gzip.open(path) as unpacked:
            stream = BoundedReader(unpacked, MAX_RATIO * size + ALLOWANCE)
            with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
                found = _read_graphs(archive, MAX_HELD_RATIO * size + ALLOWANCE)
            # To its end, where the checksum is.
            while stream.read(ALLOWANCE):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"the archive is damaged: {error}") from error
    for suffix in SUFFIXES:
        if suffix in found:
            return found[suffix]
    raise ValueError("the archive holds neither a frozen graph (.pb) nor a .tflite file")


def _read_graphs(archive: tarfile.TarFile, limit: int) -> dict[str, bytes]:
    """Read the first file of each suffix, and pass over the others."""
    found: dict[str, bytes] = {}
    for member in archive:
        inside = PurePosixPath(member.name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"the archive has a path that leads out of it: {member.name}")
        suffix = inside.suffix
        wanted = suffix in SUFFIXES and suffix not in found and inside.name != "saved_model.pb"
        content = archive.extractfile(member) if wanted and member.isfile() else None
        if content is not None:
            limit -= member.size
            if limit < 0:
                raise ValueError(f"the archive has a graph that unpacks to more than {MAX_HELD_RATIO} times its size")
            found[suffix] = content.read()
    return found
