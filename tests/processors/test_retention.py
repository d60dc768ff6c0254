"""Local copies go only where every copy elsewhere is whole, and nothing that is known of them is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from processors.copies import chunk_key, manifest_key
from processors.retention import Retention
from processors.storage.originals import NotOursError, NotThereError, Original
from streams.errors import LogUnavailableError
from streams.events import FileSettled, ReplicaDamaged, VideoOffloaded, VideoRestored, VideoStored
from streams.log import Appended, Log, NewEvent, new_event, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.drive_server import DriveServer
from tests.processors.replicating import new_video
from tests.processors.retaining import World, world
from tests.processors.watched import Watched
from tests.processors.watched import until as until_true
from tests.servers import RedisServer
from tests.swift import SwiftServer

WHOLE = "its copy is whole in the object store"

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="module")
def bucket() -> str:
    """One for all of them: it takes Swift its time to make one, and no two videos share an object."""
    return f"retention-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def settings(s3_env: dict[str, str], make_settings: MakeSettings) -> Settings:
    """Small chunks, and the S3 server."""
    return make_settings(partitions=2, chunk_size=4096)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log."""
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
async def here(log: Log, settings: Settings) -> AsyncIterator[World]:
    """Videos of long ago, and the S3 server."""
    async with world(log, settings) as made:
        yield made


def path_of(here: World, name: str = "lesson.mp4") -> Path:
    return here.settings.uploads / name


# ---------------------------------------------------------------- all is well


async def test_an_old_upload_that_is_whole_elsewhere_goes(here: World) -> None:
    """Verified just before, the log first; once, however often we look."""
    video = await here.upload()
    [one] = await here.look()
    assert (one.video, one.verdict, one.reason, one.freed) == (video, "deleted", WHOLE, 10_000)
    assert not path_of(here).exists()
    assert (await here.types(video))[-3:] == ["ReplicationCompleted", "ReplicaVerified", "VideoOffloaded"]
    facts = await here.facts(video)
    assert (facts.state, facts.offloads) == ("offloaded", 1)
    assert await here.look() == []
    assert here.sidecars.offloads.videos() == [video]


async def test_a_dry_run_changes_nothing_at_all(here: World) -> None:
    """It says what would happen, and why."""
    video = await here.upload()
    before, files = await here.types(video), sorted(here.settings.data.rglob("*"))
    assert await here.decided(dry_run=True) == ("would delete", WHOLE)
    assert await here.types(video) == before
    assert sorted(here.settings.data.rglob("*")) == files


async def test_only_what_came_in_long_enough_ago(here: World) -> None:
    """Younger files are not even named."""
    await here.upload()
    assert await here.look(days=61) == []
    assert path_of(here).exists()


async def test_a_hard_link_elsewhere_means_that_nothing_is_freed(here: World, tmp_path: Path) -> None:
    """The name goes, the other one stays, and the sum is honest."""
    await here.upload()
    os.link(path_of(here), tmp_path / "kept.mp4")
    [one] = await here.look()
    assert (one.verdict, one.freed) == ("deleted", 0)
    assert (tmp_path / "kept.mp4").stat().st_size == 10_000


async def test_a_directory_is_read_byte_by_byte(make_settings: MakeSettings, redis_url: str, tmpfs: Path) -> None:
    """It keeps no checksums: a byte that turned there keeps the file here."""
    settings = make_settings(partitions=2, chunk_size=4096, s3_endpoint=f"file://{tmpfs}")
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        video = await here.upload()
        stream = (await here.facts(video)).stream()
        assert stream is not None
        chunk = tmpfs / "videos" / chunk_key(stream.id, 1)
        good = chunk.read_bytes()
        chunk.write_bytes(good[:-1] + b"?")
        verdict, reason = await here.decided()
        assert verdict == "kept"
        assert "chunk_000001.bin" in reason
        assert path_of(here).exists()
        chunk.write_bytes(good)
        second = await here.upload("second.mp4")
        assert {one.video: one.verdict for one in await here.look()} == {video: "kept", second: "deleted"}


# ---------------------------------------------------------------- nothing is deleted


