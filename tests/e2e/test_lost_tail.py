"""The log loses its tail, or all of it: noticed, put right from what is on disk, and said."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.running import Running, compared, free_port, spoolhouse, until
from tests.servers import RedisServer

Row = tuple[Any, ...]


def _rows(data: Path) -> list[Row]:
    db = sqlite3.connect(f"file:{data}/catalogue.sqlite3?mode=ro", uri=True, timeout=10)
    try:
        rows: list[Row] = db.execute("SELECT * FROM videos ORDER BY id").fetchall()
        return rows
    finally:
        db.close()


def _known(running: Running) -> dict[str, tuple[Any, ...]]:
    return {video["path"]: (video["id"], video["number"], video["state"]) for video in running.videos()}


def _cut_in_half(server: RedisServer) -> None:
    """The append-only file ends in the middle, as after a disk that lied about its writes."""
    server.stop()
    incremental = next(path for path in server.aof_files if ".incr." in path.name)
    size = incremental.stat().st_size
    with incremental.open("r+b") as file:
        file.truncate(size // 2)
    server.start()


def _empty(server: RedisServer) -> None:
    """The volume was lost: an empty Redis stands in its place."""
    server.stop()
    shutil.rmtree(server.aof_files[0].parent)
    server.start()


@pytest.mark.parametrize("damage", [_cut_in_half, _empty], ids=["cut in half", "emptied"])
def test_a_log_that_lost_events_is_put_right_at_start(
    tmp_path: Path, own_redis: RedisServer, sample_videos: list[Path], damage: Callable[[RedisServer], None]
) -> None:
    """Given videos from both doors, when the log loses events while all is down, then every id, number and row is back."""
    clip, data, port = sample_videos[1], tmp_path / "data", free_port()
    with spoolhouse(data, port=port, SPOOLHOUSE_REDIS_URL=own_redis.url) as running:
        for number in range(8):
            shutil.copy(clip, data / "inbox" / f"watched{number}.mp4")
            assert running.upload(f"sent{number}.mp4", clip.read_bytes())[0] == 200
        until(lambda: len(running.videos()) == 16, why="all sixteen videos in the catalogue")
        until(lambda: len(_rows(data)) == 8, why="all eight rows in videos")
        before, rows = _known(running), _rows(data)
        assert running.stop() == 0

    damage(own_redis)

    with spoolhouse(data, port=port, SPOOLHOUSE_REDIS_URL=own_redis.url) as running:
        until(lambda: "the gate is open again" in running.output.read_text(), why="the gate closing and opening")
        until(lambda: _known(running) == before, why="the same videos under the same ids")
        assert _rows(data) == rows
        with redis.Redis.from_url(own_redis.url) as client:
            assert client.hget("spoolhouse:{00}:meta", "epoch") == b"2"
        shutil.copy(clip, data / "inbox" / "later.mp4")
        until(lambda: len(_rows(data)) == 9, why="a file that comes later")
        assert sorted(row[0] for row in _rows(data)) == list(range(1, 10))
        rebuilt = running.command("rebuild", "--compare")
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        assert rebuilt.stdout.count("equal, row for row") == compared(), rebuilt.stdout
        assert len(_known(running)) == 17


def test_a_tail_lost_while_everything_runs_is_noticed(
    tmp_path: Path, own_redis: RedisServer, sample_videos: list[Path]
) -> None:
    """Given a running Spoolhouse, when Redis comes back with less than it acknowledged, then it goes on with everything."""
    clip, data = sample_videos[1], tmp_path / "data"
    with spoolhouse(data, SPOOLHOUSE_REDIS_URL=own_redis.url) as running:
        for number in range(8):
            shutil.copy(clip, data / "inbox" / f"watched{number}.mp4")
            assert running.upload(f"sent{number}.mp4", clip.read_bytes())[0] == 200
        until(lambda: len(running.videos()) == 16, why="all sixteen videos in the catalogue")
        until(lambda: len(_rows(data)) == 8, why="all eight rows in videos")
        before, rows = _known(running), _rows(data)
        _cut_in_half(own_redis)
        until(lambda: "the gate is open again" in running.output.read_text(), why="the gate closing and opening")
        until(lambda: running.get("/readyz"), why="readiness")
        until(lambda: _known(running) == before, why="the same videos under the same ids")
        assert _rows(data) == rows


@pytest.mark.parametrize("swapped", [False, True], ids=["the older one owns the log file", "the younger one does"])
def test_two_workers_put_a_lost_tail_right_once(
    tmp_path: Path, own_redis: RedisServer, sample_videos: list[Path], swapped: bool
) -> None:
    """Given two full workers, when Redis comes back with less, then neither undoes what the other did."""
    clip, data = sample_videos[1], tmp_path / "data"
    with spoolhouse(data, SPOOLHOUSE_REDIS_URL=own_redis.url) as running:
        with running.worker() as other:
            until(lambda: other.pid in {one["pid"] for one in _workers(running)}, why="another worker")
            if swapped:
                os.kill(running.child("worker"), signal.SIGKILL)
            until(lambda: len(_workers(running)) == 2 and running.get("/readyz"), why="two workers that are ready")
            for number in range(4):
                shutil.copy(clip, data / "inbox" / f"watched{number}.mp4")
                assert running.upload(f"sent{number}.mp4", clip.read_bytes())[0] == 200
            until(lambda: len(_rows(data)) == 4 and len(running.videos()) == 8, why="all videos in the catalogue")
            before, rows = _known(running), _rows(data)
            _cut_in_half(own_redis)
            until(lambda: running.output.read_text().count("the gate is open again") >= 2, why="both gates opening")
            until(lambda: len(_workers(running)) == 2 and running.get("/readyz"), why="readiness")
            until(lambda: _known(running) == before, why="the same videos under the same ids")
            assert _rows(data) == rows
            shutil.copy(clip, data / "inbox" / "later.mp4")
            until(lambda: len(_rows(data)) == 5, why="a file that comes later")
            with redis.Redis.from_url(own_redis.url) as client:
                epoch = int(client.hget("spoolhouse:{00}:meta", "epoch") or 0)
            assert epoch <= 3
        until(lambda: len(_workers(running)) == 1 and running.get("/readyz"), why="readiness with one worker")
        lines = (data / "logs" / "video_uploads.log").read_text().splitlines()
        assert len([line for line in lines if "Received video upload" in line]) == 4


def _workers(running: Running) -> list[dict[str, Any]]:
    """What the living workers say of themselves, ready or not."""
    _, report = running.ask("GET", "/readyz")
    workers: list[dict[str, Any]] = (report or {}).get("workers", [])
    return workers
