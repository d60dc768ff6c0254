"""What receiving does to the disk, one plain blocking step each. They run in threads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import structlog

from streams.crashpoints import reach

_log = structlog.get_logger(__name__)

READ = 4 * 2**20
"""Bytes that are read back at once."""

VECTORS = 1024
"""Buffers that one `writev` takes on Linux."""

TEMPORARY = ".tmp"
"""How the name of a file ends that is on its way in."""

ABANDONED = 24 * 3600.0
"""Seconds without a write after which a half received file is taken for dead, where locks are unknown."""

# Some network file systems cannot fsync a folder, and need not.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
# File systems without hard links say one of these.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES})


def create_temporary(path: Path) -> int:
    """Make a new empty file, and its folder; returns it open, and locked for as long as it is open.

    The lock tells a file that is on its way in from one that a dead process left behind.
    """
    make_folder(path.parent)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BlockingIOError:
            pass  # a clean-up was quicker than the lock
        except OSError:
            return fd  # locks are not known here: clean-up then goes by age
        os.close(fd)
        path.unlink(missing_ok=True)


def is_held(path: Path) -> bool | None:
    """Whether a living process is still taking this file in; None where the file system knows no locks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def write_all(fd: int, blocks: Sequence[bytes]) -> None:
    """Write blocks at the end of what was written, wholly. Raises OSError."""
    waiting = [memoryview(block) for block in blocks if block]
    while waiting:
        written = os.writev(fd, waiting[:VECTORS])
        if not written:
            raise OSError(errno.EIO, "the disk takes no more bytes and does not say why")
        done = 0
        while done < len(waiting) and written >= len(waiting[done]):
            written -= len(waiting[done])
            done += 1
        del waiting[:done]
        if written:
            waiting[0] = waiting[0][written:]


def update_all(digest: Any, blocks: Iterable[bytes]) -> None:
    """Feed blocks to a hash."""
    for block in blocks:
        digest.update(block)


def settle(fd: int, start: int, end: int, digest: Any) -> None:
    """Make a range durable, drop it from memory, and feed what the disk then gives back to a hash.

    Reading without dropping it first would only prove that memory works. Raises OSError, also when
    there are fewer bytes than were written.
    """
    os.fdatasync(fd)
    os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_DONTNEED)
    buffer = memoryview(bytearray(min(READ, max(1, end - start))))
    while start < end:
        count = os.preadv(fd, [buffer[: end - start]], start)
        if not count:
            raise OSError(errno.EIO, "the disk gave back fewer bytes than were written to it")
        digest.update(buffer[:count])
        start += count


def digest_of(path: Path) -> str:
    """sha256 of a file's content, as hex digits. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place(
    temporary: Path,
    folder: Path,
    names: Iterable[str],
    announce: Callable[[Path], None],
    withdraw: Callable[[], None],
) -> Path:
    """Give a complete file its name in `folder`: the first of `names` that is free. Durable on return.

    Never overwrites. `announce` is told the path just before the file appears there, `withdraw`
    when it did not after all. Raises OSError; then the file is nowhere but in `temporary`.
    """
    for name in names:
        final = folder / name
        if os.path.lexists(final):
            continue
        try:
            announce(final)
            reach("storage.announced")
            try:
                appear(temporary, final)
            except FileExistsError:
                continue
            reach("storage.linked")
            try:
                fsync_folder(folder)
            except OSError:
                final.unlink(missing_ok=True)
                raise
        except BaseException:
            withdraw()
            raise
        reach("storage.placed")
        temporary.unlink(missing_ok=True)
        return final
    withdraw()
    raise FileExistsError(errno.EEXIST, "every name for it is taken")


def appear(temporary: Path, final: Path) -> None:
    """Let a file be seen under its final name, too, or raise FileExistsError. Not durable yet."""
    try:
        os.link(temporary, final)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    # No hard links here: take the name first, then put the file over our own empty one.
    os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        os.rename(temporary, final)
    except OSError:
        final.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, durably; nothing happens where it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file whole, replacing what is there; durable on return.

    Raises OSError, and then what was there before is there still.
    """
    make_folder(path.parent)
    temporary = path.parent / f".{path.stem}.{uuid.uuid4().hex}{TEMPORARY}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        fsync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path, *, now: float) -> list[Path]:
    """Remove what dead processes left half received in `folder`; say which.

    `now` is in seconds since the epoch. Where locks are unknown, what was not written to for a day
    is taken for dead.
    """
    removed = []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    for entry in entries:
        path = Path(entry.path)
        if not entry.name.endswith(TEMPORARY):
            continue
        try:
            held = is_held(path)
            if held or (held is None and now - entry.stat(follow_symlinks=False).st_mtime < ABANDONED):
                continue
            path.unlink()
            removed.append(path)
        except OSError as error:
            _log.warning("a half received file could not be removed", path=str(path), error=str(error))
    return removed
