"""Local copies are given up, remembered when the log is lost, and brought back; a full disk is told of. As users see it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from processors.storage.disk import space
from tests.drive_server import DriveServer
from tests.e2e.running import Running, free_port, spoolhouse, until
from tests.servers import RedisServer

MIB = 2**20


def _states(running: Running) -> dict[str, str]:
    return {video["filename"]: video["state"] for video in running.videos(state="all")}


def _legacy(data: Path) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(f"file:{data}/catalogue.sqlite3?mode=ro", uri=True, timeout=10)
    try:
        rows: list[tuple[Any, ...]] = db.execute("SELECT id, des_video_path, created_date FROM videos").fetchall()
        return rows
    finally:
        db.close()


def _events(redis_url: str, subject: bytes) -> list[bytes]:
    with redis.Redis.from_url(redis_url) as client:
        entries = [fields for key in client.keys("spoolhouse:{*}:log") for _, fields in client.xrange(key)]
    return [fields[b"type"] for fields in entries if fields[b"subject"] == subject]


def test_old_files_go_and_come_back(
    tmp_path: Path,
    s3_env: dict[str, str],
    drive_server: DriveServer,
    own_redis: RedisServer,
    sample_videos: list[Path],
) -> None:
    """Given copies in S3 and Drive, retention deletes; a log that lost all of it knows; restore brings them back."""
    clip, data, port = sample_videos[1].read_bytes(), tmp_path / "data", free_port()
    environment = {
        **s3_env,
        "SPOOLHOUSE_REDIS_URL": own_redis.url,
        "DRIVE_FOLDER_ID": drive_server.shared_drive_folder_id,
        "SPOOLHOUSE_DRIVE_CREDENTIALS": str(drive_server.credentials(tmp_path / "key.json", "service_account")),
        "SPOOLHOUSE_DRIVE_ENDPOINT": drive_server.url,
    }
    deleting = {
        "SPOOLHOUSE_RETENTION_DAYS": "0",
        "SPOOLHOUSE_RETENTION_INTERVAL": "0.5",
        "SPOOLHOUSE_RETENTION_WATCH": str(data / "inbox"),
    }
    with spoolhouse(data, port=port, **environment, **deleting) as running:
        assert running.upload("sent.mp4", clip)[0] == 200
        (data / "inbox" / "watched.mp4").write_bytes(clip + b"\0" * 8)
        until(lambda: sorted(_states(running).values()) == ["offloaded", "offloaded"], why="both files being given up")
        assert list((data / "uploaded_videos").glob("*.mp4")) == list((data / "inbox").iterdir()) == []
        until(lambda: "local copy deleted" in running.output.read_text(), why="a log line")
        assert running.get("/api/videos/list")["count"] == 0
        before = {video["id"]: video["filename"] for video in running.videos(state="all")}
        rows = _legacy(data)
        assert len(rows) == 1
        assert "is held" not in str(running.ask("GET", "/readyz"))
        assert running.stop() == 0

    own_redis.stop()
    shutil.rmtree(own_redis.aof_files[0].parent)
    own_redis.start()

    with spoolhouse(data, port=port, **environment) as running:
        until(lambda: "the gate is open again" in running.output.read_text(), why="the gate closing and opening")
        until(
            lambda: {video["id"]: video["filename"] for video in running.videos(state="offloaded")} == before,
            why="the same videos, offloaded as before",
        )
        assert _legacy(data) == rows
        [sent] = [video for video, name in before.items() if name == "sent.mp4"]
        restored = running.command("restore", sent)
        assert restored.returncode == 0, restored.stderr
        until(lambda: _states(running)["sent.mp4"] == "present", why="the file being back in the catalogue")
        [path] = (data / "uploaded_videos").glob("*.mp4")
        assert path.read_bytes() == clip


def test_a_disk_that_fills_up(tmp_path: Path, tmpfs: Path, redis_url: str, make_video: Callable[..., Path]) -> None:
    """A warning, then a problem with 507 and a pause; with room again all goes on by itself."""
    clip = make_video(tmp_path / "clip.mp4", seconds=0.5).read_bytes()
    data = tmp_path / "data"
    environment = {
        "SPOOLHOUSE_REDIS_URL": redis_url,
        "SPOOLHOUSE_UPLOAD_DIR": str(tmpfs / "uploads"),
        "SPOOLHOUSE_DISK_LOW": str(5 * MIB),
        "SPOOLHOUSE_DISK_HARD": str(3 * MIB),
    }
    filler = tmpfs / "filler"

    def leave(free: int) -> None:
        filler.write_bytes(b"")
        filler.write_bytes(bytes(space(tmpfs).free - free * MIB))

    with spoolhouse(data, port=free_port(), **environment) as running:
        assert running.upload("first.mp4", clip)[0] == 200
        leave(4)
        until(lambda: "SPOOLHOUSE_DISK_LOW" in str((running.get("/readyz") or {}).get("warnings")), why="a warning")
        assert running.upload("second.mp4", clip)[0] == 200
        leave(2)
        status, answer = running.upload("third.mp4", clip)
        assert (status, answer["success"]) == (507, False)
        assert "SPOOLHOUSE_DISK_HARD" in answer["error"]

        def problem() -> bool:
            status, report = running.ask("GET", "/readyz")
            return status == 503 and "watching pauses" in str(report["problems"])

        until(problem, why="a problem in /readyz")
        (data / "inbox" / "meanwhile.mp4").write_bytes(clip)
        until(lambda: "watching pauses: nothing is registered" in running.output.read_text(), why="the watcher pausing")
        leave(6)
        until(lambda: running.get("/readyz"), why="readiness")
        until(lambda: "meanwhile.mp4" in _states(running), why="what came meanwhile being taken in")
        assert running.upload("third.mp4", clip)[0] == 200
        changes = [b"DiskSpaceLow", b"DiskSpaceLow", b"DiskSpaceRecovered"]
        until(lambda: _events(redis_url, b"sys:disk") == changes, why="an event for each change")
