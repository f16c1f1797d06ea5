"""Downloads that go on where an earlier attempt was interrupted.

``torch.hub.download_url_to_file`` begins again each time and throws away what it has when the connection drops. This
has the same progress bar, with a part file and HTTP's ranges.
"""

import http.client
import re
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch.hub

CHUNK = 2**17
TIMEOUT = 30.0
"""Seconds without a byte after which a connection is closed."""

SCHEMES = ("http://", "https://")
CONTENT_RANGE = re.compile(r"bytes (\d+)-")
PARTIAL, NOT_SATISFIABLE = 206, 416


def download(url: str, path: Path, *, progress: bool = True) -> None:
    """Download ``url`` into ``path``, by way of ``path`` with ``.part`` behind it, which an interrupted attempt leaves.

    Args:
        url: http or https.
        path: Its folder is made.
        progress: Whether to show a progress bar, on a terminal.

    Raises:
        ValueError: ``url`` begins with neither.
        OSError: It cannot be downloaded; what has come stays for the next attempt.
    """
    if not url.startswith(SCHEMES):
        raise ValueError(f"url must begin with http:// or https://, got {url}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _fetch(url, part, progress=progress)
    except HTTPError as error:
        if error.code != NOT_SATISFIABLE or not part.exists():
            raise OSError(f"{url} cannot be fetched: {error.code} {error.reason}") from error
        if error.headers.get("Content-Range") != f"bytes */{part.stat().st_size}":
            # What is there goes beyond the file's end: it is of another one.
            part.unlink()
            raise OSError(f"{url} has become shorter than what was fetched of it before: try again") from error
    except (URLError, http.client.HTTPException, OSError) as error:
        raise OSError(f"{url} cannot be fetched: {getattr(error, 'reason', error)}") from error
    part.replace(path)


def _fetch(url: str, part: Path, *, progress: bool) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mobilevision", **({"Range": f"bytes={done}-"} if done else {})}
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:  # noqa: S310 - the scheme is checked
        # A server that does not know ranges sends everything.
        place = CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if response.status != PARTIAL or place is None or int(place[1]) != done:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if done else "wb") as file, _bar(done, total, shown=progress) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and part.stat().st_size != total:
            raise OSError(f"{part.stat().st_size} of {total} bytes came, try again to go on from there")


def _bar(done: int, total: int | None, *, shown: bool) -> Any:
    # None: shown on a terminal only.
    tqdm = torch.hub.tqdm  # type: ignore[attr-defined]
    return tqdm(
        total=total, initial=done, unit="B", unit_scale=True, unit_divisor=1024, disable=None if shown else True
    )