async def test_without_any_place_for_copies_everything_stays(make_settings: MakeSettings, redis_url: str) -> None:
    """Whatever the age."""
    settings = make_settings(partitions=2)
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        await here.upload()
        verdict, reason = await here.decided(days=0)
        assert (verdict, "no copy elsewhere is configured" in reason) == ("kept", True)
        assert path_of(here).exists()


async def test_a_video_that_was_not_copied_yet_stays(here: World) -> None:
    """Nothing is in the store."""
    await here.upload(copy=False)
    assert await here.decided() == ("kept", "there is no complete copy in the object store yet")


@pytest.mark.parametrize("gone", ["chunk", "manifest", "altered chunk"])
async def test_a_copy_that_is_no_longer_whole_keeps_the_file(
    here: World, s3_server: SwiftServer, bucket: str, gone: str
) -> None:
    """Found right before, written down, and believed until it is repaired."""
    video = await here.upload()
    stream = (await here.facts(video)).stream()
    assert stream is not None
    if gone == "altered chunk":
        s3_server.overwrite(bucket, chunk_key(stream.id, 1), b"x" * 4096)
    else:
        s3_server.delete(bucket, chunk_key(stream.id, 1) if gone == "chunk" else manifest_key(stream.id))
    verdict, reason = await here.decided()
    assert verdict == "kept"
    assert reason.startswith("its copy in the object store is damaged: ")
    assert (await here.types(video))[-1] == "ReplicaDamaged"
    verdict, reason = await here.decided()
    assert (verdict, f"`spoolhouse verify {video} --repair`" in reason) == ("kept", True)
    assert path_of(here).exists()


async def test_damage_that_only_a_deep_look_sees_is_not_overlooked(here: World) -> None:
    """A shallow look would find all well."""
    video = await here.upload()
    stream = (await here.facts(video)).stream()
    assert stream is not None
    found = ReplicaDamaged(
        replica="s3", revision=1, target=stream.id, verification=1, deep=True, missing=0, wrong=1, faults=("a byte",)
    )
    await here.tell(video, found)
    assert (await here.decided())[0] == "kept"
    assert (await here.types(video))[-1] == "ReplicaDamaged"


async def test_a_store_that_is_down_keeps_everything(
    use_s3: Callable[[SwiftServer], dict[str, str]], own_s3: SwiftServer, make_settings: MakeSettings, redis_url: str
) -> None:
    """Asked once for all of them, and said."""
    use_s3(own_s3)
    settings = make_settings(partitions=2, s3_connect_timeout=0.5)
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            await here.upload(name)
        own_s3.stop()
        outcomes = await here.look()
        assert [one.verdict for one in outcomes] == ["kept"] * 3
        assert all("could not be verified" in one.reason for one in outcomes)
        assert len(list(settings.uploads.glob("*.mp4"))) == 3


async def test_a_log_that_is_down_keeps_everything(own_redis: RedisServer, settings: Settings) -> None:
    """The look ends with that."""
    async with open_log(settings, own_redis.url) as log, world(log, settings) as here:
        await here.upload()
        own_redis.kill()
        with pytest.raises(LogUnavailableError):
            await here.look()
        assert path_of(here).exists()


async def test_every_configured_place_must_have_it(
    drive_server: DriveServer, settings: Settings, make_settings: MakeSettings, redis_url: str
) -> None:
    """In the object store and in Drive; one of them is not enough, nor one in the bin."""
    both = make_settings(
        partitions=2,
        chunk_size=4096,
        drive_folder_id=drive_server.shared_drive_folder_id,
        drive_credentials=drive_server.credentials(drive_server.folder / "key.json", "service_account"),
        drive_endpoint=drive_server.url,
    )
    async with open_log(both, redis_url) as log:
        async with world(log, settings) as only_s3:
            lacking = await only_s3.upload("lacking.mp4")
        async with world(log, both) as here:
            whole, altered = await here.upload("whole.mp4"), await here.upload("altered.mp4", b"another film" * 999)
            [copy] = (await here.facts(altered)).drive
            drive_server.corrupt(copy)
            outcomes = {one.video: one for one in await here.look()}
            assert outcomes[lacking].reason == "there is no complete copy in Google Drive yet"
            assert outcomes[whole].verdict == "deleted"
            assert outcomes[whole].reason == "its copy is whole in the object store and Google Drive"
            assert "Google Drive is damaged" in outcomes[altered].reason
            offloaded = (await log.history(whole))[-1].event
            assert isinstance(offloaded, VideoOffloaded)
            assert offloaded.replicas == ("s3", "drive")
            drive_server.stop()
            await here.upload("third.mp4", copy=False)
            assert {one.verdict for one in await here.look()} == {"kept"}


