"""Takes one file in: many small chunks become few large writes, hashed and verified on the way.

Three things go on at once: the sender's next chunks gather in memory, the last block is written
and hashed in threads, and behind both every 64 MiB are made durable, read back from the disk and
hashed again. So the end of a long upload is as short as that of a small one, and memory stays flat.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from processors.storage import files
from processors.storage.disk import NO_MARKS, Marks, refusal, require_space
from processors.storage.threads import in_thread
from streams.crashpoints import reach
from streams.errors import RejectedError

T = TypeVar("T")

BLOCK = 4 * 2**20
"""Bytes that are gathered before they are written."""

WINDOW = 64 * 2**20
"""Bytes that are made durable and read back at once."""

INCOMING = ".incoming"
"""Folder below the storage folder for what is on its way in."""

_closings: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file that lies whole on the disk, still under its temporary name."""

    size: int
    sha256: str
    """Hex digest of what the disk gave back, equal to that of what was sent."""
    device: int
    inode: int
    modified: float
    """Seconds since the epoch."""


class Incoming:
    """A file on its way in, made by `Incoming.open`. Leave it by `close`, whatever happened.

    `write` … `flush` → `seal` → `place`. Every step raises RejectedError with the status that a
    sender should see. A step that is cancelled leaves the file to `close`, which removes it.
    """

    def __init__(self, folder: Path, path: Path, fd: int, max_size: int, marks: Marks) -> None:
        self.folder, self.path = folder, path
        self.received = 0
        """Bytes so far."""
        self._fd, self._max_size, self._marks = fd, max_size, marks
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._written = self._settled = 0
        self._sent, self._read = hashlib.sha256(), hashlib.sha256()
        self._writing: asyncio.Future[Any] | None = None
        self._settling: asyncio.Future[None] | None = None
        self._placing: asyncio.Future[Path] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, folder: Path, name: str, *, max_size: int, expected_size: int | None = None, marks: Marks = NO_MARKS
    ) -> Incoming:
        """Begin to take a file in that will lie in `folder`. Raises RejectedError (413, 507, 500).

        `name` is what it is called by until then, unique among all that come in. `expected_size` is
        what the sender announced, where it did; it is not trusted but saves both sides the trouble
        of beginning what cannot end well. The disk keeps what `marks` ask for, also where others
        fill it meanwhile.
        """
        if expected_size is not None and expected_size > max_size:
            raise _too_large(max_size)
        path = temporary_path(folder, name)
        opening = in_thread(_open, path, expected_size or 0, marks)
        try:
            fd = await asyncio.shield(opening)
        except asyncio.CancelledError:
            _in_background(_forget(opening, path))
            raise
        except OSError as error:
            raise refusal(error, folder) from error
        return cls(folder, path, fd, max_size, marks)

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; waits while the disk is slower than the sender."""
        self.received += len(chunk)
        if self.received > self._max_size:
            raise _too_large(self._max_size)
        self._gathered.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
        self._gathered_size += len(chunk)
        if self._gathered_size >= BLOCK or len(self._gathered) >= files.VECTORS:
            await self._hand_over()

    async def flush(self) -> None:
        """Return once every byte taken is written, though not yet durable."""
        if self._gathered:
            await self._hand_over()
        await self._written_so_far()
        reach("storage.received")

    async def seal(self) -> Sealed:
        """Make the file durable and compare what the disk gives back with what was sent."""
        await self.flush()
        if self._settling is not None:
            await self._done(self._settling)
        self._settling = in_thread(self._settle_rest)
        await self._done(self._settling)
        stat = os.fstat(self._fd)
        if stat.st_size != self.received or self._read.digest() != self._sent.digest():
            raise RejectedError(
                500,
                f"What the disk under {self.folder} gave back is not what was sent: nothing was kept. "
                "Check that disk and send the file again.",
            )
        reach("storage.sealed")
        return Sealed(stat.st_size, self._read.hexdigest(), stat.st_dev, stat.st_ino, stat.st_mtime)

    async def place(self, names: Iterable[str], announce: Callable[[Path], None], withdraw: Callable[[], None]) -> Path:
        """Give the sealed file its name; see `files.place`. After this it stays, whatever happens."""
        self._placing = in_thread(files.place, self.path, self.folder, names, announce, withdraw)
        return await self._done(self._placing)

    async def close(self) -> None:
        """Let go of the file: one that was placed stays, any other is gone when this returns."""
        if self._closed:
            return
        self._closed = True
        self._gathered.clear()
        await asyncio.shield(_in_background(self._close()))

    async def _close(self) -> None:
        # A thread that still uses the descriptor must end before its number can mean another file.
        running = [job for job in (self._writing, self._settling, self._placing) if job is not None]
        await asyncio.gather(*running, return_exceptions=True)
        await in_thread(_discard, self._fd, self.path)

    async def _hand_over(self) -> None:
        await self._written_so_far()
        block, self._gathered = self._gathered, []
        size, self._gathered_size = self._gathered_size, 0
        self._writing = asyncio.gather(in_thread(self._write, block), in_thread(files.update_all, self._sent, block))
        self._written += size
        # Of what is written by now; the block just handed over belongs to the next window.
        end = self._written - size
        if end - self._settled >= WINDOW and (self._settling is None or self._settling.done()):
            if self._settling is not None:
                await self._done(self._settling)
            self._settling = in_thread(files.settle, self._fd, self._settled, end, self._read)
            self._settled = end

    async def _written_so_far(self) -> None:
        if self._writing is not None:
            await self._done(self._writing)

    async def _done(self, job: asyncio.Future[T]) -> T:
        try:
            return await asyncio.shield(job)
        except OSError as error:
            raise refusal(error, self.folder) from error

    def _write(self, block: list[bytes]) -> None:
        require_space(self.folder, 0, self._marks)
        files.write_all(self._fd, block)

    def _settle_rest(self) -> None:
        os.fsync(self._fd)
        files.settle(self._fd, self._settled, self._written, self._read)


def temporary_path(folder: Path, name: str) -> Path:
    """Where a file lies that is on its way into `folder`."""
    return folder / INCOMING / f"{name}{files.TEMPORARY}"


def _open(path: Path, size: int, marks: Marks) -> int:
    fd = files.create_temporary(path)
    try:
        require_space(path.parent.parent, size, marks)
    except BaseException:
        _discard(fd, path)
        raise
    return fd


def _discard(fd: int, path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(fd)


async def _forget(opening: asyncio.Future[int], path: Path) -> None:
    """The sender went while its file was being made."""
    with suppress(OSError, RejectedError):
        fd = await opening
        await in_thread(_discard, fd, path)


def _in_background(tidying: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Tidy up to the end even if whoever waits for it is cancelled."""
    task = asyncio.create_task(tidying)
    _closings.add(task)
    task.add_done_callback(_closings.discard)
    return task


def _too_large(limit: int) -> RejectedError:
    return RejectedError(413, f"The file is larger than the {limit} bytes that are allowed (SPOOLHOUSE_MAX_UPLOAD).")
