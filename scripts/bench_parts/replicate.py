"""Copying one large file to an S3 server: the processor beside rclone, same server, chunk size and concurrency."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from processors.ports import ObjectStore
from processors.replicate import replicate
from processors.storage.stores import open_store
from scripts.bench_parts import worlds
from scripts.bench_parts.processes import MIB, Peak, in_child, run_loop
from scripts.bench_parts.rows import Row, Size, rate_row
from streams.events import VideoStored
from streams.hosting import hosted
from streams.log import new_event, open_log
from streams.paths import OsPath
from streams.queries import Histories
from tests.s3_faults import S3Faults
from tests.swift import SwiftServer, credentials

FILE = int(os.environ.get("BENCH_REPLICATE_SIZE", "1073741824"))
"""Bytes of the full bench's file."""

IN_FLIGHT = 4
ALLOWED = 150 * 10**6
"""Bytes of memory that the process may have besides its chunks."""

TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one copy took."""

    seconds: float
    cpu: float
    """Seconds of processor time, user and system."""
    peak: int
    """Bytes of memory at the most."""


def run(size: Size) -> list[Row]:
    """Throughput, processor time, memory, and what is sent again after a kill."""
    length, chunk = size.of(4 * MIB, 256 * MIB, FILE), size.of(MIB, 10 * MIB, 10 * MIB)
    rounds = size.of(1, 3, 3)
    why = "not asked for" if size is Size.TINY else None if shutil.which("rclone") else "rclone is not installed"
    with _environment(), worlds.folder("replicate") as place, SwiftServer(place / "s3") as server:
        with worlds.redis(place) as redis:
            path = place / "film.mp4"
            sha256 = _film(path, length)
            ours: list[Cost] = []
            theirs: list[Cost] = []
            for number in range(rounds):
                ours.append(
                    in_child(_copy, str(place), redis.url, server.url, str(path), sha256, chunk, f"ours-{number}")
                )
                _tidy(server, f"ours-{number}")
                if why is None:
                    theirs.append(_rclone(server.url, path, chunk, f"theirs-{number}"))
                    _tidy(server, f"theirs-{number}")
            again = _sent_again(place, redis.url, server, path, sha256, chunk)
            again_theirs = _sent_again_by_rclone(server, path, chunk) if why is None else None
    return [*_rates(length, ours, theirs, why), *_limits(chunk, ours, theirs, again, again_theirs)]


def _rates(length: int, ours: list[Cost], theirs: list[Cost], why: str | None) -> list[Row]:
    what = f"copy of {length / MIB:,.0f} MiB, {IN_FLIGHT} chunks in flight"
    if why is not None:
        speed = statistics.median(length / MIB / one.seconds for one in ours)
        return [Row(f"{what}: no peer, {why}", f"{speed:,.0f} MiB/s")]
    rates = [[length / MIB / one.seconds for one in side] for side in (ours, theirs)]
    cpu = [statistics.median(one.cpu for one in side) for side in (ours, theirs)]
    ratio = statistics.median(one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True))
    return [
        rate_row(f"{what} (peer: rclone)", *rates, "MiB/s", 1.0),
        Row("processor time of it", f"{cpu[0]:.2f} s", f"{cpu[1]:.2f} s", ratio, "≤ 1.5 ×", ratio <= 1.5),
    ]


def _limits(chunk: int, ours: list[Cost], theirs: list[Cost], again: int, again_theirs: int | None) -> list[Row]:
    peak, most = max(one.peak for one in ours), chunk * (IN_FLIGHT + 2) + ALLOWED
    return [
        Row(
            "memory of the whole process meanwhile",
            f"{peak / 10**6:.0f} MB",
            f"{max(one.peak for one in theirs) / 10**6:.0f} MB" if theirs else "—",
            target=f"≤ {most / 10**6:.0f} MB",
            ok=peak <= most,
        ),
        Row(
            "sent again after kill -9 at 90 %",
            f"{again / chunk:.1f} chunks",
            "—" if again_theirs is None else f"{again_theirs / chunk:.1f} chunks",
            target=f"≤ {IN_FLIGHT} chunks",
            ok=again <= IN_FLIGHT * chunk,
        ),
    ]


@contextmanager
def _environment() -> Iterator[None]:
    """The key of the S3 server, for both sides."""
    before = dict(os.environ)
    os.environ.update(credentials())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _film(path: Path, length: int) -> str:
    """A file of noise; its sha256."""
    noise, digest = os.urandom(MIB), hashlib.sha256()
    with path.open("wb") as file:
        for number in range(length // MIB):
            block = number.to_bytes(8, "big") + noise[8:]
            file.write(block)
            digest.update(block)
    os.sync()
    return digest.hexdigest()


def _tidy(server: SwiftServer, bucket: str) -> None:
    """Give the disk back before the next turn."""
    for key in server.objects(bucket):
        server.delete(bucket, key)
    os.sync()


# ---------------------------------------------------------------- ours


def _stored(path: str, sha256: str) -> VideoStored:
    now = datetime.now(UTC)
    name = os.path.basename(path)
    return VideoStored(
        door="upload",
        path=OsPath(path),
        stored_name=name,
        filename=name,
        original_name=name,
        label="",
        mime="video/mp4",
        size=os.path.getsize(path),
        sha256=sha256,
        received_at=now,
        modified_at=now,
    )


async def _copy(place: str, redis_url: str, endpoint: str, path: str, sha256: str, chunk: int, bucket: str) -> Cost:
    """One copy in this process, the worker being at work before."""
    settings = worlds.settings(
        Path(place),
        s3_endpoint=endpoint,
        s3_bucket=bucket,
        chunk_size=chunk,
        chunks_in_flight=IN_FLIGHT,
        namespace=bucket,
    )
    async with open_log(settings, redis_url) as log, open_store(settings) as store:
        async with hosted(replicate, log, {Histories: log, ObjectStore: store}, settings, "bench"):
            await asyncio.sleep(1)  # it takes its partitions
            video = str(uuid.uuid4())
            with Peak(os.getpid()) as memory:
                cpu, began = _cpu(), time.perf_counter()
                await log.append(new_event(video, _stored(path, sha256), source="bench"))
                done = await log.wait_for(video, {"ReplicationCompleted", "EntryParked"}, timeout=TIMEOUT)
                cost = Cost(time.perf_counter() - began, _cpu() - cpu, memory.peak)
            if done is None or done.type != "ReplicationCompleted":
                raise RuntimeError("the copy was not completed")
            return cost


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _sent_again(place: Path, redis_url: str, server: SwiftServer, path: Path, sha256: str, chunk: int) -> int:
    """Bytes that went over the wire beyond the file's, with a kill at 90 % of it."""
    length = path.stat().st_size
    with S3Faults(server.url) as counted:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_"))},
            "SPOOLHOUSE_DATA": str(place / "data"),
            "SPOOLHOUSE_NAMESPACE": "killed",
            "SPOOLHOUSE_S3_ENDPOINT": counted.url,
            "SPOOLHOUSE_S3_BUCKET": "killed",
            "SPOOLHOUSE_CHUNK_SIZE": str(chunk),
            "SPOOLHOUSE_CHUNKS_IN_FLIGHT": str(IN_FLIGHT),
            "SPOOLHOUSE_LEASE_TTL": "1",
            "SPOOLHOUSE_LOG_LEVEL": "ERROR",
        }
        command = [sys.executable, "-m", "tests.faults.replicate_worker", redis_url, "bench"]

        @contextmanager
        def worker() -> Iterator[subprocess.Popen[bytes]]:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

        async def finished() -> None:
            settings = worlds.settings(place, namespace="killed")
            async with open_log(settings, redis_url) as log:
                video = str(uuid.uuid4())
                await log.append(new_event(video, _stored(str(path), sha256), source="bench"))
                with worker():
                    await _until(lambda: counted.bytes_sent >= 0.9 * length)
                with worker():
                    if await log.wait_for(video, {"ReplicationCompleted"}, timeout=TIMEOUT) is None:
                        raise RuntimeError("the copy was not completed")

        run_loop(finished)
        return max(0, sum(one.received for one in counted.requests if "/chunk_" in one.key) - length)


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("it did not get to 90 %")
        await asyncio.sleep(0.001)