async def test_a_newer_revision_that_was_not_copied_stays(here: World) -> None:
    """The copy in the store is of what was there before."""
    video = await here.upload()
    [first] = [one.event for one in await here.log.history(video) if isinstance(one.event, VideoStored)]
    await here.log.append(new_event(video, replace(first, revision=2), source="test", ordinal=2))
    assert await here.decided() == ("kept", "there is no complete copy in the object store yet")


async def test_a_file_that_changed_stays(here: World) -> None:
    """Other bytes of the same length; a longer one; and a copy put back from a backup, which may go."""
    await here.upload("other.mp4")
    path_of(here, "other.mp4").write_bytes(b"9876543210" * 1000)
    await here.upload("longer.mp4")
    path_of(here, "longer.mp4").write_bytes(b"x" * 10_001)
    await here.upload("backup.mp4")
    shutil.copy(path_of(here, "backup.mp4"), path_of(here, "new"))
    os.replace(path_of(here, "new"), path_of(here, "backup.mp4"))
    outcomes = {os.path.basename(one.path): one for one in await here.look()}
    assert outcomes["other.mp4"].reason == "the file is not the one that was copied"
    assert outcomes["longer.mp4"].reason == "the file has 10001 bytes, and 10000 were copied"
    assert outcomes["backup.mp4"].verdict == "deleted"


async def test_a_file_that_someone_writes_to_stays(here: World) -> None:
    """Even if nothing was written yet."""
    await here.upload()
    with path_of(here).open("r+b"):
        assert await here.decided() == ("kept", "someone has the file open for writing")
    assert (await here.decided())[0] == "deleted"


