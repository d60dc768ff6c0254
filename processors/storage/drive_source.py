"""The local file that is copied to Drive: read once, with its MD5, and known to be the same from start to end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from processors.copies import Copies
from processors.storage.threads import in_thread
from streams.errors import TransientError

PART = 32 * 2**20
"""Bytes that are hashed in one go before someone looks whether to stop."""

BUFFER = 2**20

_HASHING = ThreadPoolExecutor(2, thread_name_prefix="sha256")
"""For the second of two hashes; nothing in it waits for anything."""


class ChangedError(Exception):
    """It is no longer the file that settled: the next revision will be announced."""


class GoneError(TransientError):
    """There is no file at its path."""


@asynccontextmanager
async def open_source(facts: Copies) -> AsyncIterator[Source]:
    """The file of a video's current revision.

    Raises ChangedError where another file lies there by now, GoneError where none does, TransientError
    where it cannot be read.
    """
    source = Source(await in_thread(_open, facts), facts)
    try:
        yield source
    finally:
        await source.close()


class Source:
    """An open file and the MD5 of what was read of it; the next chunk is read while one is being sent."""

    def __init__(self, fd: int, facts: Copies) -> None:
        self._fd, self._facts = fd, facts
        self.size = facts.size
        self._opened = _identity(os.fstat(fd))
        self._md5 = hashlib.md5(usedforsecurity=False)
        # Only of an upload it is known beforehand: of a watched file whatever settled is right.
        self._sha256 = hashlib.sha256() if facts.door != "watch" and facts.sha256 else None
        self._hashed = 0
        self._ahead: tuple[int, asyncio.Future[bytes]] | None = None

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes at `offset`: `length`, or what there is. What lies before must have been read, or caught up with.

        Raises ChangedError where the file has become shorter, TransientError where it cannot be read.
        """
        ahead, self._ahead = self._ahead, None
        data = await ahead[1] if ahead else None
        if data is None or ahead is None or ahead[0] != offset or len(data) != min(length, self.size - offset):
            data = await in_thread(self._read, offset, length)
        if offset + len(data) < self.size:
            self._ahead = offset + len(data), in_thread(self._read, offset + len(data), length)
        return data

    async def md5(self, beat: Callable[[], None]) -> str:
        """MD5 of the whole file, hex; reads what was not read yet. `beat` is called now and then."""
        await self.catch_up(self.size, beat)
        return self._md5.hexdigest()

    @property
    def as_stored(self) -> bool:
        """Whether it has the content that was stored, as far as that is known; to be asked after `md5`."""
        return self._sha256 is None or self._sha256.hexdigest() == self._facts.sha256

    async def catch_up(self, offset: int, beat: Callable[[], None]) -> None:
        """Hash what lies before `offset`, which an earlier run sent. `beat` may raise to end it."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead[1]])
        while self._hashed < offset:
            beat()
            await in_thread(self._hash, min(offset, self._hashed + PART))

    async def unchanged(self) -> bool:
        """Whether what was read is what had settled, and nothing else lies at its path by now."""
        return await in_thread(self._unchanged)

    async def close(self) -> None:
        """Close the file, once nobody reads it any more."""
        ahead, self._ahead = self._ahead, None
        try:
            if ahead is not None:
                await asyncio.wait([ahead[1]])
                ahead[1].exception()  # nobody wants to know
        finally:
            os.close(self._fd)

    def _read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length and (more := os.pread(self._fd, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise TransientError(f"the local file cannot be read: {error.strerror}") from None
        if len(data) < length:
            raise ChangedError("the local file is shorter than it was")
        if offset <= self._hashed < offset + length:
            new = memoryview(data)[self._hashed - offset :]
            self._update(new)
            self._hashed = offset + length
        return data

    def _update(self, new: memoryview) -> None:
        if self._sha256 is None:
            self._md5.update(new)
            return
        beside = _HASHING.submit(self._sha256.update, new)  # both let go of the interpreter while they work
        self._md5.update(new)
        beside.result()

    def _hash(self, end: int) -> None:
        while self._hashed < end:
            self._read(self._hashed, min(BUFFER, end - self._hashed))

    def _unchanged(self) -> bool:
        if _identity(os.fstat(self._fd)) != self._opened:
            return False
        try:
            return _identity(os.stat(self._facts.path or "")) == self._opened
        except FileNotFoundError:
            return True  # it was taken away, which does not change what was read
        except OSError as error:
            raise TransientError(f"the local file cannot be looked at: {error.strerror}") from None


def _open(facts: Copies) -> int:
    path = facts.path
    assert path is not None
    # A link below a watched root was taken for what it points to; what is opened must be just that file.
    follow = 0 if facts.door == "watch" else os.O_NOFOLLOW
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow)
    except (FileNotFoundError, NotADirectoryError):
        raise GoneError("the local file is not there") from None
    except OSError as error:
        raise TransientError(f"the local file cannot be opened: {error.strerror}") from None
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and _settled(facts, found):
        return fd
    os.close(fd)
    if facts.door == "watch":
        raise ChangedError("another file lies there by now")
    raise TransientError(f"the local file has {found.st_size} bytes, but {facts.size} were stored")


def _settled(facts: Copies, found: os.stat_result) -> bool:
    """Whether it is the file of the event: of an upload its size is known, of a watched one what identifies it."""
    if found.st_size != facts.size:
        return False
    return facts.door != "watch" or (found.st_mtime_ns, found.st_ino) == (facts.modified_ns, facts.inode)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
