"""Copies in an S3 server, with everything running as a user runs it; servers are stopped and started meanwhile."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from tests.e2e.running import Running, spoolhouse, until
from tests.servers import RedisServer
from tests.swift import SwiftServer

MIB = 2**20


@pytest.mark.timeout(600)
def test_a_file_that_s3_and_redis_leave_in_the_middle_is_copied_whole(
    tmp_path: Path,
    own_s3: SwiftServer,
    own_redis: RedisServer,
    use_s3: Callable[[SwiftServer], dict[str, str]],
    bucket: str,
) -> None:
    """The chunk uploader's own acceptance: 100 MB of noise named .mp4, MinIO stopped and started, then Redis."""
    settings = {**use_s3(own_s3), "SPOOLHOUSE_REDIS_URL": own_redis.url, "SPOOLHOUSE_LOG_FORMAT": "console"}
    source, name = tmp_path / "noise", "minio_test.mp4"
    content = os.urandom(100 * MIB)
    source.write_bytes(content)
    with spoolhouse(tmp_path / "data", **settings) as running:
        path = running.data / "inbox" / name
        subprocess.run(["dd", f"if={source}", f"of={path}", "bs=1M", "status=none"], check=True, timeout=60)
        until(lambda: len(_chunks(own_s3, bucket)) >= 1, why="the first chunks")
        # What arrived while the file was written stands under another subject: until the log has told of it here, too.
        until(
            lambda: any("offset" in _hash(own_redis, one) for one in _subjects(own_redis)), why="the log's word of them"
        )

        own_s3.stop()
        down = until(lambda: _problem(running, "S3 is unreachable"), seconds=5, why="a word about S3 in /readyz")
        assert "Could not connect to the endpoint URL" in down
        [video] = _subjects(own_redis)
        before = _hash(own_redis, video)
        assert int(before["offset"]) % 10_485_760 == 0
        assert int(before["offset"]) < len(content)
        assert len(before["stream_id"]) == 64
        assert abs(float(before["last_modified"]) - time.time()) < 120
        own_s3.start()
        until(lambda: int(_hash(own_redis, video)["offset"]) > int(before["offset"]), why="the next chunk")

        own_redis.stop()
        until(lambda: running.ask("GET", "/readyz")[0] == 503, seconds=10, why="a word about Redis in /readyz")
        lost = "Redis connection lost. Attempting to reconnect..."
        until(lambda: lost in running.output.read_text(), seconds=10, why="the line about Redis")
        own_redis.start()

        manifest = until(lambda: _manifest(own_s3, bucket), why="the manifest")
        until(lambda: running.get("/readyz"), why="readiness in the end")
        stream = manifest["stream_id"]
        after = _hash(own_redis, video)
        assert (after["stream_id"], after["offset"]) == (stream, str(len(content)))
        assert float(after["last_modified"]) > float(before["last_modified"])

        keys = [f"{stream}/chunk_{index:06d}.bin" for index in range(10)]
        assert list(own_s3.objects(bucket)) == [*keys, f"{stream}/metadata.json"]
        assert b"".join(own_s3.read(bucket, key) for key in keys) == content == path.read_bytes()
        assert [one["key"] for one in manifest["chunks"]] == keys
        assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
        assert (manifest["file_name"], manifest["file_size"], manifest["chunk_size"]) == (
            name,
            len(content),
            10_485_760,
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", manifest["completed_at"])

        told = running.output.read_text()
        for index, key in enumerate(keys):
            assert f"Uploading chunk: {key} chunk_number: {index}" in told
        for line in (
            "Starting upload from offset 0",
            f"MinIO/S3 connection unavailable or error during upload_chunk {stream}, ",
            f"S3 error during upload of {path} (attempt 1/5): ",
            f"Retrying S3 upload for {path} in 5 seconds...",
            "Redis connection successful",
            f"Successfully completed upload for {path}",
        ):
            assert line in told, line
        offsets = [int(found) for found in re.findall(r"Starting upload from offset (\d+)", told)]
        assert any(offset and offset % 10_485_760 == 0 for offset in offsets), "it went on from a chunk"
        assert "video cannot be probed" in told
        [listed] = running.videos()
        assert listed["filename"] == name
        assert running.stop() == 0


def _problem(running: Running, words: str) -> str | None:
    """What `/readyz` says with these words in it."""
    status, told = running.ask("GET", "/readyz")
    messages = [one["message"] for one in (told or {}).get("problems", [])] if status == 503 else []
    return next((one for one in messages if words in one), None)


def _chunks(s3: SwiftServer, bucket: str) -> list[str]:
    return [key for key in s3.objects(bucket) if "/chunk_" in key]


def _manifest(s3: SwiftServer, bucket: str) -> dict[str, Any] | None:
    keys = [key for key in s3.objects(bucket) if key.endswith("/metadata.json")]
    return orjson.loads(s3.read(bucket, keys[0])) if keys else None


def _subjects(server: RedisServer) -> list[str]:
    """The hashes of videos that a person finds with redis-cli."""
    with redis.Redis.from_url(server.url) as client:
        keys = [key.decode() for key in client.scan_iter("spoolhouse:*:subject:*")]
    return [key for key in keys if re.search(r":subject:[0-9a-f]{8}-", key)]


def _hash(server: RedisServer, key: str) -> dict[str, str]:
    """What HGETALL shows."""
    with redis.Redis.from_url(server.url) as client:
        return {name.decode(): value.decode() for name, value in client.hgetall(key).items()}
