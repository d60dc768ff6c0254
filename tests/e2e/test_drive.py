"""Uploads on their way to Google Drive, as a user sees it: answers, the log, an outage, an end in mid-upload."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from tests.drive_server import DriveServer
from tests.e2e.running import Running, spoolhouse, until

FAILURE = ("Drive upload failed for", "Video backup available at", "Drive upload failed but video is saved locally")


def activity(running: Running) -> list[str]:
    """`LEVEL - message` of each line of `video_uploads.log`."""
    path = running.data / "logs" / "video_uploads.log"
    return [line.split(" - ", 1)[1] for line in path.read_text().splitlines()] if path.exists() else []


def lines_of_failures(running: Running) -> list[int]:
    """How often each of the lines of a failure stands there."""
    messages = [line.split(" - ", 1)[1] for line in activity(running)]
    return [sum(message.startswith(start) for message in messages) for start in FAILURE]


def history(running: Running, video: str) -> list[str]:
    """The types of what happened to a video."""
    told = running.get(f"/api/videos/{video}/events") or {}
    return [event["type"] for event in told.get("events", [])]


def test_uploads_go_to_drive_and_survive_its_outage(
    tmp_path: Path, drive_server: DriveServer, sample_videos: list[Path]
) -> None:
    """An upload has its link; while Drive is away it is told at once, and its file follows; SIGTERM cuts no one off."""
    clip, data = sample_videos[1].read_bytes(), tmp_path / "data"
    with spoolhouse(data, **drive_server.environment) as running:
        status, body = running.upload("video.mp4", clip, "Tutorial")
        assert status == 200, body
        [file] = drive_server.files()
        name, drive_id, path = body["filename"], body["video_id"], Path(body["local_backup"])
        assert (file["id"], file["name"]) == (drive_id, name) == (drive_id, "Tutorial_video.mp4")
        assert body["drive_link"] == f"https://drive.google.com/file/d/{drive_id}/view"
        assert [one["type"] for one in file["permissions"]] == ["anyone"]
        assert Path(file["path"]).read_bytes() == clip == path.read_bytes()
        assert until(lambda: len(activity(running)) == 6 and activity(running), why="the lines of the log") == [
            f"INFO - Received video upload: {name} ({len(clip) / 2**20:.2f} MB, video/mp4)",
            f"INFO - Video saved locally: {path.name} ({len(clip)} bytes)",
            f"INFO - Starting Drive upload for: {name}",
            f"INFO - Drive upload successful: {name} (ID: {drive_id})",
            f"INFO - Permissions set for: {name} (ID: {drive_id})",
            f"INFO - ✓ Complete upload success: {name} (Drive ID: {drive_id}, Local: {path})",
        ]

        drive_server.kill()
        status, first = running.upload("first.mp4", clip)
        assert (status, first["success"]) == (502, False), first
        began = time.monotonic()
        status, second = running.upload("second.mp4", clip)
        assert (status, time.monotonic() - began < 5) == (502, True), second
        assert second["error"].startswith("Failed to upload to Drive: ")
        assert Path(second["local_backup"]).read_bytes() == clip
        ready = until(lambda: (told := running.ask("GET", "/readyz"))[0] == 503 and told[1], why="readyz to name it")
        assert "Google Drive is unreachable" in str(ready)
        until(lambda: lines_of_failures(running) == [2, 2, 2], why="the lines of two failures")

        drive_server.start()
        for answer in (first, second):
            until(lambda a=answer: "DriveUploadCompleted" in history(running, a["id"]), why="the copy that follows")
        assert lines_of_failures(running) == [2, 2, 2]
        assert {one["name"] for one in drive_server.files()} == {name, "first.mp4", "second.mp4"}
        until(lambda: running.get("/readyz"), why="readiness")

        drive_server.inject("PUT /upload", "slow", seconds=3.0)
        answers: list[tuple[int, Any]] = []
        waiting = threading.Thread(target=lambda: answers.append(running.upload("last.mp4", clip)))
        waiting.start()
        until(lambda: any(not one["finished"] for one in drive_server.state()["sessions"]), why="the session")
        assert running.stop() == 0
        waiting.join(20)
        [(status, last)] = answers
        assert (status, last["success"], last["drive_link"]) == (202, True, None)
        assert last["status_url"] == f"/api/videos/{last['id']}"

    with spoolhouse(data, **drive_server.environment) as running:
        until(lambda: "DriveUploadCompleted" in history(running, last["id"]), why="the copy after a new start")
        assert sorted(one["name"] for one in drive_server.files()) == sorted(
            [name, "first.mp4", "second.mp4", "last.mp4"]
        )
        assert lines_of_failures(running) == [2, 2, 2]
        checked = running.command("drive", "check", "--upload")
        assert (checked.returncode, "Google Drive works." in checked.stdout) == (0, True), checked.stdout
