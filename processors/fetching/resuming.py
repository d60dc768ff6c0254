"""What lies half-fetched in the folder, and whether going on from it gives one file. In the child.

yt-dlp goes on from whatever `.part` it finds and glues what comes now to it. So beside each part a
small file says of which format it is and what the server said of the file (length, ETag, date); where
that differs from what the server says now, it is begun anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError

from processors.fetching.failures import FailedError

_NEVER = ("Range", "If-Range")


@dataclass(frozen=True)
class Known:
    """What is known of a file that comes in."""

    format: str = ""
    """See `choosing.identity`."""
    pieces: str = ""
    """Of a manifest's fragments: see `fragments.mark`. Empty for a file in one piece."""
    host: str = ""
    total: int | None = None
    """Bytes."""
    etag: str = ""
    modified: str = ""
    done: bool = False

    def same_as(self, other: Known) -> bool:
        """Whether a server speaks of the same file. Two hosts may serve it with marks of their own."""
        if self.host == other.host:
            if self.etag or other.etag:
                return self.etag == other.etag and self.total == other.total
            if self.modified and other.modified and self.modified != other.modified:
                return False
        return self.total is not None and self.total == other.total


class PartFile:
    """One file of a download, on its way."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = os.path.join(folder, name)
        self._state = Path(f"{self.path}.state")
        self.known = self._load()

    def begin(self, form: str, pieces: str = "") -> int | None:
        """Keep what lies there where it is of this format; else clean up. Its size, where it is there whole."""
        if (self.known.format, self.known.pieces) != (form, pieces) or not self._state.exists():
            self.clean()
            self._save(Known(format=form, pieces=pieces))
            return None
        with suppress(OSError):
            if self.known.total is not None and os.path.getsize(f"{self.path}.part") == self.known.total:
                os.replace(f"{self.path}.part", self.path)
        with suppress(OSError):
            size = os.path.getsize(self.path)
            # It gets its name when all of it is there.
            if self.known.done or self.known.total in {None, size}:
                self.finish()
                return size
            os.unlink(self.path)
        return None

    def clean(self) -> None:
        """Remove all of it."""
        folder, name = os.path.split(self.path)
        for entry in list(os.scandir(folder)):
            if entry.name == name or entry.name.startswith(f"{name}."):
                os.unlink(entry.path)
        self.known = Known()

    def finish(self) -> int:
        """It came in whole: its size. Raises FailedError (`network`) where it is shorter or longer than was said."""
        size = os.path.getsize(self.path)
        total = self.known.total
        if total is not None and size != total:
            self.clean()
            raise FailedError("network", f"{size} bytes came of a file of {total}")
        if not self.known.done:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            self._save(replace(self.known, done=True, total=size))
        return size

    def urlopen(self, send: Callable[[Request], Any], request: Request) -> Any:
        """Send a request for this file (of one piece), and see that what comes belongs to what is there."""
        resuming = _start(request) > 0
        if resuming and self.known.total is None and not self.known.etag:
            _from_the_start(request)  # who knows what it was
            resuming = False
        try:
            response = send(request)
        except HTTPError as error:
            if not resuming or error.status != 416:
                raise
            error.close()  # it is shorter now than what is there
            _from_the_start(request)
            response = send(request)
        now = self._heard(response)
        if resuming and response.status == 206 and not self.known.same_as(now):
            response.close()
            _from_the_start(request)
            response = send(request)
            now = self._heard(response)
        if response.status in {200, 206}:
            self._save(now)
        return response

    def _heard(self, response: Any) -> Known:
        headers = response.headers
        total = None
        if response.status == 206:
            found = re.search(r"/\s*([0-9]+)\s*$", headers.get("Content-Range") or "")
            total = int(found[1]) if found else None
        elif not headers.get("Content-Encoding"):
            length = headers.get("Content-Length") or ""
            total = int(length) if length.isdigit() else None
        etag = (headers.get("ETag") or "").removeprefix("W/")
        host = urlsplit(response.url).hostname or ""
        modified = headers.get("Last-Modified") or ""
        return replace(self.known, host=host, total=total, etag=etag[:200], modified=modified[:100], done=False)

    def _load(self) -> Known:
        try:
            return Known(**orjson.loads(self._state.read_bytes()))
        except (OSError, TypeError, ValueError):
            return Known()

    def _save(self, known: Known) -> None:
        if known != self.known or not self._state.exists():
            replace_file(str(self._state), orjson.dumps(asdict(known)))
        self.known = known


def _start(request: Request) -> int:
    """The byte that a request begins with."""
    found = re.match(r"bytes=([0-9]+)-", request.headers.get("Range") or "")
    return int(found[1]) if found else 0


def _from_the_start(request: Request) -> None:
    # yt-dlp sees by the answer that it gets all of it, and begins its file anew.
    for name in _NEVER:
        request.headers.pop(name, None)


def replace_file(path: str, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    fresh = f"{path}.new"
    Path(fresh).write_bytes(content)
    os.replace(fresh, path)
