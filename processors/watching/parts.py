"""Reads parts of files below a root that others write to: nothing about them changes, and no one is kept waiting.

Everything here blocks: call it in threads.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

from processors.watching.comparing import Found
from processors.watching.scanning import resolve_inside


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file."""

    data: bytes
    sha256: str
    """Hex."""
    md5: str
    """Hex."""
    found: Found
    """The file as it was when the part had been read."""


def read_part(root: str, relative: str, offset: int, size: int) -> Part | None:
    """`size` bytes at `offset`; None where they are not all there (yet), or not ours to read.

    What was reserved and not written yet is a hole, and a hole is not there: whoever copies a file
    sets its length first, sometimes.
    """
    real = resolve_inside(root, relative)
    if real is None:
        return None
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.lseek(fd, offset, os.SEEK_HOLE) < offset + size:
            return None
        data = _read(fd, offset, size)
        status = os.fstat(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) < size or status.st_size < offset + size:
        return None
    found = Found(status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return Part(data, hashlib.sha256(data).hexdigest(), md5, found)


def vanished(root: str, relative: str, device: int) -> bool:
    """Whether a file is gone for certain; `device` is what its folder lies on.

    An unmounted folder is gone as well, and its files are not: whatever is left of the path must
    lie on the same file system.
    """
    path = os.path.join(root, relative)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return folder_device(root, relative) == device
    except OSError:
        return False
    return False


def folder_device(root: str, relative: str) -> int | None:
    """The device of what is there of a file's folder; None where the root itself is not."""
    folder = os.path.dirname(os.path.join(root, relative))
    while len(folder) >= len(root):
        try:
            return os.stat(folder).st_dev
        except (FileNotFoundError, NotADirectoryError):
            folder = os.path.dirname(folder)
        except OSError:
            return None
    return None


def _read(fd: int, offset: int, size: int) -> bytes:
    """As many of the bytes as there are."""
    pieces: list[bytes] = []
    while size and (piece := os.pread(fd, size, offset)):
        pieces.append(piece)
        offset, size = offset + len(piece), size - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
