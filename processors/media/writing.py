"""The file that a rendition is written to, and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

BUFFER = 2**17
"""Bytes that FFmpeg gathers before it writes."""


# EFBIG: the room that is kept free on its disk begins there (`jobs.leave_free`).
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})


class TargetError(Exception):
    """The target cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.kind = "disk_full" if error.errno in _FULL else "unwritable"
        self.reason = f"the rendition cannot be written: {error.strerror}"


class TargetFile:
    """Made anew. FFmpeg writes through it, and reads back through `reopen` to bring the index to the front."""

    name = "target"

    def __init__(self, path: bytes, moved: Callable[[], None]) -> None:
        self._moved = moved
        self._at = 0
        self.error: OSError | None = None
        """What the file system refused first. FFmpeg forgets it."""
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise TargetError(error) from None

    def write(self, data: bytes) -> int:
        """All of it. Raises OSError."""
        view = memoryview(data)
        while view:
            try:
                written = os.pwrite(self.fd, view, self._at)
            except OSError as error:
                self.error = self.error or error
                raise
            self._at += written
            view = view[written:]
        self._moved()
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As files do."""
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += os.fstat(self.fd).st_size
        self._at = offset
        return offset

    def tell(self) -> int:
        """As files do."""
        return self._at

    def reopen(self, _url: str, _flags: int, _options: dict[str, str]) -> Any:
        """The same file, to read from its start."""
        return _Reader(self)

    @property
    def link(self) -> str:
        """A name under which FFmpeg may open this file, whatever happens to its own."""
        return f"/proc/self/fd/{self.fd}"

    def checked(self, error: Exception | None = None) -> None:
        """Raise TargetError where the file system refused something, or `error` says that it did."""
        if self.error is None and isinstance(error, OSError) and error.errno in _REFUSALS:
            self.error = error
        if self.error is not None:
            raise TargetError(self.error)

    def settle(self) -> None:
        """Bring it to the disk. Raises TargetError."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise TargetError(error) from None

    def close(self) -> None:
        """FFmpeg closes what it was given: not this, for it is still looked at."""

    def end(self) -> None:
        """Close it. What FFmpeg still wants to write when it is let go of must not reach another file."""
        os.close(self.fd)
        self.fd = -1


class _Reader:
    name = "target, read"

    def __init__(self, target: TargetFile) -> None:
        self._target, self._at = target, 0

    def read(self, size: int) -> bytes:
        data = os.pread(self._target.fd, size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (os.fstat(self._target.fd).st_size if base is None else base)
        return self._at

    def tell(self) -> int:
        return self._at


def write_whole(path: bytes, data: bytes) -> None:
    """A small file, made anew and on the disk. Raises TargetError."""
    target = TargetFile(path, lambda: None)
    try:
        target.write(data)
        target.settle()
    except OSError as error:
        raise TargetError(error) from None
    finally:
        target.end()
