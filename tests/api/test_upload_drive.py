"""Uploads and Google Drive: the answer waits for the copy, says why there is none, or that it follows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api import drive_waiting
from api.draining import Draining
from api.drive_waiting import DriveWaiting, Pending
from processors.drive import drive
from processors.ports import Drive
from processors.storage.drive import open_drive
from streams import health
from streams.background import running
from streams.events import VideoStored
from streams.health import Reporter
from streams.hosting import hosted
from streams.log import new_event, open_log
from streams.paths import OsPath
from streams.queries import Histories
from streams.settings import Settings
from tests.api.running import Answer, Api, running_api, until
from tests.drive_server import DriveServer
from tests.servers import RedisServer

FAILURE = ("Drive upload failed for", "Video backup available at", "Drive upload failed but video is saved locally")


@pytest.fixture
def configured(
    make_settings: Callable[..., Settings], redis_url: str, drive_server: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Settings with the tests' Drive; workers say often how they are."""
    monkeypatch.setattr(health, "EVERY", 0.4)
    monkeypatch.setattr(drive_waiting, "LOOK", 0.2)
    for name, value in drive_server.environment.items():
        monkeypatch.setenv(name, value)

    def make(**overrides: Any) -> Settings:
        return make_settings(**{"redis_url": redis_url, "drive_chunk_size": 262_144, **overrides})

    return make


@asynccontextmanager
async def drive_worker(settings: Settings) -> AsyncIterator[None]:
    """A worker that copies to Drive, and says how it is."""
    assert settings.redis_url is not None
    async with (
        open_log(settings, settings.redis_url.get_secret_value()) as log,
        open_drive(settings) as opened,
        hosted(drive, log, {Drive: opened, Histories: log}, settings, "worker-1") as host,
        running(Reporter(log, settings, "worker-1", [host]).run()),
    ):
        yield


@pytest.fixture
async def api(configured: Callable[..., Settings]) -> AsyncIterator[Api]:
    """The API and a worker that copies to Drive."""
    settings = configured()
    async with running_api(settings) as api, drive_worker(settings):
        yield api


def lines(api: Api) -> list[str]:
    """Messages of `video_uploads.log`."""
    path = api.settings.logs / "video_uploads.log"
    return [line.split(" - ", 2)[2] for line in path.read_text().splitlines()] if path.exists() else []


async def failures(api: Api) -> Counter[str]:
    """How often each of the three lines of a failure stands there."""
    await api.settled()
    return Counter(start for line in lines(api) for start in FAILURE if line.startswith(start))


async def completed(api: Api, video: str) -> None:
    """Wait until a video is in Drive."""
    found = await api.services.log.wait_for(video, {"DriveUploadCompleted"}, timeout=30)
    assert found is not None


async def test_the_answer_holds_the_link(api: Api, drive_server: DriveServer, clip: Path) -> None:
    """200 as ever: Drive's id and link, the local file, and all lines in the log that people know."""
    answer = await api.upload(clip, "video.mp4", "Tutorial")

    assert answer.status == 200, answer
    body = answer.body
    [file] = drive_server.files()
    assert list(body)[:6] == ["success", "video_id", "drive_link", "filename", "local_backup", "file_size_mb"]
    assert body["success"] is True
    assert body["video_id"] == file["id"]
    assert body["drive_link"] == f"https://drive.google.com/file/d/{file['id']}/view"
    assert body["filename"] == file["name"] == "Tutorial_video.mp4"
    assert body["id"] == file["appProperties"]["video"]
    assert Path(file["path"]).read_bytes() == clip.read_bytes() == Path(body["local_backup"]).read_bytes()
    await api.settled()
    path, name, drive_id = Path(body["local_backup"]), body["filename"], body["video_id"]
    size = clip.stat().st_size
    assert lines(api) == [
        f"Received video upload: {name} ({size / 2**20:.2f} MB, video/mp4)",
        f"Video saved locally: {path.name} ({size} bytes)",
        f"Starting Drive upload for: {name}",
        f"Drive upload successful: {name} (ID: {drive_id})",
        f"Permissions set for: {name} (ID: {drive_id})",
        f"✓ Complete upload success: {name} (Drive ID: {drive_id}, Local: {path})",
    ]
    figures = (await api.get("/metrics")).body
    assert 'spoolhouse_drive_answers_total{result="completed"} 1.0' in figures
    assert "spoolhouse_drive_seconds_count 1.0" in figures


async def test_failures_that_pass_are_waited_out(api: Api, drive_server: DriveServer, clip: Path) -> None:
    """The first try fails, the second does not: one answer, and it is a good one."""
    drive_server.inject("POST .*/permissions", status=403, reason="publishOutNotPermitted")

    answer = await api.upload(clip)

    assert answer.status == 200, answer
    assert answer.body["drive_link"]
    assert set((await failures(api)).values()) == {1}


async def test_an_unreachable_drive_is_told_at_once_and_the_file_follows(
    api: Api, drive_server: DriveServer, clip: Path
) -> None:
    """502 for the upload that finds out and for those after it; each failure stands in the log once."""
    drive_server.stop()

    first = await api.upload(clip, "one.mp4")
    began = time.monotonic()
    others = await asyncio.gather(*(api.upload(clip, f"{n}.mp4") for n in range(4)))
    seconds = time.monotonic() - began

    for answer in (first, *others):
        assert answer.status == 502, answer
        assert list(answer.body)[:4] == ["success", "error", "local_backup", "message"]
        assert answer.body["success"] is False
        assert answer.body["error"].startswith("Failed to upload to Drive: Google Drive is unreachable")
        assert answer.body["message"] == "Video saved locally but Drive upload failed. Video is NOT lost."
        assert Path(answer.body["local_backup"]).read_bytes() == clip.read_bytes()
    assert seconds < 8
    assert await failures(api) == dict.fromkeys(FAILURE, 5)

    drive_server.start()
    for answer in (first, *others):
        await completed(api, answer.body["id"])
    assert len(drive_server.files()) == 5
    assert await failures(api) == dict.fromkeys(FAILURE, 5)
    assert sum(line.startswith("✓ Complete upload success") for line in lines(api)) == 5


