"""Recordings, with everything running as a user runs it: the worker is killed and S3 stopped meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.running import PATIENCE, Running, spoolhouse, until
from tests.swift import SwiftServer

CHUNK = 65536
SMALL = {
    "SPOOLHOUSE_CHUNK_SIZE": str(CHUNK),
    "SPOOLHOUSE_GROWING_BEHIND": str(CHUNK),
    "SPOOLHOUSE_LEASE_TTL": "2",
    "SPOOLHOUSE_S3_TIMEOUT": "5",
    "SPOOLHOUSE_LOG_FORMAT": "console",
}
SENDING = re.compile(r"Uploading chunk: ([0-9a-f]{64}/chunk_\d{6}\.bin) chunk_number: (\d+)")


@pytest.mark.timeout(300)
def test_a_recording_survives_a_killed_worker_and_a_stopped_s3_server(
    tmp_path: Path,
    own_s3: SwiftServer,
    use_s3: Callable[[SwiftServer], dict[str, str]],
    bucket: str,
    rng: random.Random,
) -> None:
    whole = bytearray(rng.randbytes(14 * CHUNK + 321))
    with spoolhouse(tmp_path / "data", **use_s3(own_s3), **SMALL) as running:
        path = running.data / "inbox" / "cam.mp4"
        with open(path, "wb", buffering=0) as recorder:
            recorder.write(whole[: 5 * CHUNK])
            until(lambda: len(own_s3.objects(bucket)) == 4, why="four chunks")
            assert running.videos(door="all") == [], "it is nowhere to be seen before it is complete"
            _kill_worker(running)
            recorder.write(whole[5 * CHUNK : 8 * CHUNK])
            until(lambda: len(own_s3.objects(bucket)) == 7, why="the next worker's chunks")

            own_s3.stop()
            recorder.write(whole[8 * CHUNK : 11 * CHUNK])
            lost = "MinIO/S3 connection unavailable or error during upload_chunk"
            until(lambda: lost in running.output.read_text(), why="the line about S3")
            (running.data / "inbox" / "other.mp4").write_bytes(b"not a video, but complete")
            until(lambda: [one["filename"] for one in running.videos(door="all")] == ["other.mp4"], why="another file")
            own_s3.start()
            until(lambda: len(own_s3.objects(bucket)) >= 10, why="chunks after the outage")
            recorder.write(whole[11 * CHUNK :])
            whole[100:200] = bytes(100)  # a muxer goes back to the start when it closes its file
            os.pwrite(recorder.fileno(), whole[100:200], 100)
        manifest = until(lambda: _manifest(own_s3, bucket, "cam.mp4"), why="the manifest")
        output = running.output.read_text()
    _check(own_s3, bucket, manifest, bytes(whole))
    assert manifest["stream_id"] in {key.split("/")[0] for key, _ in SENDING.findall(output)}
    sent = Counter(key for key, _ in SENDING.findall(output) if key.startswith(manifest["stream_id"]))
    again = {key for key, times in sent.items() if times > 1}
    assert f"{manifest['stream_id']}/chunk_000000.bin" in again, "its content changed"
    assert len(again) <= 3, "and one chunk each for the kill and the outage at the most"


@pytest.mark.parametrize("point", ["growing.dispatched:2", "growing.sent:2", "growing.recorded:2", "growing.ended"])
def test_a_worker_that_dies_at_any_step_leaves_nothing_wrong(
    tmp_path: Path,
    s3_server: SwiftServer,
    s3_env: dict[str, str],
    redis_url: str,
    bucket: str,
    rng: random.Random,
    point: str,
) -> None:
    whole = rng.randbytes(5 * CHUNK + 1)
    (tmp_path / "data" / "inbox").mkdir(parents=True)
    settings = {"SPOOLHOUSE_DATA": str(tmp_path / "data"), "SPOOLHOUSE_REDIS_URL": redis_url, "SPOOLHOUSE_WORKER": "w"}
    environment = {**os.environ, **s3_env, **SMALL, **settings}
    with open(tmp_path / "data" / "inbox" / "cam.mp4", "wb", buffering=0) as recorder:
        recorder.write(whole)
        with _worker({**environment, "SPOOLHOUSE_CRASH_AT": point}, tmp_path / "out") as worker:
            if point == "growing.ended":
                until(lambda: len(s3_server.objects(bucket)) == 4, why="four chunks")
                recorder.close()
            assert worker.wait(timeout=PATIENCE) == -signal.SIGKILL
    with _worker(environment, tmp_path / "out"):
        manifest = until(lambda: _manifest(s3_server, bucket, "cam.mp4"), why="the manifest")
    _check(s3_server, bucket, manifest, whole)
    sent = Counter(key for key, _ in SENDING.findall((tmp_path / "out").read_text()))
    assert sum(times - 1 for times in sent.values()) <= 1, "one chunk was on its way"


def _kill_worker(running: Running) -> None:
    """SIGKILL; another one is started by `up`."""
    killed = running.child("worker")
    os.kill(killed, signal.SIGKILL)
    until(lambda: running.child("worker") not in {0, killed}, why="another worker")


@contextmanager
def _worker(environment: Mapping[str, str], output: Path) -> Iterator[subprocess.Popen[str]]:
    """`spoolhouse worker`, until the block ends."""
    with output.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "worker"],
            env=environment,
            cwd=output.parent,
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _manifest(s3: SwiftServer, bucket: str, name: str) -> dict[str, Any] | None:
    manifests = [orjson.loads(s3.read(bucket, key)) for key in s3.objects(bucket) if key.endswith("/metadata.json")]
    return next((one for one in manifests if one["file_name"] == name), None)


def _check(s3: SwiftServer, bucket: str, manifest: dict[str, Any], whole: bytes) -> None:
    """The copy is the file, and the chunks are those of the manifest."""
    assert b"".join(s3.read(bucket, part["key"]) for part in manifest["chunks"]) == whole
    assert manifest["sha256"] == hashlib.sha256(whole).hexdigest()
    listed = {part["key"] for part in manifest["chunks"]} | {f"{manifest['stream_id']}/metadata.json"}
    assert set(s3.objects(bucket, f"{manifest['stream_id']}/")) == listed