async def test_links_are_not_followed_and_folders_not_left(here: World, tmp_path: Path) -> None:
    """A file that became a link, one below a link, one elsewhere; a missing one is no trouble."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await here.upload("link.mp4")
    path_of(here, "link.mp4").rename(elsewhere / "link.mp4")
    path_of(here, "link.mp4").symlink_to(elsewhere / "link.mp4")
    await here.upload("missing.mp4")
    path_of(here, "missing.mp4").unlink()
    outcomes = {os.path.basename(one.path): one for one in await here.look()}
    assert outcomes["link.mp4"].reason.endswith("link.mp4 is a link")
    assert outcomes["missing.mp4"].reason == "there is no local file"
    assert (elsewhere / "link.mp4").exists()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("{base}/inner/film.mp4", "a part of"),
        ("{base}/../outside.mp4", "does not lie in"),
        ("{base}/./film.mp4", "does not lie in"),
        ("{base}2/film.mp4", "does not lie in"),
        ("/etc/passwd", "does not lie in"),
        ("{base}/folder", "is no file"),
    ],
)
def test_what_lies_elsewhere_is_not_ours(tmp_path: Path, path: str, told: str) -> None:
    """Each step below the folder is taken without links."""
    base, elsewhere = tmp_path / "base", tmp_path / "elsewhere"
    for folder in (base, base / "folder", elsewhere):
        folder.mkdir()
    (elsewhere / "film.mp4").write_bytes(b"film")
    (tmp_path / "outside.mp4").write_bytes(b"film")
    (base / "inner").symlink_to(elsewhere)
    with pytest.raises(NotOursError, match=told):
        Original.open(base, OsPath(path.format(base=base)))
    with pytest.raises(NotThereError):
        Original.open(base, OsPath(f"{base}/folder/film.mp4"))


def test_what_is_replaced_while_we_hold_it_is_not_removed(tmp_path: Path) -> None:
    """By name it is the same, and yet another file."""
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    with Original.open(tmp_path, OsPath(str(path))) as original:
        (tmp_path / "new").write_bytes(b"new")
        os.replace(tmp_path / "new", path)
        with pytest.raises(NotOursError, match="replaced just now"):
            original.remove()
    assert path.read_bytes() == b"new"


# ---------------------------------------------------------------- watched originals


async def test_watched_originals_stay_unless_their_root_opted_in(
    here: World, make_settings: MakeSettings, tmp_path: Path
) -> None:
    """And then as carefully as any other."""
    asked, unasked = tmp_path / "asked", tmp_path / "unasked"
    one, other = await here.watch(asked / "film.mp4"), await here.watch(unasked / "film.mp4")
    opted_in = here.settings.model_copy(update={"retention_watch": (asked,)})
    outcomes = {one.video: one for one in await here.look(days=0)}
    assert {outcome.verdict for outcome in outcomes.values()} == {"kept"}
    assert all(outcome.unasked and "SPOOLHOUSE_RETENTION_WATCH" in outcome.reason for outcome in outcomes.values())
    here.retention = Retention(here.log, here, opted_in, here.store, here.drive)
    outcomes = {one.video: one for one in await here.look(days=0)}
    assert (outcomes[one].verdict, outcomes[other].verdict) == ("deleted", "kept")
    assert ((asked / "film.mp4").exists(), (unasked / "film.mp4").exists()) == (False, True)


async def test_the_age_of_a_watched_file_is_that_of_its_content(here: World, tmp_path: Path) -> None:
    """Replaced just now, it is not old, whenever its path was first seen."""
    settings = here.settings.model_copy(update={"retention_watch": (tmp_path / "inbox",)})
    here.retention = Retention(here.log, here, settings, here.store, here.drive)
    video = await here.watch(tmp_path / "inbox" / "film.mp4")
    first = (await here.log.history(video))[0].time
    await here.watch(tmp_path / "inbox" / "film.mp4", b"another cut" * 500, revision=2)
    second = [one.time for one in await here.log.history(video) if isinstance(one.event, FileSettled)][1]
    assert first < second

    middle = first + (second - first) / 2  # the first content would just be old enough
    days = (datetime.now(UTC) - middle).total_seconds() / 86_400
    verdict, reason = await here.decided(days=days)
    assert (verdict, "its content lies there since" in reason) == ("kept", True)
    assert (await here.decided(days=0))[0] == "deleted"


async def test_the_watcher_takes_no_offload_for_a_removal(here: World, tmp_path: Path) -> None:
    """Every file of the root goes at once: no hold, no removal, by inotify or by a later scan."""
    root = tmp_path / "inbox"
    root.mkdir()
    settings = here.settings.model_copy(update={"retention_watch": (root,), "watch_rescan_interval": 0.3})
    watched = Watched(here.log, settings, root)
    await watched.reserve()
    here.retention = Retention(here.log, here, settings, here.store, here.drive)
    names = [f"film{number}.mp4" for number in range(3)]
    async with watched.running() as source:
        for name in names:
            (root / name).write_bytes(os.urandom(5000))
        files = await watched.becomes(*names)
        for file in files.values():
            await here.copy(file.id)
        assert [one.verdict for one in await here.look(days=0)] == ["deleted"] * 3
        (root / "later.mp4").write_bytes(b"later")
        await watched.becomes("later.mp4")
        await watched.ready()  # a file that came and went: what had gone before it was dealt with
        assert source.held is None
        for file in files.values():
            assert (await watched.types(file.id))[-1] == "VideoOffloaded"
        assert "RootHeld" not in await watched.root_types()


# ---------------------------------------------------------------- back again


async def test_what_was_restored_is_as_if_it_had_come_in_then(here: World) -> None:
    """It is not deleted by the next look; later it may go again."""
    video = await here.upload()
    content = path_of(here).read_bytes()
    assert (await here.decided())[0] == "deleted"
    path_of(here).write_bytes(content)
    facts = await here.facts(video)
    restored = VideoRestored(
        revision=1, path=OsPath(str(path_of(here))), size=10_000, sha256=facts.sha256 or "", replica="s3", offload=1
    )
    await here.tell(video, restored)
    here.sidecars.returned(video)
    here.sidecars.returned(video)
    assert here.sidecars.offloads.videos() == []
    sidecar = here.sidecars.get(video)
    assert sidecar is not None
    assert sidecar.inode == path_of(here).stat().st_ino
    verdict, reason = await here.decided()
    assert (verdict, "its content lies there since" in reason) == ("kept", True)
    assert await here.reconciler.survey() == 0, "a file that is back is no new video"
    assert (await here.decided(days=0))[0] == "deleted"
    assert (await here.facts(video)).offloads == 2


async def test_a_note_that_a_restore_left_is_dropped(here: World) -> None:
    """The restore died before it took the note back."""
    video = await here.upload()
    content = path_of(here).read_bytes()
    await here.look()
    path_of(here).write_bytes(content)
    restored = VideoRestored(
        revision=1, path=OsPath(str(path_of(here))), size=10_000, sha256="", replica="s3", offload=1
    )
    await here.tell(video, restored)
    assert (await here.decided())[0] == "kept"
    assert here.sidecars.offloads.videos() == []
    assert path_of(here).exists()


async def test_a_file_that_is_being_restored_is_left_alone(here: World) -> None:
    """It lies at its place already, and the log does not say so yet."""
    await here.upload()
    content = path_of(here).read_bytes()
    await here.look()
    path_of(here).write_bytes(content)
    verdict, reason = await here.decided()
    assert (verdict, "another one than was offloaded" in reason) == ("kept", True)
    assert path_of(here).read_bytes() == content


# ---------------------------------------------------------------- the log loses its tail


async def test_a_log_that_lost_everything_gets_offloaded_videos_back(
    here: World, redis_server: RedisServer, tmp_path: Path
) -> None:
    """As they were: with their copies, times and ids; watched ones, too. What is not offloaded stays present."""
    root = tmp_path / "inbox"
    settings = here.settings.model_copy(update={"retention_watch": (root,)})
    here.retention = Retention(here.log, here, settings, here.store, here.drive)
    upload, seen = await here.upload(), await here.watch(root / "film.mp4")
    assert [one.verdict for one in await here.look(days=0)] == ["deleted"] * 2
    kept = await here.upload("kept.mp4")
    before = {video: await here.log.history(video) for video in (upload, seen)}
    redis_server.flush()
    await here.log.prepare()
    assert await here.reconciler.reappend_all() > 0
    assert await here.reconciler.reappend_all() == 0
    for video, history in before.items():
        again = await here.log.history(video)
        assert [(one.id, one.time, one.event) for one in again] == [
            (one.id, one.time, one.event) for one in history if one.type != "ChunkUploaded"
        ]
        assert (await here.facts(video)).state == "offloaded"
    assert (await here.facts(kept)).state == "present"
    assert await here.reconciler.append_pending() == 0
    assert not list((here.settings.sidecars / "lost").glob("*"))


async def test_an_offloaded_video_whose_manifest_broke_is_not_lost(here: World) -> None:
    """It is written anew from the log, and knows that its file is not there on purpose."""
    video = await here.upload()
    await here.look()
    [manifest] = here.settings.sidecars.glob(f"??/{video}.json")
    manifest.write_bytes(b"torn")
    (here.settings.uploads / "20200102_030405_old.mp4").write_bytes(b"makes someone read all manifests")
    assert list(here.sidecars.all()) == []
    await here.reconciler.survey()
    await here.reconciler.append_pending()
    assert manifest.exists()
    assert not list((here.settings.sidecars / "lost").glob("*"))
    assert (await here.facts(video)).state == "offloaded"


# ---------------------------------------------------------------- killed, or two at once


KILLED = """
import asyncio, sys
from streams.log import open_log
from streams.settings import load_settings
from tests.processors.retaining import world

