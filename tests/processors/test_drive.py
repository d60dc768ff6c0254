"""The processor that copies videos to Google Drive: every step, every fault, and death between any two of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors import driving
from processors.drive import drive, wanted
from processors.ports import DriveFile
from processors.storage import drive_client
from processors.storage.drive import open_drive
from streams.errors import DependencyDownError, DrainingError, TransientError
from streams.events import FileRemoved, FileReturned, ReplicaDamaged, VideoOffloaded, VideoRestored
from streams.settings import Settings
from tests.drive_server import DriveServer
from tests.processors.drive_world import CHUNK, World, content

handler = sys.modules["processors.drive"]
"""The module; its processor has the same name."""

FILM = content(3 * CHUNK + 1000)

WHOLE = ["DriveUploadStarted", "DriveSessionOpened", *3 * ["DriveOffsetReached"]]
WHOLE += ["DriveFileUploaded", "DrivePermissionsSet", "DriveUploadCompleted"]
"""What happens when nothing goes wrong with FILM."""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between tries."""
    monkeypatch.setattr(drive_client, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(driving, "CHECKSUM_PAUSES", (0.01,) * 5)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriveServer]:
    """One Drive for all that leave it as it was."""
    with DriveServer(tmp_path_factory.mktemp("drive")) as server:
        yield server


@asynccontextmanager
async def opened(server: DriveServer, make_settings: Callable[..., Settings], folder: Path) -> AsyncIterator[World]:
    """A video that is not there yet, and Drive: a service account in a shared drive, chunks as small as they may be."""
    settings = make_settings(
        drive_folder_id=server.shared_drive_folder_id,
        drive_credentials=server.credentials(folder / "credentials.json"),
        drive_endpoint=server.url,
        drive_chunk_size=CHUNK,
        drive_timeout=20.0,
    )
    (folder / "videos").mkdir()
    async with open_drive(settings) as port:
        yield World(settings, port, server, folder / "videos")
    server.clear()


@pytest.fixture
async def world(
    shared_server: DriveServer, make_settings: Callable[..., Settings], tmp_path: Path
) -> AsyncIterator[World]:
    """A video, and a Drive that may be told to misbehave."""
    async with opened(shared_server, make_settings, tmp_path) as made:
        yield made


@pytest.fixture
async def own_world(
    drive_server: DriveServer, make_settings: Callable[..., Settings], tmp_path: Path
) -> AsyncIterator[World]:
    """A video, and a Drive that may also be killed and changed."""
    async with opened(drive_server, make_settings, tmp_path) as made:
        yield made


# ---------------------------------------------------------------- what happens


async def test_an_upload_is_copied_checked_and_shared(world: World) -> None:
    """Under its name without the timestamp, with every step told."""
    path = world.upload(FILM)
    assert await world.run() == WHOLE
    file = world.only_file(FILM)
    assert (file["name"], file["mimeType"]) == ("Tutorial_video.mp4", "video/mp4")
    assert file["appProperties"] == {"video": world.subject, "revision": "1"}
    [started], [uploaded], [completed] = (
        world.of(name) for name in ("DriveUploadStarted", "DriveFileUploaded", "DriveUploadCompleted")
    )
    assert (started.file_id, started.folder_id) == (file["id"], world.settings.drive_folder_id)
    assert uploaded.md5 == completed.md5 == hashlib.md5(FILM).hexdigest()
    assert completed.link == f"https://drive.google.com/file/d/{file['id']}/view"
    assert (completed.path, completed.size, completed.door) == (str(path), len(FILM), "upload")
    assert [one.offset for one in world.of("DriveOffsetReached")] == [CHUNK, 2 * CHUNK, 3 * CHUNK]
    assert [one["type"] for one in file["permissions"]][-1] == "anyone"
    assert world.received() == len(FILM)


async def test_what_is_there_is_not_copied_again(world: World) -> None:
    """Not by a second delivery, not when it is asked for."""
    world.upload(FILM)
    await world.run()
    asked = len(world.server.requests())
    assert await world.run() == []
    world.ask_again()
    assert await world.run() == []
    assert len(world.server.requests()) == asked


@pytest.mark.parametrize("size", [0, CHUNK, 2 * CHUNK, 5])
async def test_files_of_any_size(world: World, size: int) -> None:
    """Empty ones, and those of exactly one chunk."""
    data = content(size)
    world.upload(data)
    await world.run()
    world.only_file(data)
    assert world.facts.drive_copy().completed is not None
    assert world.received() == size


