"""Reads a file once, in threads: its chunks with their hashes, and the hash of the whole beside them.

    async with opened(path) as original:
        async for chunk in original.chunks(size, chunk_size):
            ...
        original.sha256

While one chunk is with whoever asked for it, the next is read and hashed: two of them are in memory
at the most.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from processors.storage.threads import in_thread
from streams.paths import OsPath

LARGE = 2**20
"""Bytes from which a block of memory goes back to the system as soon as it is free."""

M_MMAP_THRESHOLD = -3
"""What glibc's `mallopt` calls that."""

SMALL = 256 * 1024
"""Bytes up to which a chunk is hashed where it is read: two more threads would cost more than they save."""


class ShrunkError(OSError):
    """The file ended before the bytes that it had when it was opened."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one content of a file from another without reading it."""

    size: int
    modified_ns: int
    """mtime, nanoseconds since the epoch."""
    inode: int
    links: int
    """Names that it has; 0: it was removed, or another file took its place."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of a file's bytes."""

    index: int
    """Dense from 0."""
    offset: int
    data: bytes
    sha256: str
    """Hex digest of `data`."""


class Original:
    """A file that is open for reading. Made by `opened`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._whole = hashlib.sha256()
        self._ahead: asyncio.Task[Chunk] | None = None

    @property
    def sha256(self) -> str:
        """Hex digest of all that `chunks` gave: of the whole file, once it has ended."""
        return self._whole.hexdigest()

    async def state(self) -> FileState:
        """What the open file is just now."""
        return await in_thread(self._state)

    async def chunks(self, size: int, chunk_size: int) -> AsyncGenerator[Chunk]:
        """The first `size` bytes in chunks of `chunk_size`, the last one shorter; none of an empty file.

        Raises ShrunkError where there are fewer bytes, OSError where the disk fails. Once only: the
        hash of the whole goes with it.
        """
        offsets = range(0, size, chunk_size)
        for index, offset in enumerate(offsets):
            if self._ahead is None:
                self._ahead = asyncio.create_task(self._read(index, offset, min(chunk_size, size - offset)))
            chunk = await asyncio.shield(self._ahead)  # a thread uses the file: it must end by itself
            self._ahead = None
            if (following := offset + chunk_size) < size:
                self._ahead = asyncio.create_task(self._read(index + 1, following, min(chunk_size, size - following)))
            yield chunk
            del chunk  # not kept while the next is waited for

    async def close(self) -> None:
        """Close it, once no thread reads it any more."""
        if self._ahead is not None:
            await asyncio.gather(self._ahead, return_exceptions=True)
        await in_thread(os.close, self._fd)

    async def _read(self, index: int, offset: int, size: int) -> Chunk:
        data = await in_thread(self._bytes, offset, size)
        if size <= SMALL:
            return Chunk(index, offset, data, await in_thread(self._both_hashes, index, data))
        if index == 0:
            return Chunk(index, offset, data, await in_thread(self._first_hash, data))
        sha256, _ = await asyncio.gather(in_thread(digest, data), in_thread(self._whole.update, data))
        return Chunk(index, offset, data, sha256)

    def _bytes(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) == size:
            return data
        parts = [data]
        read = len(data)
        while read < size:
            part = os.pread(self._fd, size - read, offset + read)
            if not part:
                raise ShrunkError(f"it ended {size - read} bytes before its end")
            parts.append(part)
            read += len(part)
        return b"".join(parts)

    def _first_hash(self, data: bytes) -> str:
        """The first chunk's hash is the whole's up to there."""
        self._whole.update(data)
        return self._whole.hexdigest()

    def _both_hashes(self, index: int, data: bytes) -> str:
        if index == 0:
            return self._first_hash(data)
        self._whole.update(data)
        return digest(data)

    def _state(self) -> FileState:
        found = os.fstat(self._fd)
        return FileState(found.st_size, found.st_mtime_ns, found.st_ino, found.st_nlink)


@asynccontextmanager
async def opened(path: OsPath, *, follow: bool = False) -> AsyncIterator[Original]:
    """A regular file, open while the body runs. Raises OSError; a symbolic link is refused unless it is to be followed."""
    _give_memory_back()
    opening = in_thread(_open, path, follow)
    try:
        fd = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    original = Original(fd)
    try:
        yield original
    finally:
        await _to_the_end(original.close())


def digest(data: bytes) -> str:
    """sha256 in hex. Blocks."""
    return hashlib.sha256(data).hexdigest()


def md5_of(data: bytes) -> str:
    """MD5 in hex: what object stores check on the way. Blocks."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@cache
def _give_memory_back() -> None:
    """Keep the process as small as its chunks are.

    Once a large block was freed, glibc takes others like it from a heap of each thread, and keeps
    them there: a few chunks in flight would come to be many in memory. Other libraries do not.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def _open(path: OsPath, follow: bool) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path!r} is no regular file")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close_late(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


async def _to_the_end(closing: Any) -> None:
    """Close even where whoever waits for it is cancelled: a thread may be reading."""
    task = asyncio.ensure_future(closing)
    _closings.add(task)
    task.add_done_callback(_closings.discard)
    await asyncio.shield(task)


_closings: set[asyncio.Future[None]] = set()
