"""Reading a file once: chunks, hashes, and what becomes of files that change or are no files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from processors.storage.chunks import SMALL, Original, ShrunkError, opened
from streams.paths import OsPath
from tests.streams.driving import eventually


def named(path: Path) -> OsPath:
    """As events hold it."""
    return OsPath(str(path))


@pytest.mark.parametrize("chunk_size", [1000, SMALL, SMALL + 1, 3 * SMALL])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 5 * SMALL + 7])
async def test_chunks_and_hashes(tmp_path: Path, size: int, chunk_size: int) -> None:
    """They add up to the file, and so does the hash of the whole."""
    path = tmp_path / "file"
    content = os.urandom(size)
    path.write_bytes(content)
    async with opened(named(path)) as original:
        chunks = [chunk async for chunk in original.chunks(size, chunk_size)]
        assert original.sha256 == hashlib.sha256(content).hexdigest()
        assert (await original.state()).size == size
    assert [chunk.index for chunk in chunks] == list(range(-(-size // chunk_size)))
    assert [chunk.offset for chunk in chunks] == list(range(0, size, chunk_size))
    assert b"".join(chunk.data for chunk in chunks) == content
    for chunk in chunks:
        assert chunk.sha256 == hashlib.sha256(chunk.data).hexdigest()


async def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    """Nothing is made up for what is not there."""
    path = tmp_path / "file"
    path.write_bytes(bytes(2500))
    async with opened(named(path)) as original:
        chunks = original.chunks(3000, 1000)
        assert [len((await anext(chunks)).data) for _ in range(2)] == [1000, 1000]
        with pytest.raises(ShrunkError):
            await anext(chunks)


async def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """No link is followed, and a pipe keeps no one waiting."""
    (tmp_path / "link").symlink_to(__file__)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing", "."):
        with pytest.raises(OSError):
            async with opened(named(tmp_path / name)):
                pass


async def test_it_stays_open_while_a_thread_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is cancelled: its number must not mean another file before the thread has ended."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    reading, go_on = threading.Event(), threading.Event()
    read: list[int] = []
    plain = Original._bytes

    def slow(self: Original, offset: int, size: int) -> bytes:
        reading.set()
        assert go_on.wait(30)
        data = plain(self, offset, size)
        read.append(len(data))
        return data

    monkeypatch.setattr(Original, "_bytes", slow)
    fds: list[int] = []

    async def whole() -> None:
        async with opened(named(path)) as original, aclosing(original.chunks(100, 100)) as chunks:
            fds.append(original._fd)
            async for _ in chunks:
                pass

    task = asyncio.create_task(whole())
    await eventually(reading.is_set)
    task.cancel()
    await asyncio.sleep(0)
    assert os.fstat(fds[0]).st_size == 100
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert read == [100]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])