async def test_watched_files_are_copied_too(world: World) -> None:
    """With a media type that Drive plays, and under a name that it can hold."""
    world.settle(FILM, "films/" + os.fsdecode(b"caf\xe9.mkv"))
    assert await world.run() == WHOLE
    file = world.only_file(FILM)
    assert (file["name"], file["mimeType"]) == ("caf?.mkv", "video/x-matroska")
    [completed] = world.of("DriveUploadCompleted")
    assert completed.door == "watch"


@pytest.mark.parametrize("audience", ["nobody", "example.com"])
async def test_shared_with_whom_the_settings_name(world: World, audience: str) -> None:
    """A domain, or nobody."""
    world.settings = world.settings.model_copy(update={"drive_share": audience})
    world.upload(FILM)
    told = await world.run()
    file = world.only_file(FILM)
    domains = [one.get("domain") for one in file["permissions"] if one["type"] in {"domain", "anyone"}]
    if audience == "nobody":
        assert "DrivePermissionsSet" not in told
        assert domains == []
    else:
        assert [one.shared_with for one in world.of("DrivePermissionsSet")] == domains == ["example.com"]
    assert told[-1] == "DriveUploadCompleted"


async def test_what_is_gone_or_replaced_is_left_alone(world: World) -> None:
    """Removed, offloaded, superseded: nothing is asked of Drive."""
    path = world.settle(FILM)
    first = world.facts
    assert wanted(first, 1)
    world.append(VideoOffloaded(revision=1, path=first.path, size=first.size, replicas=("drive",), offload=1))
    assert not wanted(world.facts, 1)
    world.settle(None)
    assert not wanted(world.facts, 1)
    assert wanted(world.facts, 2)
    path.unlink()
    world.append(FileRemoved(root=first.root, relative="films/film.mkv", removal=1))
    asked = len(world.server.requests())
    assert await world.run() == []
    assert len(world.server.requests()) == asked


async def test_a_file_that_is_back_is_copied_after_all(world: World) -> None:
    """It had been removed, or given up for its copy elsewhere, before it was this one's turn."""
    path = world.settle(FILM)
    away = path.rename(path.with_name("away"))
    known = world.facts
    root, relative = known.root, "films/film.mkv"
    world.append(FileRemoved(root=root, relative=relative, removal=1))
    assert await world.run() == []
    away.rename(path)
    found = {"size": known.size, "modified_ns": known.modified_ns, "device": known.device, "inode": known.inode}
    world.append(FileReturned(root=root, relative=relative, removal=1, **found))
    assert await world.run() == WHOLE
    world.only_file(FILM)


async def test_a_restored_file_is_copied_where_drive_came_later(world: World) -> None:
    """It was given up while only another place was configured."""
    path = world.upload(FILM)
    size = len(FILM)
    world.append(VideoOffloaded(revision=1, path=str(path), size=size, replicas=("s3",), offload=1))
    assert await world.run() == []
    told = {"path": str(path), "size": size, "sha256": world.facts.sha256, "replica": "s3"}
    world.append(VideoRestored(revision=1, offload=1, **told))
    assert await world.run() == WHOLE
    world.only_file(FILM)


def test_it_runs_once_drive_is_configured(make_settings: Callable[..., Settings]) -> None:
    """A folder or credentials will do: one without the other is a failure that is said."""
    assert not drive.needs(make_settings())
    assert drive.needs(make_settings(drive_folder_id="x"))
    Path("credentials.json").write_text("{}")
    assert drive.needs(make_settings())


# ---------------------------------------------------------------- death


@pytest.mark.parametrize("survives", range(len(WHOLE) + 1))
async def test_it_goes_on_where_it_died(world: World, survives: int) -> None:
    """After any number of its events: one file, nothing sent twice."""
    world.upload(FILM)
    await world.run(stop_after=survives)
    rest = await world.run()
    assert len(rest) == len(WHOLE) - survives
    world.only_file(FILM)
    assert world.received() == len(FILM)
    assert world.facts.drive_copy().completed is not None
    assert await world.run() == []


def steps() -> list[str]:
    """Every crash point between the steps."""
    found = [re.findall(r"reach\(\"(.*?)\"\)", Path(module.__file__).read_text()) for module in (driving, handler)]
    return sorted({name for names in found for name in names})


def test_the_steps_are_found() -> None:
    """Should they move, the next test does not run empty."""
    assert {"drive.reserved", "drive.session_opened", "drive.chunk_sent", "drive.deleted"} <= set(steps())
    assert all(name.startswith("drive.") for name in steps())