# ---------------------------------------------------------------- rclone


def _command(endpoint: str, path: Path, chunk: int, bucket: str) -> tuple[list[str], dict[str, str]]:
    options = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
        "ENDPOINT": endpoint,
        "REGION": "us-east-1",
    }
    command = ["rclone", "copy", "--config", os.devnull, "--retries", "1", "--s3-chunk-size", f"{chunk // 1024}Ki"]
    command += ["--s3-upload-concurrency", str(IN_FLIGHT), "--s3-upload-cutoff", "0", str(path), f"peer:{bucket}/"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return command, plain | {f"RCLONE_CONFIG_PEER_{name}": value for name, value in options.items()}


def _rclone(endpoint: str, path: Path, chunk: int, bucket: str) -> Cost:
    command, environment = _command(endpoint, path, chunk, bucket)
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with Peak(process.pid) as memory:
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"rclone ended with {process.returncode}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, memory.peak)


def _sent_again_by_rclone(server: SwiftServer, path: Path, chunk: int) -> int:
    length = path.stat().st_size
    with S3Faults(server.url) as counted:
        command, environment = _command(counted.url, path, chunk, "theirs-killed")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run_loop(_until, lambda: counted.bytes_sent >= 0.9 * length)
        finally:
            process.kill()
            process.wait()
        subprocess.run(command, env=environment, check=True, timeout=TIMEOUT, stdout=subprocess.DEVNULL)
        return max(0, counted.bytes_sent - length)
