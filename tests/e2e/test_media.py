"""Upload, enhancement, metadata, streaming: as users of the video processing backend know it, on the whole system."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.running import PATIENCE, Running, spoolhouse, until
from tests.media import facts_of

Make = Callable[..., Path]
TASKS = ("video-enhancement", "metadata-extraction")


def send(running: Running, path: Path, **fields: str) -> tuple[int, Any]:
    """What `curl -F file=@path -F client_id=… /upload` does."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    body = b"".join([*parts, head.encode(), path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()])
    return running.ask("POST", "/upload", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})


def fetch(running: Running, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{running.port}{path}", headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


def status(running: Running, video: str, task: str = "video-enhancement") -> Any:
    """What the status endpoint says."""
    return running.ask("GET", f"/internal/{task}-status/{video}")[1]


def finished(running: Running, video: str, task: str = "video-enhancement") -> Any:
    """Wait until a task has come to an end; its status."""
    return until(
        lambda: (now := status(running, video, task)) and now.get("status") in {"completed", "failed"} and now,
        why=f"the end of {task}",
    )


def types(running: Running, video: str) -> list[str]:
    """What happened to a video, in order."""
    found = running.get(f"/api/videos/{video}/events") or {"events": []}
    return [one["type"] for one in found["events"]]


def children(pid: int) -> list[int]:
    """Process ids of a process's media children."""
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "processors.media.child"], capture_output=True, text=True, check=False
    )
    return [int(one) for one in found.stdout.split()]


async def told(running: Running, client: str, *, until_ended: int) -> list[dict[str, Any]]:
    """What a WebSocket is told until so many tasks of the contract have ended."""
    messages: list[dict[str, Any]] = []
    ended: set[tuple[str, str]] = set()
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        async with session.ws_connect(f"http://127.0.0.1:{running.port}/ws/{client}") as socket:
            async for message in socket:
                one = json.loads(message.data)
                messages.append(one)
                if one["task"] in TASKS and one["status"] in {"completed", "failed"}:
                    ended.add((one["file_id"], one["task"]))
                if len(ended) >= until_ended:
                    break
    return messages


def test_an_avi_becomes_what_every_browser_plays(tmp_path: Path, make_video: Make) -> None:
    """Given an AVI sent by a client, then it is told how far things are, and plays, seeks and describes the result."""
    clip, data = make_video(tmp_path / "holiday.avi", 2.0, width=202, height=114, sound=True), tmp_path / "data"
    with spoolhouse(data, SPOOLHOUSE_PREVIEWS="true") as running:
        code, answer = send(running, clip, client_id="me")
        assert (code, answer["filename"], answer["status"], answer["client_id"]) == (
            200,
            "holiday.avi",
            "uploaded",
            "me",
        )
        video = answer["file_id"]
        messages = asyncio.run(told(running, "me", until_ended=2))
        assert {one["file_id"] for one in messages} == {video}
        for task in TASKS:
            of_task = [one for one in messages if one["task"] == task]
            assert of_task[-1]["status"] == "completed", of_task
            assert of_task[-1]["progress"] == 100
            assert all(
                {"type", "file_id", "task", "status", "progress", "message", "time"} <= set(one) for one in of_task
            )
            now = status(running, video, task)
            assert (now["file_id"], now["status"], now["progress"], now["error"]) == (video, "completed", 100, None)

        code, headers, whole = fetch(running, f"/processed_videos/{video}")
        assert (code, headers["content-type"], headers["accept-ranges"]) == (200, "video/mp4", "bytes")
        code, headers, part = fetch(running, f"/processed_videos/{video}", Range="bytes=100-299")
        assert (code, headers["content-range"]) == (206, f"bytes 100-299/{len(whole)}")
        assert part == whole[100:300]
        (tmp_path / "got.mp4").write_bytes(whole)
        facts = facts_of(tmp_path / "got.mp4")
        assert (facts["video"], facts["audio"], facts["pixels"]) == ("h264", "aac", "yuv420p")
        assert (facts["width"], facts["height"], facts["frames"]) == (202, 114, 20)
        assert whole.index(b"moov") < whole.index(b"mdat")

        document = json.loads(fetch(running, f"/metadata/{video}.json")[2])
        assert document["file_id"] == video
        assert document["streams"][0]["codec"] == "mpeg4"
        on_disk = json.loads((data / "processed_videos" / "metadata" / f"{video}.json").read_bytes())
        assert on_disk["streams"] == document["streams"]
        assert (data / "uploads").resolve() == (data / "uploaded_videos").resolve()
        [original] = [one for one in (data / "uploads").iterdir() if one.is_file()]
        assert original.read_bytes() == clip.read_bytes()

        until(lambda: "PreviewsMade" in types(running, video), why="the pictures")
        until(lambda: fetch(running, f"/api/videos/{video}/poster")[0] == 200, why="the poster")
        assert fetch(running, f"/api/videos/{video}/poster")[2].startswith(b"\xff\xd8")
        assert b"WEBVTT" in fetch(running, f"/api/videos/{video}/thumbnails.vtt")[2]
        [shown] = running.videos()
        assert shown["playable"]
        [rendition] = until(lambda: running.videos(door="rendition"), why="the rendition in the catalogue")
        assert (rendition["id"], rendition["rendition_of"]) == (shown["playable"], video)


def test_what_is_no_video_is_refused_or_said(tmp_path: Path, make_video: Make, rng: Any) -> None:
    """Given bytes of other kinds, by either door, then each has its answer and nothing dies of it."""
    data, other = tmp_path / "data", tmp_path / "other.mp4"
    noise = rng.randbytes(50_000)
    with spoolhouse(data, SPOOLHOUSE_PREVIEWS="true") as running:
        for content in (noise, b"\x89PNG\r\n\x1a\n" + noise, b"just words\n" * 100):
            other.write_bytes(content)
            code, answer = send(running, other)
            assert (code, answer["success"]) == (415, False)
            assert "not a video" in answer["error"]
        assert running.ask("GET", f"/internal/video-enhancement-status/{uuid.uuid4()}")[0] == 404
        assert fetch(running, f"/processed_videos/{uuid.uuid4()}")[0] == 404
        # By a watched folder it is kept, and said to be what it is.
        (data / "inbox" / "noise.mp4").write_bytes(noise)
        video = until(lambda: running.videos(door="watch"), why="the noise in the catalogue")[0]["id"]
        until(lambda: {"VideoProbeFailed", "PreviewsFailed"} <= set(types(running, video)), why="both failures")
        # A film that was cut off has no index: taken, and its enhancement fails with the reason.
        whole = make_video(tmp_path / "cut.mp4", 1.0).read_bytes()
        other.write_bytes(whole[: whole.index(b"moov") - 4])
        code, answer = send(running, other)
        assert code == 200
        end = finished(running, answer["file_id"])
        assert (end["status"], bool(end["error"])) == ("failed", True)
        code, _, body = fetch(running, f"/processed_videos/{answer['file_id']}")
        assert (code, json.loads(body)["status"]) == (409, "failed")


@pytest.mark.timeout(400)
def test_workers_and_children_that_are_killed_leave_one_result(tmp_path: Path, make_video: Make, rng: Any) -> None:
    """Given a film under work, when the child and the worker are killed again and again, then there is one rendition."""
    film, data = make_video(tmp_path / "film.avi", 24.0, width=640, height=360, rate=25), tmp_path / "data"
    with spoolhouse(data, SPOOLHOUSE_LEASE_TTL="2") as running:
        video = send(running, film)[1]["file_id"]
        for number in range(4):
            until(lambda: status(running, video)["status"] in {"processing", "completed"}, why="the work")
            worker = until(lambda: running.child("worker"), why="a worker")
            victims = children(worker) if number % 2 == 0 else [worker]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            if number % 2:
                until(lambda dead=worker: running.child("worker") not in {0, dead}, why="another worker")
        end = finished(running, video)
        assert end["status"] == "completed", end
        until(lambda: "EnhancementCompleted" in types(running, video), why="the whole history")
        assert types(running, video).count("RenditionStored") == 1
        [rendition] = (data / "processed_videos").glob("*.mp4")
        assert facts_of(rendition)["frames"] == 600
        until(lambda: not list((data / "processed_videos" / ".incoming").iterdir()), why="a tidy folder")
        assert fetch(running, f"/processed_videos/{video}", Range="bytes=0-9")[0] == 206
        # Asked for once more, it is found.
        assert running.ask("POST", f"/api/videos/{video}/enhance")[0] == 202
        until(lambda: types(running, video).count("EnhancementCompleted") == 2, why="the second request")
        assert types(running, video).count("RenditionStored") == 1


def test_on_request_with_a_ladder_by_the_command_line(tmp_path: Path, sample_videos: list[Path]) -> None:
    """Given a watched film, when a person asks for a ladder, then it is there, and another preset beside it."""
    data = tmp_path / "data"
    with spoolhouse(data, SPOOLHOUSE_HLS_LADDER="240,144") as running:
        (data / "inbox" / "bikes.mp4").write_bytes(sample_videos[1].read_bytes())
        video = until(lambda: running.videos(door="watch"), why="the film in the catalogue")[0]["id"]
        code, _, body = fetch(running, f"/processed_videos/{video}")
        assert code == 409
        assert "spoolhouse enhance" in json.loads(body)["error"]
        done = running.command("enhance", video[:8], "--hls", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["renditions"]) == 3
        until(lambda: fetch(running, f"/processed_videos/{video}")[0] == 200, why="the film")
        code, headers, master = fetch(running, f"/processed_videos/{video}/master.m3u8")
        assert (code, headers["content-type"]) == (200, "application/vnd.apple.mpegurl")
        assert master.count(b"#EXT-X-STREAM-INF") == 2
        playlist = next(line for line in master.decode().splitlines() if line.endswith(".m3u8"))
        assert b"#EXT-X-MAP" in fetch(running, f"/processed_videos/{video}/{playlist}")[2]
        wrong = running.command("enhance", video, "--preset", "nonsense")
        assert (wrong.returncode, "There is no preset 'nonsense'" in wrong.stderr) == (1, True)
        probed = running.command("probe", str(sample_videos[1]))
        assert (probed.returncode, "h264" in probed.stdout) == (0, True)


def test_a_rendition_is_copied_given_up_and_brought_back(
    tmp_path: Path, other_disk: Path, sample_videos: list[Path]
) -> None:
    """Given a store, then the rendition has its copy; offloaded it says how to come back, and then plays again."""
    data = tmp_path / "data"

    def copied(running: Running, door: str) -> Any:
        return [
            one for one in running.videos(door=door) if any(copy["state"] == "complete" for copy in one["replicas"])
        ]

    with spoolhouse(data, SPOOLHOUSE_S3_ENDPOINT=f"file://{other_disk}") as running:
        video = send(running, sample_videos[0])[1]["file_id"]
        assert finished(running, video)["status"] == "completed"
        [rendition] = until(lambda: copied(running, "rendition"), why="the copy of the rendition")
        until(lambda: copied(running, "upload"), why="the copy of the upload")
        whole = fetch(running, f"/processed_videos/{video}")[2]
        given_up = running.command("retention", "--days", "0")
        assert given_up.returncode == 0, given_up.stdout + given_up.stderr
        assert not list((data / "processed_videos").glob("*.mp4"))

        def offloaded() -> Any:
            code, _, body = fetch(running, f"/processed_videos/{video}")
            return code == 409 and json.loads(body)

        answer = until(lambda: (now := offloaded()) and now["status"] == "offloaded" and now, why="the answer")
        assert f"spoolhouse restore {rendition['id']}" in answer["error"]
        back = running.command("restore", rendition["id"])
        assert back.returncode == 0, back.stderr
        until(lambda: fetch(running, f"/processed_videos/{video}")[0] == 200, why="the rendition")
        assert fetch(running, f"/processed_videos/{video}")[2] == whole
        assert running.command("verify", rendition["id"]).returncode == 0
