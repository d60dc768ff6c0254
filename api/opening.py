"""Files that may be shown: opened below one folder, never through a link, and known by what they held then."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from aiohttp import web

from streams.errors import DependencyDownError

T = TypeVar("T")

THREADS = 8
"""Files that are opened, and pieces that are read from a slow disk, side by side."""

KEEP = 30.0
"""Seconds for which a file stays open once it was opened; one that is deleted is noticed all the same."""

KEPT_OPEN = 64
"""Files that stay open so."""

PATIENCE = 30.0
"""Seconds after which a disk that does not answer is given up."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not blocking: opening a named pipe must not wait for somebody to write into it."""


class OpenFile:
    """A regular file, open for reading while anyone holds it: `with file:`.

    It stays the same file when another takes its name.
    """

    def __init__(self, descriptor: int) -> None:
        """Owns the descriptor from now on."""
        self.descriptor = descriptor
        self._was = _looks(descriptor)
        self._holders = 0

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._was[0]

    @property
    def unchanged(self) -> bool:
        """Whether nobody has written into it since."""
        return _looks(self.descriptor) == self._was

    @property
    def there(self) -> bool:
        """Whether, besides, it still has a name: it was neither deleted nor replaced."""
        return self.unchanged and os.fstat(self.descriptor).st_nlink > 0

    def at_hand(self, start: int, count: int) -> bool:
        """Whether both ends of a piece can be had without waiting for the disk."""
        byte = bytearray(1)
        try:
            return all(
                os.preadv(self.descriptor, [byte], place, os.RWF_NOWAIT) == 1 for place in (start, start + count - 1)
            )
        except OSError:  # the disk would be asked; or this file system cannot tell
            return False

    def read_cached(self, start: int, count: int) -> bytes | None:
        """These bytes, if they can be had without waiting for the disk."""
        found = bytearray(count)
        try:
            return bytes(found) if os.preadv(self.descriptor, [found], start, os.RWF_NOWAIT) == count else None
        except OSError:
            return None

    def read(self, start: int, count: int) -> bytes:
        """These bytes; fewer where the file has become shorter. May wait for the disk."""
        return os.pread(self.descriptor, count, start)

    def hold(self) -> Self:
        """Whoever holds it lets go of it again, or asks with `with`."""
        self._holders += 1
        return self

    def let_go(self) -> None:
        """The last one gives the descriptor back."""
        self._holders -= 1
        if self._holders <= 0 and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self.hold()

    def __exit__(self, *_: object) -> None:
        self.let_go()


def open_below(root: Path, path: str | Path, size: int | None = None) -> OpenFile | None:
    """The regular file at `path`, if it lies in `root` or in folders below and has `size` bytes; else None.

    No part of the way below `root` may be a link, whoever puts one there and whenever: each folder
    is opened from the one before.
    """
    try:
        parts = Path(path).relative_to(root).parts
    except ValueError:
        return None
    if not parts or ".." in parts or "\0" in str(path):
        return None
    try:
        with _folder(root, parts[:-1]) as folder:
            descriptor = os.open(parts[-1], _FLAGS, dir_fd=folder)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    opened = OpenFile(descriptor)
    if size is not None and opened.size != size:
        opened.let_go()
        return None
    return opened


class Reader:
    """Asks the disk in threads of its own: uploads that are hashed meanwhile keep the common ones busy.

    What was opened stays open for a while: a player asks for the next range of the same film.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reading")
        self.turn = asyncio.Lock()
        """Held while one slice is handed to the kernel: one in each round of the loop, so that however many are
        sent something, whoever asks meanwhile waits for a slice or two, and not for one of everybody's."""
        self._kept: dict[tuple[Path, str, int, str], OpenFile] = {}

    async def open(self, root: Path, path: str, size: int, sha256: str) -> OpenFile | None:
        """The file as `open_below` gives it, which should be this content. Raises DependencyDownError.

        It is the caller's for as long as nothing is awaited: hold it at once.
        """
        key = (root, path, size, sha256)
        if (kept := self._kept.get(key)) is not None:
            if kept.there:
                return kept
            self._forget(key, kept)
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._threads, open_below, root, path, size)
        try:
            opened = await _in_time(opening)
        except BaseException:
            opening.add_done_callback(_put_back)
            raise
        if opened is not None and key not in self._kept and len(self._kept) < KEPT_OPEN:
            self._kept[key] = opened.hold()
            loop.call_later(KEEP, self._forget, key, opened)
        return opened

    async def fetch(self, file: OpenFile, start: int, count: int) -> bytes:
        """These bytes, beside the loop unless they are at hand; fewer where the file has become shorter.

        Raises DependencyDownError.
        """
        found = file.read_cached(start, count)
        return await self.do(lambda: file.read(start, count)) if found is None else found

    async def bring(self, file: OpenFile, start: int, count: int) -> None:
        """See to it that the disk need not be waited for when these bytes are sent. Raises DependencyDownError."""
        if not file.at_hand(start, count):
            await self.do(lambda: file.read(start, count))

    async def do(self, what: Callable[[], T]) -> T:
        """Anything that asks the disk. Raises DependencyDownError."""
        return await _in_time(asyncio.get_running_loop().run_in_executor(self._threads, what))

    def close(self) -> None:
        """Take nothing more."""
        for key, kept in list(self._kept.items()):
            self._forget(key, kept)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, key: tuple[Path, str, int, str], file: OpenFile) -> None:
        if self._kept.get(key) is file:
            del self._kept[key]
            file.let_go()


READER = web.AppKey("reader", Reader)


async def _in_time(work: asyncio.Future[T]) -> T:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.shield(work)
    except TimeoutError:
        raise DependencyDownError(
            "disk",
            f"The disk did not answer within {PATIENCE:.0f} seconds: is it a network file system that went away?",
        ) from None


def _put_back(opening: asyncio.Future[OpenFile | None]) -> None:
    """Close what nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None and (opened := opening.result()) is not None:
        opened.let_go()


@contextmanager
def _folder(root: Path, below: tuple[str, ...]) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for name in below:
            inner = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _looks(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns
