"""The file in which a restored one grows, and how it gets its name. One plain blocking step each: they run in threads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.storage import files
from streams.errors import RejectedError
from streams.paths import escape_path

SUFFIX = ".spoolhouse-part"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Appearing = Callable[[Path, int], None]
"""Told the path and the inode of a whole file just before it is seen there."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies where a file is to be."""

    whole: bool
    """It is that very file."""
    sha256: str
    """Empty where it need not be hashed to see that it is another."""
    inode: int


def part_path(target: Path) -> Path:
    """Where a file lies until it is whole: `.<name>.spoolhouse-part` beside its place."""
    name = f".{target.name}{SUFFIX}"
    if len(os.fsencode(name)) > 255:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}{SUFFIX}"
    return target.with_name(name)


def open_part(target: Path) -> int:
    """Open the part file of a target, ours alone for as long as it is open.

    Raises RejectedError (409) where someone else is at it, or it is none of ours, or there is no
    folder; OSError.
    """
    path = part_path(target)
    if not path.parent.is_dir():
        raise RejectedError(409, f"There is no folder {escape_path(str(path.parent))}: make it first.")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 1:
            raise RejectedError(409, f"{escape_path(str(path))} is no part file of this user's: remove it first.")
        _lock(fd, target)
        if not _is_there(fd, path):
            raise RejectedError(409, f"{escape_path(str(target))} was restored just now by someone else.")
    except BaseException:
        os.close(fd)
        raise
    return fd


def holds(fd: int, offset: int, size: int, sha256: str | None) -> bool:
    """Whether a file holds these bytes. Those whose hash no one knows are taken for it where there are enough."""
    end = offset + size
    if os.fstat(fd).st_size < end:
        return False
    if sha256 is None:
        return True
    digest = hashlib.sha256()
    while offset < end:
        data = os.pread(fd, min(files.READ, end - offset), offset)
        if not data:
            return False
        digest.update(data)
        offset += len(data)
    return digest.hexdigest() == sha256


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of it there. Raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def look(target: Path, size: int, sha256: str | None, md5: str | None) -> Found | None:
    """What lies at the place of a file: None for nothing. Raises RejectedError (409) for a folder, OSError."""
    try:
        status = os.stat(target, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise RejectedError(409, f"{escape_path(str(target))} is a folder: name a file.")
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        return Found(whole=False, sha256="", inode=status.st_ino)
    with open(target, "rb", buffering=0) as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
        whole = actual == sha256
        if sha256 is None:
            file.seek(0)
            whole = hashlib.file_digest(file, _md5).hexdigest() == md5
    return Found(whole, actual, status.st_ino)


def appear(target: Path, inode: int, *, force: bool, appearing: Appearing) -> None:
    """Give the whole part file its name, durably. Never over another file, unless forced.

    Raises RejectedError (409) where something came there meanwhile, OSError.
    """
    part = part_path(target)
    if force:
        appearing(target, inode)
        os.replace(part, target)
        files.fsync_folder(target.parent)
        return
    try:
        files.place(part, target.parent, [target.name], lambda path: appearing(path, inode), lambda: None)
    except FileExistsError:
        raise RejectedError(
            409, f"{escape_path(str(target))} has appeared meanwhile. Name another file, or --force."
        ) from None


def forget_link(target: Path) -> None:
    """Remove the part file of one who was killed between giving the file its name and taking the other away."""
    part = part_path(target)
    try:
        if os.path.samestat(os.lstat(part), os.lstat(target)):
            part.unlink()
    except FileNotFoundError:
        return


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """What the disk refused within the body, as a RejectedError (507, 500) that says what to do."""
    try:
        yield
    except OSError as error:
        folder = escape_path(str(target.parent))
        if error.errno in _FULL:
            raise RejectedError(
                507,
                f"The disk is full. Free some space in {folder} and run the same command again: "
                f"it goes on from what is there ({escape_path(part_path(target).name)}).",
            ) from error
        raise RejectedError(500, f"{folder}: {error.strerror or error}. Mend that and run it again.") from error


def _lock(fd: int, target: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RejectedError(
            409, f"Another restore of {escape_path(str(target))} is running: wait for it, or name another file."
        ) from None
    except OSError:
        return  # a file system without locks


def _is_there(fd: int, path: Path) -> bool:
    """Whether the file still has its name: whoever held the lock before may have given it the final one."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