async def test_refused_credentials_are_told_at_once(
    api: Api, drive_server: DriveServer, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Google's words; once they are mended all of it follows, and there was no storm of requests."""
    drive_server.refuse_credentials("Invalid grant: account not found")

    answers = [await api.upload(clip) for _ in range(3)]

    assert [answer.status for answer in answers] == [502, 502, 502]
    assert all("account not found" in answer.body["error"] for answer in answers)
    assert await failures(api) == dict.fromkeys(FAILURE, 3)
    assert starts(api) == 3, "each has its start, whether the worker or the answer told the failure"
    assert sum(request["path"] == "/token" for request in drive_server.requests()) < 5
    drive_server.refuse_credentials(None)
    assert api.settings.drive_credentials is not None
    drive_server.credentials(api.settings.drive_credentials)
    for answer in answers:
        await completed(api, answer.body["id"])


@pytest.mark.parametrize("missing", ["DRIVE_FOLDER_ID", "SPOOLHOUSE_DRIVE_CREDENTIALS"])
async def test_half_of_the_configuration_is_a_failure(
    configured: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, clip: Path, missing: str
) -> None:
    """Folder without credentials, credentials without folder: said at once, whether or not a worker runs."""
    monkeypatch.delenv(missing)
    async with running_api(configured()) as api:
        answer = await api.upload(clip)

        assert answer.status == 502
        assert answer.body["error"].startswith("Failed to upload to Drive: Could not initialize Drive service")
        assert await failures(api) == dict.fromkeys(FAILURE, 1)
        assert starts(api) == 1
        async with drive_worker(api.settings):  # it finds the same, and says nothing more
            await until(lambda: told_down(api))
        assert await failures(api) == dict.fromkeys(FAILURE, 1)


def starts(api: Api) -> int:
    """How often the log says that an upload to Drive starts."""
    return sum(line.startswith("Starting Drive upload for: ") for line in lines(api))


async def told_down(api: Api) -> bool:
    """Whether a worker says that it cannot use Drive."""
    found = await health.accounts(api.services.log)
    return any(group.breaker for account in found for group in account.groups)


async def test_what_was_given_up_is_told_and_tried_again_when_asked(
    configured: Callable[..., Settings], drive_server: DriveServer, clip: Path
) -> None:
    """Parked: 502 with the reason. `drive/retry` brings it there; once more, and it is there already."""
    settings = configured(attempts=1)
    async with running_api(settings) as api, drive_worker(settings):
        drive_server.inject("POST .*/permissions", status=403, reason="publishOutNotPermitted", times=1)
        refused = await api.upload(clip)
        assert refused.status == 502
        assert "publishOutNotPermitted" in refused.body["error"]
        assert await failures(api) == dict.fromkeys(FAILURE, 1)

        video = refused.body["id"]
        again = await api.ask("POST", f"/api/videos/{video}/drive/retry")
        assert (again.status, again.body["success"], again.body["state"]) == (202, True, "replayed")
        await completed(api, video)
        there = await api.ask("POST", f"/api/videos/{video}/drive/retry")
        [file] = drive_server.files()
        assert (there.status, there.body["state"], there.body["video_id"]) == (200, "complete", file["id"])
        assert there.body["drive_link"] == f"https://drive.google.com/file/d/{file['id']}/view"


async def test_what_waits_for_its_next_try_is_tried_now_when_asked(
    configured: Callable[..., Settings], drive_server: DriveServer, clip: Path
) -> None:
    """It need not wait out its pause."""
    settings = configured(drive_wait=0.0)
    drive_server.inject("POST .*/permissions", status=403, reason="publishOutNotPermitted", times=1)
    async with running_api(settings) as api:
        video = (await api.upload(clip)).body["id"]
        async with drive_worker(settings):
            assert await api.services.log.wait_for(video, {"AttemptFailed"}, timeout=30)

            async def asked() -> bool:
                answer = await api.ask("POST", f"/api/videos/{video}/drive/retry")
                return answer.body["state"] in {"hastened", "complete"}

            await until(asked)
            await completed(api, video)


async def test_no_more_than_the_wait_is_waited(
    configured: Callable[..., Settings], drive_server: DriveServer, clip: Path
) -> None:
    """202, the copy follows; the status URL is there."""
    settings = configured(drive_wait=0.5)
    drive_server.inject("PUT /upload", "slow", seconds=2.0)
    async with running_api(settings) as api, drive_worker(settings):
        answer = await api.upload(clip)

        assert answer.status == 202
        assert (answer.body["success"], answer.body["drive_link"]) == (True, None)
        assert answer.body["video_id"] == answer.body["id"]
        assert answer.body["status_url"] == f"/api/videos/{answer.body['id']}"
        assert Path(answer.body["local_backup"]).read_bytes() == clip.read_bytes()
        await completed(api, answer.body["id"])
        await api.settled()
        assert (await api.get(answer.body["status_url"])).status == 200
        assert await failures(api) == {}


async def test_nobody_waits_for_workers_that_are_not_there(
    configured: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    """202 after a moment in which one may come back; then one does."""
    monkeypatch.setattr(drive_waiting, "PATIENCE", 0.5)
    async with running_api(configured()) as api:
        answer = await api.upload(clip)
        assert answer.status == 202
        async with drive_worker(api.settings):
            await completed(api, answer.body["id"])


async def test_with_redis_down_the_upload_is_taken_all_the_same(
    configured: Callable[..., Settings], own_redis: RedisServer, clip: Path
) -> None:
    """200 once the bytes are durable; no one can say anything of Drive, so it follows."""
    async with running_api(configured(redis_url=own_redis.url)) as api:
        await api.settled()
        own_redis.stop()
        answer = await api.upload(clip)
        assert (answer.status, answer.body["drive_link"]) == (200, None)
        retried = await api.ask("POST", f"/api/videos/{answer.body['id']}/drive/retry")
        assert retried.status == 503
        own_redis.start()
        async with drive_worker(api.settings):
            await completed(api, answer.body["id"])


async def test_a_client_that_leaves_while_it_waits_changes_nothing(
    api: Api, drive_server: DriveServer, clip: Path
) -> None:
    """Its video is copied, and the next one is served."""
    drive_server.inject("PUT /upload", "slow", seconds=1.0)
    leaving = asyncio.create_task(api.upload(clip, "leaving.mp4"))
    await until(lambda: any(session["received"] == 0 for session in drive_server.state()["sessions"]))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    answer = await api.upload(clip, "staying.mp4")

    assert answer.status == 200
    await until(lambda: {file["name"] for file in drive_server.files()} == {"leaving.mp4", "staying.mp4"})


async def test_a_hundred_that_wait_cost_next_to_nothing(
    configured: Callable[..., Settings], redis_server: RedisServer
) -> None:
    """They share one look at the workers and one follower of the log; all are let go when the process ends."""
    settings = configured()
    draining = Draining()
    async with open_log(settings, redis_server.url) as log, drive_worker_account(settings):
        waiting = DriveWaiting(log, settings, draining)
        stored = [Waiting(f"{number:08}-0000-4000-8000-000000000000") for number in range(100)]
        await log.append_all([new_event(one.video, one.event, source="upload") for one in stored])
        tasks = [asyncio.create_task(waiting.outcome(one, lambda: False)) for one in stored]
        for _ in range(15):  # until all have looked at what is there
            before, cpu = commands(redis_server), time.process_time()
            await asyncio.sleep(2.0)
            spent, cpu = commands(redis_server) - before, time.process_time() - cpu
            if spent < 300:
                break
        began = time.monotonic()
        draining.asked.set()
        outcomes = await asyncio.gather(*tasks)
        assert time.monotonic() - began < 2
        assert all(isinstance(outcome, Pending) for outcome in outcomes)
        assert spent < 300, "commands in two seconds"
        assert cpu < 1.0


class Waiting:
    """A stored upload."""

    def __init__(self, video: str) -> None:
        self.video, self.logged, self.path = video, True, Path("/uploads/film.mp4")
        now = datetime.now(UTC)
        self.event = VideoStored(
            door="upload",
            path=OsPath(str(self.path)),
            stored_name="20241112_143052_film.mp4",
            filename="film.mp4",
            original_name="film.mp4",
            label="",
            mime="video/mp4",
            size=1,
            sha256="0" * 64,
            received_at=now,
            modified_at=now,
        )


@asynccontextmanager
async def drive_worker_account(settings: Settings) -> AsyncIterator[None]:
    """A worker that is there, and never gets to anything."""
    assert settings.redis_url is not None
    async with open_log(settings, settings.redis_url.get_secret_value()) as log:
        group = health.GroupAccount("drive", list(range(settings.partitions)), 100, 0, 0)
        account = health.Account("idle", "here", 1, time.time(), time.time(), [group])

        async def tell() -> None:
            while True:
                await health.publish(log, account)
                await asyncio.sleep(0.2)

        async with running(tell()):
            yield


def commands(server: RedisServer) -> int:
    """How many commands a Redis has processed."""
    with server.connect() as connection:
        connection.sendall(b"INFO stats\r\n")
        told = b""
        while b"total_commands_processed:" not in told or not told.endswith(b"\r\n"):
            told += connection.recv(65536)
    return int(told.split(b"total_commands_processed:")[1].split()[0])


async def test_wishes_for_what_is_not_there_are_refused(api: Api) -> None:
    """404 for unknown ids, and for what is none."""
    unknown: Answer = await api.ask("POST", "/api/videos/00000000-0000-4000-8000-000000000000/drive/retry")
    assert (unknown.status, unknown.body["success"]) == (404, False)
    for strange in ("sys:disk", "x" * 500, "%FF"):
        assert (await api.ask("POST", f"/api/videos/{strange}/drive/retry")).status == 404


async def test_without_drive_all_is_as_ever(
    configured: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    """200, our own id, no link; a wish for Drive is answered with what to set. What was missed follows once it is there."""
    with monkeypatch.context() as unset:
        for name in ("DRIVE_FOLDER_ID", "SPOOLHOUSE_DRIVE_CREDENTIALS", "SPOOLHOUSE_DRIVE_ENDPOINT"):
            unset.delenv(name)
        async with running_api(configured()) as api:
            answer = await api.upload(clip)
            assert (answer.status, answer.body["drive_link"]) == (200, None)
            assert answer.body["video_id"] == answer.body["id"]
            assert "status_url" not in answer.body
            retried = await api.ask("POST", f"/api/videos/{answer.body['id']}/drive/retry")
            assert retried.status == 409
            assert "DRIVE_FOLDER_ID" in retried.body["error"]
    async with running_api(configured()) as api:
        retried = await api.ask("POST", f"/api/videos/{answer.body['id']}/drive/retry")
        assert (retried.status, retried.body["state"]) == (202, "requested")
        async with drive_worker(api.settings):
            await completed(api, answer.body["id"])