async def main():
    settings = load_settings(data=sys.argv[1], partitions=2, chunk_size=4096)
    async with open_log(settings, sys.argv[2]) as log, world(log, settings) as here:
        await here.look()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("retention.noted", ("present", True, "deleted")),
        ("retention.appended", ("offloaded", True, "deleted")),
        ("retention.removed", ("offloaded", False, None)),
    ],
)
async def test_killed_at_each_step(here: World, redis_url: str, step: str, left: tuple[str, bool, str | None]) -> None:
    """The next look makes good; a lost tail in between does not make a file vanish, nor a video."""
    video = await here.upload()
    dead = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(here.settings.data), redis_url,
        env={**os.environ, "SPOOLHOUSE_CRASH_AT": step, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert await asyncio.wait_for(dead.wait(), 60) == -signal.SIGKILL
    state, there, verdict = left
    assert (await here.facts(video)).state == state
    assert path_of(here).exists() == there
    # As a restart after a lost tail would do it: nothing is told that is not so.
    await here.reconciler.reappend_all()
    assert (await here.facts(video)).state == state
    outcomes = await here.look()
    assert [one.verdict for one in outcomes] == ([verdict] if verdict else [])
    assert not path_of(here).exists()
    facts = await here.facts(video)
    assert (facts.state, facts.offloads) == ("offloaded", 1)
    assert (await here.types(video)).count("VideoOffloaded") == 1


async def test_a_lost_tail_between_log_and_removal_leaves_the_file(here: World, redis_server: RedisServer) -> None:
    """The file is there, so the video is."""
    video = await here.upload()
    content = path_of(here).read_bytes()
    await here.look()
    path_of(here).write_bytes(content)
    redis_server.flush()
    await here.log.prepare()
    await here.reconciler.reappend_all()
    assert (await here.facts(video)).state == "present"


async def test_two_looks_at_once_delete_once(here: World) -> None:
    """The worker's and someone's at a terminal."""
    videos = [await here.upload(f"film{number}.mp4", os.urandom(3000)) for number in range(4)]
    other = World(here.log, here.settings, here.store, here.drive)
    both = [*await asyncio.gather(here.look(), other.look())]
    assert sorted(one.video for look in both for one in look if one.verdict == "deleted") == sorted(videos)
    for video in videos:
        assert (await here.types(video)).count("VideoOffloaded") == 1
    assert list(here.settings.uploads.glob("*")) == []


async def test_a_write_in_between_makes_it_decide_anew(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone wrote about the video after it was folded: nothing is deleted on old knowledge."""
    video = await here.upload()
    append = here.log.append
    damaged: list[Appended] = []

    async def append_later(new: NewEvent, **how: Any) -> Appended:
        if isinstance(new.event, VideoOffloaded) and not damaged:
            stream = (await here.facts(video)).stream()
            assert stream is not None
            found = ReplicaDamaged(
                replica="s3", revision=1, target=stream.id, verification=9, deep=True, missing=0, wrong=1, faults=()
            )
            damaged.append(await append(replace(new, event=found, id=new_video(), expected=None)))
        return await append(new, **how)

    monkeypatch.setattr(here.log, "append", append_later)
    verdict, reason = await here.decided()
    assert damaged
    assert (verdict, "is damaged" in reason) == ("kept", True)
    assert path_of(here).exists()
    assert here.sidecars.offloads.videos() == []


async def test_the_worker_says_what_is_new(here: World) -> None:
    """Each deletion; each file that stays, once; a sum."""
    await here.upload("gone.mp4")
    await here.upload("stays.mp4", copy=False)
    settings = here.settings.model_copy(update={"retention_days": 30.0, "retention_interval": 0.05})
    retention = Retention(here.log, here, settings, here.store, here.drive)
    with capture_logs() as told:
        running = asyncio.create_task(retention.run())

        async def looked() -> bool:
            return here.looks >= 4

        await until_true(looked)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert [one["event"] for one in told if one["event"].startswith("local copy")].count("local copy kept") == 1
    [deleted] = [one for one in told if one["event"] == "local copy deleted"]
    assert deleted["path"].endswith("gone.mp4")
    [total] = [one for one in told if one["event"] == "retention looked"]
    assert (total["deleted"], total["kept"], total["freed"]) == (1, 1, 10_000)


def test_every_step_is_killed_at() -> None:
    """The steps above are all there are."""
    grep = subprocess.run(
        ["grep", "-rhoE", r'reach\("retention\.[a-z]+"\)', "processors"], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert sorted(grep.stdout.split()) == [f'reach("retention.{step}")' for step in ("appended", "noted", "removed")]
