"""Rebuilds a file from a copy: piece by piece, each compared with its hash, and then the whole.

It grows as `.<name>.spoolhouse-part` beside its place. Whoever is interrupted, for whatever reason,
runs it again: what the part file holds is hashed piece by piece, and only the rest is fetched. It
gets its name once it is whole and durable, and never takes the place of another file unasked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from processors.manifests import Part, at_once
from processors.storage import files, partfile
from processors.storage.disk import NO_MARKS, Marks, require_space
from processors.storage.partfile import Appearing
from processors.storage.threads import in_thread
from streams.crashpoints import reach
from streams.errors import DependencyDownError, RejectedError, SpoolhouseError, TransientError
from streams.paths import escape_path

T = TypeVar("T")

WINDOW = 32 * 2**20
"""Bytes after which what was written is made durable and read back."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between the tries for one piece, where its store fails."""


class DamagedCopyError(SpoolhouseError):
    """A copy cannot give the file back; the message names what is missing or wrong. Another copy may."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to be rebuilt, and where its bytes come from."""

    origin: str
    """For people: `s3://videos at …`."""
    size: int
    sha256: str | None
    """Of the whole; None where only the MD5 is known."""
    md5: str | None
    parts: Sequence[Part]
    """Dense from the first byte to the last."""
    fetch: Callable[[Part], Awaitable[bytes]]
    """The bytes of a piece. Raises DamagedCopyError, DependencyDownError, TransientError."""


@dataclass(frozen=True, slots=True)
class Telling:
    """Who wants to know how it goes."""

    advance: Callable[[int], None] = lambda _: None
    """So many bytes more are in place."""
    say: Callable[[str], None] = lambda _: None
    """Something that a person who waits should know."""


SILENT = Telling()


@dataclass(frozen=True, slots=True)
class Restored:
    """A file that is at its place, whole and durable."""

    path: Path
    size: int
    sha256: str
    fetched: int
    """Bytes that came from the copy; the rest lay in the part file already."""
    there_before: bool
    """It lay there whole: nothing was done."""


async def rebuild(
    wanted: Wanted,
    target: Path,
    *,
    force: bool = False,
    telling: Telling = SILENT,
    appearing: Appearing = lambda _path, _inode: None,
    marks: Marks = NO_MARKS,
) -> Restored:
    """Put a file at its place, from what lies there already and what the copy gives.

    Raises RejectedError (409: something else is there, or another restore is at it; 507: the disk is
    full; 500: the disk failed), DamagedCopyError, DependencyDownError, TransientError. The part file
    stays in every case but one: where the copy contradicts its own hashes.
    """
    with partfile.disk_errors(target):
        found = await _finished(in_thread(partfile.look, target, wanted.size, wanted.sha256, wanted.md5))
        if found is not None and found.whole:
            await _finished(in_thread(partfile.forget_link, target))
            await _finished(in_thread(appearing, target, found.inode))
            return Restored(target, wanted.size, found.sha256, 0, there_before=True)
        if found is not None and not force:
            raise RejectedError(
                409, f"{escape_path(str(target))} is there already and is another file. Name another one, or --force."
            )
        async with _part_file(target) as fd:
            await _finished(in_thread(_make_room, fd, target.parent, wanted.size, marks))
            sha256, fetched = await _filled(fd, wanted, telling, partfile.part_path(target))
            reach("restore.verified")
            inode = os.fstat(fd).st_ino
            await _finished(in_thread(partfile.appear, target, inode, force=force, appearing=appearing))
        reach("restore.placed")
        return Restored(target, wanted.size, sha256, fetched, there_before=False)


class _WholeDiffersError(DamagedCopyError):
    """Every piece is there, and together they are another file."""


async def _filled(fd: int, wanted: Wanted, telling: Telling, path: Path) -> tuple[str, int]:
    """Fill the part file; the whole content's sha256, and how many bytes were fetched."""
    for last in (False, True):
        try:
            return await _fill(fd, wanted, telling)
        except _WholeDiffersError:
            if last or all(part.sha256 for part in wanted.parts):
                await _finished(in_thread(path.unlink))
                raise
        # What lay there could not be compared piece by piece, and may have been of another file.
        telling.say(f"what lies in {escape_path(str(path))} is not of this file: beginning anew")
        await _finished(in_thread(os.ftruncate, fd, 0))
    raise AssertionError


