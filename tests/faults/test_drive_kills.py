"""A worker that uploads to Drive is killed, frozen, and left without Drive: real processes, real signals.

`DRIVE_KILLS=50 DRIVE_KILLS_SIZE=500000000` makes it long.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from processors.copies import fold
from streams.entries import new_event
from streams.events import VideoStored
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.drive_server import DriveServer
from tests.processors.drive_world import bytes_sent
from tests.streams.driving import PATIENCE, ROOT, check_log, eventually, of_type

KILLS = int(os.environ.get("DRIVE_KILLS", "5"))
SIZE = int(os.environ.get("DRIVE_KILLS_SIZE", "60000000"))
CHUNK = 1_048_576
"""Bytes."""


class Worker:
    """`tests.faults.drive_worker` in a process of its own."""

    def __init__(self, url: str, drive: DriveServer, data: Path, member: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLHOUSE_")}
        environment |= drive.environment | {
            "SPOOLHOUSE_DATA": str(data),
            "SPOOLHOUSE_PARTITIONS": "1",
            "SPOOLHOUSE_LEASE_TTL": "1",
            "SPOOLHOUSE_DRIVE_CHUNK_SIZE": str(CHUNK),
            "PYTHONPATH": str(ROOT),
        }
        self.output = data.parent / f"{member}.log"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.drive_worker", url, member],
                cwd=data.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
        self.process.wait(PATIENCE)


@pytest.fixture
def start(redis_url: str, drive_server: DriveServer, tmp_path: Path) -> Iterator[Callable[[str], Worker]]:
    """Starts workers; they are gone in the end."""
    workers: list[Worker] = []

    def started(member: str = "worker") -> Worker:
        workers.append(Worker(redis_url, drive_server, tmp_path / "data", member))
        return workers[-1]

    yield started
    for worker in workers:
        worker.end(signal.SIGKILL)


@pytest.fixture
async def log(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[Log]:
    """The log that they work on."""
    async with open_log(make_settings(partitions=1), redis_url) as opened:
        yield opened


async def stored(log: Log, tmp_path: Path, size: int) -> tuple[str, str]:
    """A stored upload: its id and the sha256 of its bytes."""
    path = tmp_path / "20241112_143052_film.mp4"
    noise, digest, left = random.Random(size), hashlib.sha256(), size
    with path.open("wb") as file:
        while left:
            block = noise.randbytes(min(left, 2**22))
            digest.update(block)
            file.write(block)
            left -= len(block)
    video, now = str(uuid.uuid4()), datetime.now(UTC)
    event = VideoStored(
        door="upload",
        path=OsPath(str(path)),
        stored_name=path.name,
        filename="film.mp4",
        original_name="film.mp4",
        label="",
        mime="video/mp4",
        size=size,
        sha256=digest.hexdigest(),
        received_at=now,
        modified_at=now,
        revision=1,
    )
    await log.append(new_event(video, event, source="test"))
    return video, digest.hexdigest()


async def completed(log: Log, video: str) -> bool:
    """Whether its copy is whole."""
    copy = fold(await log.history(video)).drive_copy()
    return copy is not None and copy.completed is not None


async def check(log: Log, drive: DriveServer, video: str, sha256: str, *, failures: int = 0) -> None:
    """One file with the right bytes, one completion; the log is dense."""
    [file] = drive.files()
    assert file["sha256"] == sha256
    events = (await check_log(log))[video]
    assert [one.event.file_id for one in of_type(events, "DriveUploadCompleted")] == [file["id"]]
    assert len(of_type(events, "DriveUploadFailed")) == failures
    offsets = [one.event.offset for one in of_type(events, "DriveOffsetReached")]
    assert offsets == sorted(set(offsets))


async def test_killed_again_and_again(
    log: Log, drive_server: DriveServer, start: Callable[[], Worker], tmp_path: Path, rng: random.Random
) -> None:
    """SIGKILL at random points: one file, byte-equal, next to nothing sent twice."""
    drive_server.inject("^PUT", "slow", times=10**9, seconds=0.0, seconds_per_mib=0.01)
    video, sha256 = await stored(log, tmp_path, SIZE)
    for point in sorted(rng.uniform(0.0, 0.95) for _ in range(KILLS)):
        worker = start()

        async def far_enough(worker: Worker = worker, least: float = point * SIZE) -> bool:
            assert worker.process.poll() is None, worker.output.read_text()[-4000:]
            return bytes_sent(drive_server) >= least and "at work" in worker.output.read_text()

        await eventually(far_enough, every=rng.uniform(0.001, 0.03))
        worker.end(signal.SIGKILL)
    last = start()
    await eventually(lambda: completed(log, video), timeout=PATIENCE + SIZE / 5e6)
    last.end(signal.SIGTERM)
    assert last.process.returncode == 0
    await check(log, drive_server, video, sha256)
    assert bytes_sent(drive_server) - SIZE <= 4 * CHUNK * KILLS
    print(f"sent again: {(bytes_sent(drive_server) - SIZE) / CHUNK:.1f} chunks in {KILLS} kills")


async def test_two_workers_after_a_stalled_lease(
    log: Log, drive_server: DriveServer, start: Callable[[str], Worker], tmp_path: Path
) -> None:
    """One freezes in mid-upload, the other finishes it; the first wakes up, is fenced, and does no harm."""
    drive_server.inject("^PUT", "slow", times=10**9, seconds=0.0, seconds_per_mib=0.02)
    video, sha256 = await stored(log, tmp_path, 20 * CHUNK + 5)
    first = start("first")
    await eventually(lambda: bytes_sent(drive_server) > 4 * CHUNK)
    first.process.send_signal(signal.SIGSTOP)
    second = start("second")
    await eventually(lambda: bytes_sent(drive_server) > 8 * CHUNK)
    first.process.send_signal(signal.SIGCONT)
    await eventually(lambda: completed(log, video))
    for worker in (first, second):
        worker.end(signal.SIGTERM)
    await check(log, drive_server, video, sha256)


async def test_drive_comes_and_goes(
    log: Log, drive_server: DriveServer, start: Callable[[], Worker], tmp_path: Path
) -> None:
    """Killed and started again in mid-upload, twice: it goes on by itself, and says so once for each time."""
    drive_server.inject("^PUT", "slow", times=10**9, seconds=0.0, seconds_per_mib=0.02)
    video, sha256 = await stored(log, tmp_path, 20 * CHUNK)
    worker = start()

    async def failing() -> bool:
        return fold(await log.history(video)).failing

    for least in (3 * CHUNK, 10 * CHUNK):
        await eventually(lambda least=least: bytes_sent(drive_server) > least)
        drive_server.kill()
        await eventually(failing)
        drive_server.start()
        with contextlib.suppress(OSError):
            drive_server.inject("^PUT", "slow", times=10**9, seconds=0.0, seconds_per_mib=0.02)
    await eventually(lambda: completed(log, video))
    worker.end(signal.SIGTERM)
    await check(log, drive_server, video, sha256, failures=1)
    assert bytes_sent(drive_server) - 20 * CHUNK <= 2 * CHUNK


async def test_a_stopped_worker_leaves_a_clean_place(
    log: Log, drive_server: DriveServer, start: Callable[[], Any], tmp_path: Path
) -> None:
    """SIGTERM in mid-upload ends it between two chunks: nothing at all is sent again."""
    drive_server.inject("^PUT", "slow", times=10**9, seconds=0.0, seconds_per_mib=0.02)
    video, sha256 = await stored(log, tmp_path, 20 * CHUNK)
    for least in (2 * CHUNK, 10 * CHUNK):
        worker = start()
        await eventually(lambda least=least: bytes_sent(drive_server) > least)
        worker.end(signal.SIGTERM)
        assert worker.process.returncode == 0, worker.output.read_text()[-4000:]
    start()
    await eventually(lambda: completed(log, video))
    await check(log, drive_server, video, sha256)
    await eventually(lambda: bytes_sent(drive_server) >= 20 * CHUNK)
    assert bytes_sent(drive_server) == 20 * CHUNK
