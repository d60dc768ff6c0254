"""Workers that copy are killed and frozen: the copy ends byte-equal, and little is sent twice.

`SPOOLHOUSE_KILLS` and `SPOOLHOUSE_KILL_MB` make it as long as wanted (50 kills and 500 MB, say).
"""

from __future__ import annotations

import ast
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from processors.copies import chunk_key
from streams.identity import stream_id
from streams.log import Log, open_log
from streams.settings import Settings
from tests.processors.replicating import (
    check_copy,
    completed,
    copied,
    facts_of,
    new_video,
    noise,
    settled,
    stored,
    tell,
    types,
)
from tests.s3_faults import S3Faults
from tests.streams.driving import ROOT, check_log, eventually
from tests.swift import SwiftServer

MIB = 2**20
KILLS = int(os.environ.get("SPOOLHOUSE_KILLS", "5"))
SIZE = int(os.environ.get("SPOOLHOUSE_KILL_MB", "60")) * MIB
CHUNK = max(64 * 1024, SIZE // (KILLS * 12))
IN_FLIGHT = 4

Worker = AbstractContextManager[subprocess.Popen[bytes]]


@pytest.fixture
def faults(s3_server: SwiftServer) -> Iterator[S3Faults]:
    """The S3 server, with someone who counts before it."""
    with S3Faults(s3_server.url) as found:
        yield found


@pytest.fixture
def settings(s3_env: dict[str, str], faults: S3Faults, make_settings: Callable[..., Settings]) -> Settings:
    """As the worker processes have them."""
    return make_settings(partitions=4, lease_ttl=1.0, s3_endpoint=faults.url)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log."""
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
def working(settings: Settings, faults: S3Faults, redis_url: str, tmp_path: Path) -> Callable[..., Worker]:
    """Starts a worker in a process of its own, which ends with the block; the same name means the same member."""

    @contextmanager
    def start(member: str = "the-only-one", crash_at: str = "", **changed: object) -> Iterator[subprocess.Popen[bytes]]:
        environment = {
            **os.environ,
            "SPOOLHOUSE_DATA": str(settings.data),
            "SPOOLHOUSE_PARTITIONS": "4",
            "SPOOLHOUSE_LEASE_TTL": "1",
            "SPOOLHOUSE_S3_ENDPOINT": faults.url,
            "SPOOLHOUSE_CHUNK_SIZE": str(CHUNK),
            "SPOOLHOUSE_CHUNKS_IN_FLIGHT": str(IN_FLIGHT),
            "SPOOLHOUSE_CRASH_AT": crash_at,
            **{f"SPOOLHOUSE_{name.upper()}": str(value) for name, value in changed.items()},
        }
        command = [sys.executable, "-m", "tests.faults.replicate_worker", redis_url, member]
        with (tmp_path / f"{member}.log").open("ab") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)

    return start


@pytest.mark.timeout(1800)
async def test_killed_again_and_again_it_ends_byte_equal(
    log: Log,
    faults: S3Faults,
    working: Callable[..., Worker],
    s3_server: SwiftServer,
    bucket: str,
    tmp_path: Path,
    rng: random.Random,
) -> None:
    """SIGKILL at random points of one file: each chunk object once, and what a kill costs is a window of chunks."""
    path, video = tmp_path / "film.mp4", new_video()
    content = noise(path, SIZE)
    await tell(log, video, stored(path))
    for left in range(KILLS, 0, -1):
        told = sum(one.size for one in (await _chunks(log, video)).values())
        target = faults.bytes_sent + rng.uniform(0, 1.5 * (SIZE - told) / (left + 1))
        with working() as process:
            await eventually(lambda target=target: faults.bytes_sent >= target, every=0.001)
            process.kill()
            process.wait(30)
        assert await completed(log, video) is None, "it was killed too late"
    with working():
        facts = await copied(log, video)
    manifest = check_copy(s3_server, bucket, facts, content)
    again = faults.bytes_sent - SIZE
    chunks = again / CHUNK / KILLS
    print(f"{KILLS} kills, {SIZE / MIB:.0f} MiB in {len(manifest['chunks'])} chunks: {chunks:.2f} chunks a kill again")
    assert again <= KILLS * IN_FLIGHT * CHUNK + 64 * 1024 * (KILLS + 1), (
        "more was sent again than a window for each kill"
    )
    assert (await types(log, video)).count("ReplicationCompleted") == 1
    await check_log(log)


async def _chunks(log: Log, video: str) -> dict[int, object]:
    stream = (await facts_of(log, video)).stream()
    return dict(stream.chunks) if stream else {}


def crash_points() -> list[str]:
    """Every crash point of copying."""
    found = set()
    for name in ("replicate.py", "storage/sending.py"):
        for node in ast.walk(ast.parse((ROOT / "processors" / name).read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                assert isinstance(node.args[0], ast.Constant)
                found.add(str(node.args[0].value))
    return sorted(found)


async def test_killed_at_any_step_it_is_made_good(
    log: Log, working: Callable[..., Worker], s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """One worker after the other dies at a step; the next takes up what is left, and in the end all are whole."""
    points = crash_points()
    assert len(points) > 8
    contents = {}
    for number, point in enumerate(points):
        path, video = tmp_path / f"{number}.mp4", new_video()
        contents[video] = noise(path, 6 * CHUNK + number)
        await tell(log, video, settled(path))
        if point in {"replicate.abandoned", "replicate.overtaken"}:  # it changes once its copy was begun
            while not await _told(log, video, 1):
                await _dies(working, "replicate.chunk_told:2")
            contents[video] += b"more"
            path.write_bytes(contents[video])
        if point == "replicate.overtaken":
            await tell(log, video, settled(path, revision=2))
        await _dies(working, point)
        if point == "replicate.abandoned":
            await tell(log, video, settled(path, revision=2))
    with working(attempts=50):
        for video, content in contents.items():
            check_copy(s3_server, bucket, await copied(log, video), content)
    kept = {stream.id for video in contents for stream in (await facts_of(log, video)).streams.values()}
    assert {key.split("/")[0] for key in s3_server.objects(bucket)} == kept, "nothing of abandoned streams stays"
    await check_log(log)


async def _dies(working: Callable[..., Worker], point: str) -> None:
    with working(crash_at=point, attempts=50) as process:
        await eventually(lambda: process.poll() is not None)
        assert process.returncode == -9, f"{point} was not reached"


async def test_a_frozen_worker_that_wakes_does_no_harm(
    log: Log, faults: S3Faults, working: Callable[..., Worker], s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """SIGSTOP past its lease in mid-file: another completes the copy; when the first wakes, there is one result."""
    path, video = tmp_path / "film.mp4", new_video()
    content = noise(path, 30 * CHUNK)
    await tell(log, video, stored(path))
    with working("first") as first:
        await eventually(lambda: _told(log, video, 5), every=0.001)
        first.send_signal(signal.SIGSTOP)
        assert await completed(log, video) is None, "it was frozen too late"
        with working("second"):
            before = check_copy(s3_server, bucket, await copied(log, video), content)
            first.send_signal(signal.SIGCONT)
            # It is well again once it has taken its share of the partitions.
            await eventually(lambda: _owns(log, "first"))
            after = check_copy(s3_server, bucket, await facts_of(log, video), content)
    assert after == before
    assert (await types(log, video)).count("ReplicationCompleted") == 1
    for index in range(30):
        assert faults.puts(bucket)[chunk_key(stream_id(video, 1), index)] <= 2
    await check_log(log)


async def _told(log: Log, video: str, chunks: int) -> bool:
    return len(await _chunks(log, video)) >= chunks


async def _owns(log: Log, member: str) -> bool:
    leases = [await log.redis.get(log.keys.lease(partition, "replicate")) for partition in range(log.partitions)]
    return sum(lease is not None and lease.startswith(f"{member} ".encode()) for lease in leases) == 2
