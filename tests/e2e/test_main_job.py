"""The main job on a real file: watched and uploaded videos become events, rows and answers."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from pathlib import Path

from tests.e2e.running import Running, spoolhouse, until


def _row(running: Running, name: str) -> tuple[object, ...] | None:
    with sqlite3.connect(f"file:{running.data}/catalogue.sqlite3?mode=ro", uri=True, timeout=10) as db:
        query = "SELECT id, main_dir, des_video_path, status, des_url FROM videos WHERE des_video_path LIKE ?"
        row: tuple[object, ...] | None = db.execute(query, (f"%{name}",)).fetchone()
    db.close()
    return row


def test_a_dropped_file_and_an_upload_are_listed_and_survive_a_restart(
    tmp_path: Path, sample_videos: list[Path]
) -> None:
    """Given a fresh data folder, when a file is dropped and another sent, then both are known; also after kill -9."""
    clip, data = sample_videos[1], tmp_path / "data"
    with spoolhouse(data) as running:
        shutil.copy(clip, data / "inbox" / "clip.mp4")
        listed = until(lambda: running.videos(door="watch"), why="the dropped file in the catalogue")
        assert [video["filename"] for video in listed] == ["clip.mp4"]
        number, main_dir, path, status, url = until(lambda: _row(running, "clip.mp4"), why="the row in videos")
        assert (number, status) == (1, 1)
        assert (main_dir, path) == (str(data / "inbox"), str(data / "inbox" / "clip.mp4"))
        assert str(url).endswith("/clip.mp4")

        status, answer = running.upload("lesson.mp4", clip.read_bytes(), "Tutorial")
        assert (status, answer["success"], answer["filename"]) == (200, True, "Tutorial_lesson.mp4")
        assert Path(answer["local_backup"]).read_bytes() == clip.read_bytes()
        legacy = until(lambda: (running.get("/api/videos/list") or {}).get("videos"), why="the upload in the list")
        assert [video["size_bytes"] for video in legacy] == [clip.stat().st_size]

        video = listed[0]["id"]
        history = until(
            lambda: [
                event["type"]
                for event in (running.get(f"/api/videos/{video}/events") or {}).get("events", [])
                if event["type"] == "VideoProbed"
            ],
            why="the probe in the history",
        )
        assert history == ["VideoProbed"]
        line = f"Video saved locally: {Path(answer['local_backup']).name} ({clip.stat().st_size} bytes)"
        log = data / "logs" / "video_uploads.log"
        until(lambda: log.exists() and line in log.read_text(), why="the line in video_uploads.log")

        os.kill(running.child("worker"), signal.SIGKILL)
        shutil.copy(sample_videos[0], data / "inbox" / "second.mp4")
        until(lambda: len(running.videos(door="watch")) == 2, why="a file dropped after kill -9 of the worker")
        assert running.stop() == 0

    with spoolhouse(data) as running:
        until(lambda: len(running.videos()) == 3, why="the same three videos after a restart")
        numbers = sorted(video["number"] for video in running.videos(door="watch"))
        assert numbers == [1, 2]