@pytest.mark.parametrize("name", steps())
async def test_it_may_die_between_any_two_steps(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where Drive did something and the log does not know: one file, nothing sent twice."""

    class DiedError(BaseException):
        pass

    def reach(at: str) -> None:
        if at == name:
            raise DiedError

    bad = name in {"drive.deleted", "drive.failure_told"}
    if bad:
        world.server.inject("^PUT", "corrupt")
    world.upload(FILM)
    for module in (driving, handler):
        monkeypatch.setattr(module, "reach", reach)
    with pytest.raises(DiedError):
        await world.run()
    for module in (driving, handler):
        monkeypatch.setattr(module, "reach", lambda _: None)
    if name == "drive.deleted":  # it does not know whether the right bytes went wrong, or it did
        with contextlib.suppress(TransientError):
            await world.run()
    await world.run()
    world.only_file(FILM)
    assert world.facts.drive_copy().completed is not None
    sent = len(FILM) * (2 if bad else 1)
    assert world.received(at_least=sent) == sent


@pytest.mark.parametrize("lost", range(len(WHOLE) + 1))
async def test_a_log_that_lost_its_tail_makes_no_second_file(world: World, lost: int) -> None:
    """The file carries its video and revision: it is found, compared and taken over."""
    world.upload(FILM)
    await world.run()
    del world.events[len(world.events) - lost :]
    await world.run()
    world.only_file(FILM)
    assert world.facts.drive_copy().completed is not None


async def test_a_foreign_copy_with_our_marks_is_replaced(world: World) -> None:
    """Where the log knows nothing of it and its bytes differ."""
    world.upload(FILM)
    await world.run()
    former = world.only_file(FILM)["id"]
    del world.events[1:]
    world.server.corrupt(former)
    await world.run()
    assert world.only_file(FILM)["id"] != former


async def test_an_expired_session_begins_again_with_the_same_id(world: World) -> None:
    """As after a week."""
    world.upload(FILM)
    await world.run(stop_after=4)
    world.server.expire_sessions()
    told = await world.run()
    assert told == [*WHOLE[1:5], *WHOLE[5:]]
    assert [one.session for one in world.of("DriveSessionOpened")] == [1, 2]
    [started] = world.of("DriveUploadStarted")
    assert world.only_file(FILM)["id"] == started.file_id
    assert len({one.step() for one in world.of("DriveOffsetReached")}) == 5


async def test_sessions_that_end_at_once_are_given_up(world: World) -> None:
    """After a few."""
    world.upload(FILM)
    world.server.inject("^PUT", "expire", times=99)
    with pytest.raises(TransientError, match="Drive ends upload sessions"):
        await world.run()
    assert len(world.of("DriveSessionOpened")) == 3
    world.server.clear()
    await world.run()
    world.only_file(FILM)


async def test_drive_is_killed_in_mid_upload(own_world: World) -> None:
    """Each time it is said; nothing is sent twice that Drive had kept."""
    own_world.upload(FILM)
    for survived in (2, 1, 1):
        await own_world.run(stop_after=survived)
        own_world.server.kill()
        with pytest.raises(DependencyDownError, match="Google Drive is unreachable"):
            await own_world.run()
        own_world.server.start()
    await own_world.run()
    own_world.only_file(FILM)
    assert own_world.received(at_least=0) <= len(FILM)  # what it was sent just before it died may not be in its journal
    assert len(own_world.of("DriveUploadFailed")) == 1


async def test_a_draining_worker_stops_between_chunks(world: World) -> None:
    """And whoever comes next goes on."""
    world.upload(FILM)
    world.draining.set()
    with pytest.raises(DrainingError):
        await world.run()
    assert [type(one.event).__name__ for one in world.events][1:] == WHOLE[:2]
    world.draining.clear()
    assert await world.run() == WHOLE[2:]
    assert world.of("DriveUploadFailed") == []


# ---------------------------------------------------------------- faults


FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    (match, action, told)
    for match in ("^POST /upload", "^PUT /upload")
    for action, told in (
        ("status", {"status": 403, "reason": "userRateLimitExceeded"}),
        ("status", {"status": 429}),
        ("status", {"status": 503}),
        ("drop_before", {}),
        ("drop_after", {}),
    )
] + [
    ("^PUT /upload", "drop_middle", {}),
    ("^PUT /upload", "short", {}),
    ("^PUT /upload", "expire", {}),
    ("permissions", "drop_after", {}),
    ("permissions", "status", {"status": 500}),
    ("generateIds", "drop_after", {}),
]


@pytest.mark.parametrize(("match", "action", "told"), FAULTS, ids=str)
async def test_passing_faults_are_nobodys_business(
    world: World, match: str, action: str, told: dict[str, Any], rng: Any
) -> None:
    """One file, right; no failure is told."""
    data = content(8 * CHUNK + 77)
    world.settings = world.settings.model_copy(update={"drive_chunk_size": 2 * CHUNK})
    world.upload(data)
    world.server.inject(match, action, after=rng.randrange(4) if "PUT" in match else 0, **told)
    await world.run()
    world.only_file(data)
    assert world.of("DriveUploadFailed") == []
    assert world.server.state()["faults"][0]["hits"] == 1


async def test_the_reply_to_the_last_chunk_is_lost_and_so_is_the_session(world: World) -> None:
    """409: the file is there already; it is looked at, and taken."""
    world.upload(FILM)
    await world.run(stop_after=5)
    world.server.inject("^PUT", "drop_after", after=1)
    world.server.inject("^PUT", "expire", times=9, after=1)
    told = await world.run()
    assert told == WHOLE[5:]
    world.only_file(FILM)
    assert world.received() == len(FILM)


async def test_a_worker_that_woke_up_late_was_quicker(world: World) -> None:
    """It had a session of its own for the same file, whose end came first: the file is there, and is taken."""
    world.upload(FILM)
    await world.run(stop_after=3)
    [started] = world.of("DriveUploadStarted")
    marks = {"video": world.subject, "revision": "1"}
    uri = await world.port.open_session(started.file_id, "Tutorial_video.mp4", "video/mp4", len(FILM), marks)
    assert isinstance(await world.port.send(uri, FILM, 0, len(FILM)), DriveFile)
    assert (await world.run())[-3:] == WHOLE[-3:]
    assert world.only_file(FILM)["id"] == started.file_id


async def test_other_bytes_arrived(world: World) -> None:
    """The checksum tells: that file is removed, another id is taken, and it is a failure that is said."""
    world.upload(FILM)
    world.server.inject("^PUT", "corrupt", after=1)
    with pytest.raises(TransientError, match="Drive has other bytes than were sent"):
        await world.run()
    assert world.files() == []
    [failed] = world.of("DriveUploadFailed")
    assert failed.reason.startswith("Drive has other bytes")
    await world.run()
    first, second = world.of("DriveUploadStarted")
    assert first.file_id != second.file_id == world.only_file(FILM)["id"]
    assert not world.facts.failing


async def test_the_checksum_comes_late(own_world: World) -> None:
    """Drive computes it after the last byte."""
    own_world.server.configure(md5_missing=3)
    own_world.upload(FILM)
    assert await own_world.run() == WHOLE
    own_world.only_file(FILM)


async def test_a_file_in_the_trash_is_none(world: World) -> None:
    """Someone threw it away between its last byte and the end: it is uploaded anew."""
    world.upload(FILM)
    await world.run(stop_after=6)
    file_id = world.of("DriveUploadStarted")[0].file_id
    await world.port.delete(file_id)
    assert await world.run() == WHOLE
    assert world.only_file(FILM)["id"] != file_id


async def test_a_damaged_copy_is_replaced(world: World) -> None:
    """Once verification said so and someone asks for it."""
    world.upload(FILM)
    await world.run()
    former = world.only_file(FILM)["id"]
    world.server.corrupt(former)
    damaged = ReplicaDamaged(
        replica="drive",
        revision=1,
        target=former,
        verification=1,
        deep=False,
        missing=0,
        wrong=1,
        faults=("another checksum",),
    )
    world.append(damaged)
    world.ask_again()
    assert await world.run() == WHOLE
    assert world.only_file(FILM)["id"] != former
    world.append(replace(damaged, verification=2, target=world.only_file(FILM)["id"], missing=1))
    world.ask_again()
    await world.run(stop_after=3)
    await world.run()
    world.only_file(FILM)
    assert world.facts.drive_copy().damaged is None


# ---------------------------------------------------------------- the local file


async def test_a_file_that_changes_meanwhile_is_given_up_quietly(world: World) -> None:
    """Its bytes are never mixed: what was sent is removed, and the next revision is copied by itself."""
    path = world.settle(FILM)
    await world.run(stop_after=4)
    path.write_bytes(newer := content(2 * CHUNK, 2))
    assert await world.run() == []
    world.settle(None)
    await world.run()
    world.only_file(newer)
    assert world.of("DriveUploadFailed") == []


async def test_a_file_that_changes_during_the_last_chunk(world: World) -> None:
    """Drive has it whole by then, and it is removed again."""
    path = world.settle(FILM)
    world.server.inject("^PUT", "slow", seconds=0.5, after=3)
    running = asyncio.ensure_future(world.run())
    while not world.server.state()["faults"][0]["hits"]:
        await asyncio.sleep(0.01)
    found = os.stat(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert await running == WHOLE[:5]
    assert world.files() == []
    world.settle(None)
    await world.run()
    world.only_file(FILM)


async def test_an_upload_that_was_altered_is_a_failure(world: World) -> None:
    """Nobody announces another revision of it."""
    path = world.upload(FILM)
    path.write_bytes(FILM + b"more")
    with pytest.raises(TransientError, match="were stored"):
        await world.run()
    assert len(world.of("DriveUploadFailed")) == 1


async def test_an_upload_that_turned_bad_on_our_disk_is_no_copy(world: World) -> None:
    """Nor is a good copy taken away for it; once the right file is back, that one is copied."""
    path = world.upload(FILM)
    path.write_bytes(b"\0" + FILM[1:])
    for _ in range(2):
        with pytest.raises(TransientError, match="put the right file back"):
            await world.run()
    assert not world.of("DriveFileUploaded")
    assert world.received() == len(FILM), "it is not sent again and again"
    path.write_bytes(FILM)
    with pytest.raises(TransientError, match="other bytes"):
        await world.run()
    await world.run()
    world.only_file(FILM)
    assert world.facts.drive_copy().completed is not None


async def test_a_good_copy_that_the_log_forgot_outlives_a_bad_local_file(world: World) -> None:
    """It may be the only one that is left."""
    path = world.upload(FILM)
    await world.run()
    del world.events[1:]
    path.write_bytes(b"\0" + FILM[1:])
    with pytest.raises(TransientError, match="put the right file back"):
        await world.run()
    world.only_file(FILM)


async def test_a_file_that_is_missing(world: World) -> None:
    """Removed in mid-upload, what was begun is finished; removed before, it is said until that is known."""
    path = world.settle(FILM)
    world.server.inject("^PUT", "slow", seconds=0.3, after=1)
    running = asyncio.ensure_future(world.run())
    while not world.server.state()["faults"][0]["hits"]:
        await asyncio.sleep(0.01)
    path.unlink()
    assert await running == WHOLE
    world.only_file(FILM)
    other = world.settle(content(5), "films/other.mp4")
    other.unlink()
    with pytest.raises(TransientError, match="the local file is not there"):
        await world.run()
    world.append(FileRemoved(root=world.facts.root, relative="films/other.mp4", removal=1))
    assert await world.run() == []


# ---------------------------------------------------------------- failures that are told


async def test_a_failure_is_told_once_for_each_episode(own_world: World) -> None:
    """People count the lines: not each attempt, not after a restart; a new episode after a success."""
    own_world.upload(FILM)
    own_world.server.refuse_credentials()
    for _ in range(3):
        with pytest.raises(DependencyDownError):
            await own_world.run()
    [failed] = own_world.of("DriveUploadFailed")
    assert failed.episode == 1
    assert failed.reason.startswith("Google gives no token for the service account: invalid_grant")
    assert (failed.filename, failed.door) == ("Tutorial_video.mp4", "upload")
    own_world.server.refuse_credentials(None)
    credentials = own_world.settings.drive_credentials
    assert credentials is not None
    os.utime(credentials, (1, 1))
    await own_world.run()
    assert not own_world.facts.failing


async def test_the_reason_is_the_one_that_people_grep_for(world: World) -> None:
    """`Drive upload failed for N: Could not initialize Drive service`."""
    world.upload(FILM)
    credentials = world.settings.drive_credentials
    assert credentials is not None
    credentials.write_text("{}")
    with pytest.raises(DependencyDownError):
        await world.run()
    assert world.of("DriveUploadFailed")[0].reason.startswith("Could not initialize Drive service")


async def test_session_addresses_are_never_shown(world: World) -> None:
    """They are in the one private field, and nowhere else."""
    world.upload(FILM)
    world.server.inject("^PUT", "drop_after", times=2)
    await world.run()
    [opened] = world.of("DriveSessionOpened")
    assert "uri" in type(opened).private
    secret = opened.uri.rpartition("upload_id=")[2]
    assert secret
    assert not any(secret in repr(one.event) for one in world.events if one.event is not opened)