async def _fill(fd: int, wanted: Wanted, telling: Telling) -> tuple[str, int]:
    """Keep or fetch every piece, in order. What is hashed as the whole is read back from the disk."""
    digests = _Digests(with_md5=wanted.sha256 is None)
    settled = fetched = 0
    waiting: deque[tuple[Part, asyncio.Task[bytes | None]]] = deque()
    following, width = iter(wanted.parts), at_once(wanted.parts)
    try:
        while True:
            while len(waiting) < width and (part := next(following, None)) is not None:
                waiting.append((part, asyncio.create_task(_obtained(fd, wanted, part, telling))))
            if not waiting:
                break
            part, job = waiting[0]
            data = await job
            waiting.popleft()
            if data is not None:
                await _finished(in_thread(partfile.write_at, fd, data, part.offset))
                fetched += len(data)
                reach("restore.part_written")
            del data, job
            telling.advance(part.size)
            written = part.offset + part.size
            if written - settled >= WINDOW:
                await _finished(in_thread(files.settle, fd, settled, written, digests))
                settled = written
    finally:
        for _, job in waiting:
            job.cancel()
        # Also waits for the threads that hash what the file holds: its descriptor must outlive them.
        await asyncio.gather(*(job for _, job in waiting), return_exceptions=True)
    await _finished(in_thread(_settle_rest, fd, settled, wanted.size, digests))
    if fault := digests.compare(wanted):
        raise _WholeDiffersError(f"The pieces that {wanted.origin} gives do not make the file: {fault}.")
    return digests.sha256.hexdigest(), fetched


async def _obtained(fd: int, wanted: Wanted, part: Part, telling: Telling) -> bytes | None:
    """A piece from the copy; None where the part file holds it."""
    if await _finished(in_thread(partfile.holds, fd, part.offset, part.size, part.sha256)):
        return None
    data = await _fetched(wanted, part, telling)
    if not await in_thread(_wrong, data, part):
        return data
    data = await _fetched(wanted, part, telling)  # a byte may have turned on its way
    if wrong := await in_thread(_wrong, data, part):
        raise DamagedCopyError(f"Piece {part.index} from {wanted.origin} is damaged: {wrong}.")
    return data


async def _fetched(wanted: Wanted, part: Part, telling: Telling) -> bytes:
    for pause in PAUSES:
        try:
            return await wanted.fetch(part)
        except (DependencyDownError, TransientError) as error:
            telling.say(f"{error}; trying again in {pause:g} s")
            await asyncio.sleep(pause)
    return await wanted.fetch(part)


def _wrong(data: bytes, part: Part) -> str:
    """What is wrong with a piece, in words; empty: nothing."""
    if len(data) != part.size:
        return f"it has {len(data)} bytes and should have {part.size}"
    if part.sha256 is not None and (actual := hashlib.sha256(data).hexdigest()) != part.sha256:
        return f"its sha256 is {actual} and should be {part.sha256}"
    return ""


class _Digests:
    """The hashes of the whole: sha256, and MD5 where nothing else is known to compare with."""

    def __init__(self, *, with_md5: bool) -> None:
        self.sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

    def update(self, data: Any) -> None:
        self.sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)

    def compare(self, wanted: Wanted) -> str:
        """What differs, in words; empty: nothing."""
        if wanted.sha256 is not None and (actual := self.sha256.hexdigest()) != wanted.sha256:
            return f"its sha256 is {actual} and should be {wanted.sha256}"
        if self._md5 is not None and (actual := self._md5.hexdigest()) != wanted.md5:
            return f"its MD5 is {actual} and should be {wanted.md5}"
        return ""


def _settle_rest(fd: int, settled: int, size: int, digests: _Digests) -> None:
    os.fsync(fd)
    files.settle(fd, settled, size, digests)


def _make_room(fd: int, folder: Path, size: int, marks: Marks) -> None:
    """Refuse at once what cannot fit; cut what is too long."""
    there = os.fstat(fd).st_size
    if there > size:
        os.ftruncate(fd, size)
    require_space(folder, max(0, size - there), marks)


@asynccontextmanager
async def _part_file(target: Path) -> AsyncIterator[int]:
    """The part file, open and ours alone while the body runs."""
    fd = await _finished(in_thread(partfile.open_part, target))
    try:
        yield fd
    finally:
        os.close(fd)


async def _finished(job: asyncio.Future[T]) -> T:
    """Wait for a thread to its end, even when cancelled: it uses a descriptor that is closed after."""
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        raise
