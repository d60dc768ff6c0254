"""Receiving a file: whole and verified, or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import time
from pathlib import Path

import pytest

from processors.storage import files, receiving
from processors.storage.receiving import Incoming
from streams.errors import RejectedError

BIG = 2**40


async def take(folder: Path, data: bytes, name: str = "a.mp4", chunk: int = 65536) -> Path:
    """Receive `data` into `folder` under `name`."""
    incoming = await Incoming.open(folder, f"in-{random.random()}", max_size=BIG)
    try:
        for at in range(0, len(data), chunk):
            await incoming.write(data[at : at + chunk])
        sealed = await incoming.seal()
        assert (sealed.size, sealed.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        return await incoming.place([name, f"2{name}", f"3{name}"], lambda _: None, lambda: None)
    finally:
        await incoming.close()


def left_in(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("size", [1, 65536, 4 * 2**20, 4 * 2**20 + 1, 13_000_001])
async def test_what_was_sent_lies_on_disk(tmp_path: Path, size: int) -> None:
    """Any size, verified, under its name, with nothing beside it."""
    data = random.Random(size).randbytes(size)
    path = await take(tmp_path / "not" / "there" / "yet", data)
    assert path.read_bytes() == data
    assert left_in(path.parent) == ["a.mp4"]


async def test_windows_are_settled_while_it_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several windows, each read back once, give the same hash."""
    monkeypatch.setattr(receiving, "BLOCK", 10_000)
    monkeypatch.setattr(receiving, "WINDOW", 50_000)
    data = random.Random(1).randbytes(1_234_567)
    assert (await take(tmp_path, data, chunk=3_333)).read_bytes() == data


async def test_tiny_chunks_and_other_buffers_are_taken(tmp_path: Path) -> None:
    """One byte at a time, and buffers that the sender uses again."""
    incoming = await Incoming.open(tmp_path, "x", max_size=BIG)
    buffer = bytearray(b"abc")
    for _ in range(2000):
        await incoming.write(b"z")
    await incoming.write(buffer)
    buffer[:] = b"xyz"
    await incoming.write(memoryview(buffer))
    sealed = await incoming.seal()
    assert sealed.sha256 == hashlib.sha256(b"z" * 2000 + b"abcxyz").hexdigest()
    await incoming.close()


async def test_a_name_that_is_taken_is_never_overwritten(tmp_path: Path) -> None:
    """The next name is used, whatever lies under the first: also a link that leads nowhere."""
    (tmp_path / "a.mp4").symlink_to("/nowhere")
    (tmp_path / "2a.mp4").write_bytes(b"mine")
    assert (await take(tmp_path, b"new")).name == "3a.mp4"
    assert (tmp_path / "2a.mp4").read_bytes() == b"mine"


async def test_two_who_want_one_name_at_once_both_get_one(tmp_path: Path) -> None:
    """Side by side, three of one name."""
    paths = await asyncio.gather(*(take(tmp_path, bytes([i]) * 1000) for i in range(3)))
    assert {path.name for path in paths} == {"a.mp4", "2a.mp4", "3a.mp4"}
    assert {path.read_bytes()[0] for path in paths} == {0, 1, 2}


async def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some network file systems: still no overwriting."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a.mp4").write_bytes(b"mine")
    path = await take(tmp_path, b"new")
    assert (path.name, path.read_bytes()) == ("2a.mp4", b"new")
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"
    assert left_in(tmp_path) == ["2a.mp4", "a.mp4"]


async def test_too_large_is_413_at_once_and_while_it_comes(tmp_path: Path) -> None:
    """Announced or not."""
    with pytest.raises(RejectedError) as caught:
        await Incoming.open(tmp_path, "x", max_size=10, expected_size=11)
    assert caught.value.status == 413
    incoming = await Incoming.open(tmp_path, "x", max_size=10)
    await incoming.write(b"0123456789")
    with pytest.raises(RejectedError) as caught:
        await incoming.write(b"x")
    assert caught.value.status == 413
    await incoming.close()
    assert left_in(tmp_path) == []


async def test_a_full_disk_is_507_and_leaves_nothing(tmpfs: Path) -> None:
    """Noticed while writing; and beforehand where the size is known."""
    with pytest.raises(RejectedError) as caught:
        await take(tmpfs, bytes(12 * 2**20))
    assert caught.value.status == 507
    assert left_in(tmpfs) == []
    with pytest.raises(RejectedError) as caught:
        await Incoming.open(tmpfs, "x", max_size=BIG, expected_size=100 * 2**20)
    assert caught.value.status == 507
    assert left_in(tmpfs) == []
    assert (await take(tmpfs, bytes(2**20))).stat().st_size == 2**20


async def test_a_disk_that_gives_back_other_bytes_is_noticed(tmp_path: Path) -> None:
    """What is read back is compared, not trusted."""
    incoming = await Incoming.open(tmp_path, "x", max_size=BIG)
    await incoming.write(b"a" * 100_000)
    await incoming.flush()
    with open(incoming.path, "r+b") as file:
        file.seek(50_000)
        file.write(b"b")
    with pytest.raises(RejectedError) as caught:
        await incoming.seal()
    assert caught.value.status == 500
    await incoming.close()
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("number", "status"), [(errno.EDQUOT, 507), (errno.EIO, 500), (errno.EROFS, 500)])
@pytest.mark.parametrize("step", ["writev", "fdatasync", "preadv", "link"])
async def test_an_error_at_any_step_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, status: int
) -> None:
    """507 for what is full, 500 for the rest."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(RejectedError) as caught:
        await take(tmp_path, b"x" * 10_000)
    assert caught.value.status == status
    assert left_in(tmp_path) == []


async def test_no_permission_is_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be written to."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(RejectedError) as caught:
        await take(blocked, b"x")
    assert caught.value.status == 500


async def test_a_client_that_goes_at_any_moment_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled after every number of steps of the event loop: a whole file, or none."""
    monkeypatch.setattr(receiving, "BLOCK", 10_000)
    monkeypatch.setattr(receiving, "WINDOW", 20_000)
    data = random.Random(3).randbytes(100_000)
    whole = 0
    for steps in range(120):
        folder = tmp_path / str(steps)
        task = asyncio.create_task(take(folder, data, chunk=5_000))
        for _ in range(steps):
            await asyncio.sleep(0 if steps % 3 else 0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*receiving._closings)
        assert left_in(folder) in ([], ["a.mp4"])
        if left_in(folder):
            assert (folder / "a.mp4").read_bytes() == data
            whole += 1
    assert whole < 120


async def test_what_a_dead_process_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    """The lock tells them apart."""
    folder = tmp_path / receiving.INCOMING
    incoming = await Incoming.open(tmp_path, "alive", max_size=BIG)
    (folder / "dead.tmp").write_bytes(b"half")
    (folder / "other").write_bytes(b"not ours")
    assert [path.name for path in files.sweep(folder, now=time.time())] == ["dead.tmp"]
    assert incoming.path.exists()
    await incoming.close()
    assert left_in(folder) == ["other"]
    assert files.sweep(tmp_path / "nowhere", now=time.time()) == []
