"""The upload door: stored first, announced after, and never lost in between."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from processors.adopting import EXTENSIONS
from processors.media.probing import ChildProber, open_prober
from processors.ports import Probed, ProbeFailure
from processors.reconciling import Reconciler
from processors.storage.sidecars import Sidecars
from processors.uploads import Stored, UploadDoor
from streams.codec import recorded
from streams.errors import LogUnavailableError, RejectedError
from streams.events import VideoStored
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.servers import RedisServer


@pytest_asyncio.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """An empty log."""
    async with open_log(settings, redis_url) as log:
        yield log


@pytest_asyncio.fixture
async def prober() -> AsyncIterator[ChildProber]:
    """The real one."""
    async with open_prober(timeout=30, children=1) as prober:
        yield prober


@pytest.fixture
def door(log: Log, settings: Settings, prober: ChildProber) -> UploadDoor:
    """The door."""
    return UploadDoor(log, settings, prober)


@pytest.fixture
def clip(sample_videos: list[Path]) -> bytes:
    """A whole little film."""
    return sample_videos[1].read_bytes()


class Says:
    """A prober that always gives one answer."""

    def __init__(self, answer: Probed | ProbeFailure) -> None:
        self.answer = answer

    async def probe(self, path: OsPath) -> Probed | ProbeFailure:
        """That one."""
        return self.answer


async def send(door: UploadDoor, data: bytes, name: str = "lesson.mp4", **more: Any) -> Stored:
    """Upload, in chunks as a client sends them."""
    async with door.receive(name, **more) as receiving:
        for at in range(0, len(data), 60_000):
            await receiving.write(data[at : at + 60_000])
        return await receiving.finish()


async def refused(door: UploadDoor, data: bytes, **more: Any) -> RejectedError:
    """Upload what cannot be taken; nothing of it is left."""
    with pytest.raises(RejectedError) as caught:
        await send(door, data, **more)
    assert left_in(door.folder) == []
    assert left_in(door.folder.parent / "sidecars") == []
    return caught.value


def left_in(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


async def stored_events(log: Log) -> list[VideoStored]:
    """Every VideoStored in the log."""
    found = []
    for partition in range(log.partitions):
        for entry in await log.read(partition):
            event = recorded(entry.partition, entry.pos, entry.fields).event
            if isinstance(event, VideoStored):
                found.append(event)
    return found


async def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition, awaited if need be."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


# ---------------------------------------------------------------- what is stored


async def test_an_upload_is_a_file_a_manifest_and_an_event(
    door: UploadDoor, log: Log, settings: Settings, clip: bytes
) -> None:
    """With the contract's names, and everything told in the event."""
    stored = await send(door, clip, "video.mp4", label="Tutorial", mime="video/mp4", client_id="me")
    assert stored.logged
    assert re.fullmatch(r"\d{8}_\d{6}_Tutorial_video\.mp4", stored.path.name)
    assert stored.path.parent == settings.uploads
    assert stored.path.read_bytes() == clip
    event = stored.event
    assert (event.filename, event.stored_name) == ("Tutorial_video.mp4", stored.path.name)
    assert (event.size, event.sha256) == (len(clip), hashlib.sha256(clip).hexdigest())
    assert (event.original_name, event.label, event.mime, event.client_id) == (
        "video.mp4",
        "Tutorial",
        "video/mp4",
        "me",
    )
    assert (event.door, event.damaged, event.adopted) == ("upload", None, False)
    assert [one.event for one in await log.history(stored.video)] == [event]
    assert left_in(settings.uploads) == [stored.path.name]
    assert left_in(settings.sidecars) == [f"{stored.video[:2]}/{stored.video}.json"]


async def test_two_of_one_name_in_one_second_are_both_kept(door: UploadDoor, clip: bytes) -> None:
    """Side by side: nobody is overwritten."""
    many = await asyncio.gather(*(send(door, clip + bytes(8)) for _ in range(6)))
    assert len({one.path for one in many}) == 6
    by_second: dict[str, list[str]] = {}
    for one in many:
        by_second.setdefault(one.path.name[:15], []).append(one.event.filename)
    for names in by_second.values():
        assert sorted(names) == sorted(["lesson.mp4", *(f"lesson_{n}.mp4" for n in range(2, len(names) + 1))])


@pytest.mark.parametrize(
    "name", ["../../../etc/cron.d/x.mp4", "a\0b.mp4", "ü" * 150 + ".mp4", "....", "", "日本語.mp4", "x\udcff.mp4"]
)
async def test_no_name_leads_out_of_the_folder(door: UploadDoor, clip: bytes, name: str) -> None:
    """Whatever the sender calls it."""
    stored = await send(door, clip, name, label="../" + name[:20])
    assert stored.path.resolve().parent == door.folder.resolve()
    assert stored.logged


async def test_text_fields_may_come_after_the_file(door: UploadDoor, clip: bytes) -> None:
    """Forms have no order."""
    async with door.receive("a.mp4") as receiving:
        await receiving.write(clip)
        stored = await receiving.finish(label="Late", client_id="me")
    assert (stored.event.filename, stored.event.client_id) == ("Late_a.mp4", "me")


# ---------------------------------------------------------------- what is refused


async def test_an_empty_file_is_400(door: UploadDoor) -> None:
    """Also one of empty chunks."""
    assert (await refused(door, b"")).status == 400


async def test_a_client_id_that_no_table_holds_is_400(door: UploadDoor, clip: bytes) -> None:
    """Before a byte is taken."""
    assert (await refused(door, clip, client_id="x" * 200)).status == 400
    assert (await refused(door, clip, client_id="a\nb")).status == 400


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"%PDF-1.4 and so on",
        b"PK\x03\x04" + bytes(100),
        b"\x7fELF" + bytes(100),
        b"<html><body>404</body></html>",
        b"plain text\n" * 10_000,
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        b"x",
        bytes(100_000),
        bytes(range(256)) * 1000,
    ],
    ids=["png", "pdf", "zip", "elf", "html", "text", "hls", "x", "zeros", "noise"],
)
async def test_what_is_not_a_video_is_415(door: UploadDoor, data: bytes) -> None:
    """With the reason, whatever its name or declared type."""
    error = await refused(door, data, name="clip.mp4", mime="video/mp4")
    assert error.status == 415
    assert "not a video" in str(error)


async def test_what_is_positively_something_else_is_refused_at_its_first_bytes(door: UploadDoor) -> None:
    """Not after 20 GB."""
    async with door.receive("a.mp4") as receiving:
        with pytest.raises(RejectedError) as caught:
            for _ in range(100):
                await receiving.write(b"\x89PNG\r\n\x1a\n" * 1250)
    assert caught.value.status == 415
    assert receiving.received < 200_000
    assert left_in(door.folder) == []


async def test_sound_without_a_picture_is_415(
    door: UploadDoor, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """An mp4 with a sound track only is whole, and no video."""
    import av

    source = make_video(tmp_path / "a.mp4", sound=True)
    with av.open(str(source)) as old, av.open(str(tmp_path / "b.mp4"), "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    error = await refused(door, (tmp_path / "b.mp4").read_bytes())
    assert error.status == 415
    assert "sound" in str(error)


async def test_too_large_is_413(
    make_settings: Callable[..., Settings], log: Log, prober: ChildProber, clip: bytes
) -> None:
    """Announced or found out."""
    door = UploadDoor(log, make_settings(max_upload=100_000), prober)
    assert (await refused(door, clip)).status == 413
    assert (await refused(door, clip, expected_size=len(clip))).status == 413


async def test_a_full_disk_is_507(
    tmpfs: Path, make_settings: Callable[..., Settings], log: Log, prober: ChildProber, clip: bytes
) -> None:
    """Nothing is left, and the next that fits is taken."""
    settings = make_settings(data=tmpfs / "data")
    door = UploadDoor(log, settings, prober)
    assert (await refused(door, clip + bytes(12 * 2**20))).status == 507
    assert (await send(door, clip)).logged


async def test_no_room_for_the_manifest_is_507(
    tmpfs: Path, make_settings: Callable[..., Settings], log: Log, prober: ChildProber, clip: bytes
) -> None:
    """The bytes lie on another disk, yet they are not kept without it."""
    settings = make_settings(data=tmpfs / "data", upload_dir=tmpfs.parent / f"{tmpfs.name}-uploads")
    with open(tmpfs / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space") as full:
        settings.sidecars.mkdir(parents=True)
        (settings.sidecars / "new").mkdir()
        while True:
            filler.write(bytes(4096))
    assert full.value.errno == errno.ENOSPC
    door = UploadDoor(log, settings, prober)
    with pytest.raises(RejectedError) as caught:
        await send(door, clip)
    assert caught.value.status == 507
    assert left_in(settings.uploads) == left_in(settings.sidecars) == []
    assert await stored_events(log) == []


# ---------------------------------------------------------------- what is damaged, and kept


async def test_a_video_cut_off_is_kept_and_marked(door: UploadDoor, clip: bytes) -> None:
    """By what its bytes say."""
    stored = await send(door, clip[:300_000])
    assert stored.event.damaged
    assert stored.path.stat().st_size == 300_000


@pytest.mark.parametrize("kind", ["timeout", "crashed", "unavailable", "unreadable"])
async def test_a_probe_that_fails_does_not_cost_the_video(log: Log, settings: Settings, clip: bytes, kind: Any) -> None:
    """It bears a container's signature: it is kept."""
    door = UploadDoor(log, settings, Says(ProbeFailure(kind, "it did not work")))
    assert (await send(door, clip)).event.damaged == "it did not work"


# ---------------------------------------------------------------- a client that goes


async def test_a_client_that_goes_leaves_nothing(door: UploadDoor, clip: bytes, settings: Settings) -> None:
    """At any byte, and at any await of the end."""
    await send(door, clip)  # the prober is warm
    before = left_in(settings.data)
    for steps in range(0, 60, 2):
        uploading = asyncio.create_task(send(door, clip, "gone.mp4"))
        for _ in range(steps):
            await asyncio.sleep(0.0003)
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
        files = await until(partial(_settled, settings, before))
        if files != before:  # it was quick enough: then it is whole, with its manifest
            path = next(settings.data / name for name in files if "gone" in name)
            assert path.read_bytes() == clip
            assert len(files) == len(before) + 2
        before = files


def _settled(settings: Settings, before: list[str]) -> list[str] | None:
    files = left_in(settings.data)
    half = any(name.endswith(".tmp") for name in files)
    return None if half or len(files) not in (len(before), len(before) + 2) else files


# ---------------------------------------------------------------- the log is down


async def test_an_upload_is_taken_while_the_log_is_down_and_appears_when_it_returns(
    own_redis: RedisServer, settings: Settings, prober: ChildProber, clip: bytes
) -> None:
    """Quickly, the second one at once; the reconciler does the rest."""
    async with open_log(settings, own_redis.url) as log:
        door, reconciler = UploadDoor(log, settings, prober), Reconciler(log, settings, look=0.05)
        await send(door, clip, "first.mp4")
        own_redis.kill()
        began = time.monotonic()
        second = await send(door, clip, "second.mp4")
        assert time.monotonic() - began < 4
        began = time.monotonic()
        third = await send(door, clip, "third.mp4")
        assert time.monotonic() - began < 1.5
        assert (second.logged, third.logged) == (False, False)
        assert Sidecars(settings.sidecars).any_pending()
        running = asyncio.create_task(reconciler.run())
        own_redis.start()
        await until(lambda: not Sidecars(settings.sidecars).any_pending())
        assert sorted(event.filename for event in await stored_events(log)) == ["first.mp4", "second.mp4", "third.mp4"]
        assert [one.event for one in await log.history(second.video)] == [second.event]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_pending_manifests_raise_when_the_log_is_down(
    own_redis: RedisServer, settings: Settings, prober: ChildProber, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller of `append_pending` learns it."""
    async with open_log(settings, own_redis.url) as log:
        door = UploadDoor(log, settings, prober)
        own_redis.kill()
        await send(door, clip)
        monkeypatch.setattr("processors.reconciling.APPEND_WITHIN", 0.2)
        with pytest.raises(LogUnavailableError):
            await Reconciler(log, settings).append_pending()
        assert Sidecars(settings.sidecars).any_pending()


async def test_a_log_that_lost_everything_gets_it_back(
    door: UploadDoor, log: Log, settings: Settings, clip: bytes, redis_server: RedisServer
) -> None:
    """Same ids; what is there already is not counted; what has no file is left out."""
    kept, gone = await send(door, clip), await send(door, clip, "gone.mp4")
    ids = [one.id for one in await log.history(kept.video)]
    reconciler = Reconciler(log, settings)
    assert await reconciler.reappend_all() == 0
    redis_server.flush()
    await log.prepare()
    gone.path.unlink()
    assert await reconciler.reappend_all() == 1
    assert await reconciler.reappend_all() == 0
    assert [one.id for one in await log.history(kept.video)] == ids
    assert len(await stored_events(log)) == 1


# ---------------------------------------------------------------- files that were there


async def test_files_that_lie_there_are_adopted_once(
    log: Log, settings: Settings, clip: bytes, door: UploadDoor
) -> None:
    """Videos by name, complete ones, and those that nobody explained."""
    mine = await send(door, clip)
    folder = settings.uploads
    (folder / "20200102_030405_Old_film.mp4").write_bytes(clip)
    (folder / "noise.MKV").write_bytes(b"whatever")
    (folder / os.fsdecode(b"not-utf8-\xff.avi")).write_bytes(b"RIFF\0\0\0\0AVI ")
    (folder / "notes.txt").write_text("not a video")
    (folder / ".hidden.mp4").write_bytes(clip)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "folder.mp4").mkdir()
    (folder / "link.mp4").symlink_to("/etc/passwd")
    with open(folder / "growing.mp4", "wb") as growing:
        growing.write(clip)
        growing.flush()
        reconciler = Reconciler(log, settings)
        assert await reconciler.survey() == 3
        assert await reconciler.survey() == 0
        assert await Reconciler(log, settings).survey() == 0
        assert await reconciler.append_pending() == 3
    assert await reconciler.survey() == 1
    assert await reconciler.append_pending() == 1
    events = {event.path: event for event in await stored_events(log)}
    assert len(events) == 5
    assert not events[OsPath(str(mine.path))].adopted
    old = events[OsPath(str(folder / "20200102_030405_Old_film.mp4"))]
    assert (old.adopted, old.filename, old.sha256) == (True, "Old_film.mp4", hashlib.sha256(clip).hexdigest())
    assert old.modified_at.timestamp() == pytest.approx(os.stat(old.path).st_mtime, abs=1e-3)
    assert events[OsPath(str(folder / "noise.MKV"))].damaged


async def test_two_who_adopt_at_once_make_one_video(log: Log, settings: Settings, clip: bytes) -> None:
    """The id comes from path and content."""
    settings.uploads.mkdir(parents=True)
    (settings.uploads / "a.mp4").write_bytes(clip)
    one, other = Reconciler(log, settings), Reconciler(log, settings)
    await asyncio.gather(one.survey(), other.survey())
    await asyncio.gather(one.append_pending(), other.append_pending())
    assert len(await stored_events(log)) == 1


async def test_a_manifest_without_its_file_is_set_aside_and_comes_back_with_it(
    door: UploadDoor, log: Log, settings: Settings, clip: bytes
) -> None:
    """Not while the folder is not mounted: then nothing can be told."""
    stored = await send(door, clip)
    sidecar = next(iter(Sidecars(settings.sidecars).all()))
    sidecars = Sidecars(settings.sidecars)
    reconciler = Reconciler(log, settings)
    (settings.sidecars / stored.video[:2] / f"{stored.video}.json").unlink()
    sidecars.write(sidecar)

    away = settings.data / "unmounted"
    settings.uploads.rename(away)
    settings.uploads.mkdir()
    assert await reconciler.append_pending() == 0
    assert sidecars.any_pending()
    settings.uploads.rmdir()
    away.rename(settings.uploads)

    stored.path.rename(settings.data / "away.mp4")
    assert await reconciler.append_pending() == 0
    assert not sidecars.any_pending()
    assert [one.video for one in sidecars.lost()] == [stored.video]
    (settings.data / "away.mp4").rename(stored.path)
    assert await Reconciler(log, settings).survey() == 0
    assert [one.video for one in sidecars.pending()] == [stored.video]


async def test_another_file_of_that_name_is_not_taken_for_it(
    door: UploadDoor, log: Log, settings: Settings, clip: bytes
) -> None:
    """Only the same content is: a backup that was restored."""
    stored = await send(door, clip)
    sidecars, reconciler = Sidecars(settings.sidecars), Reconciler(log, settings)
    sidecar = next(iter(sidecars.all()))
    stored.path.rename(settings.data / "old")
    stored.path.write_bytes(clip)
    sidecars.write(sidecar)
    assert await reconciler.append_pending() == 0  # a duplicate
    assert list(sidecars.lost()) == []
    stored.path.unlink()
    stored.path.write_bytes(clip[:-1] + b"!")
    sidecars.write(sidecar)
    await reconciler.append_pending()
    assert [one.video for one in sidecars.lost()] == [stored.video]


async def test_a_broken_manifest_is_written_anew_from_the_log(
    door: UploadDoor, log: Log, settings: Settings, clip: bytes
) -> None:
    """Its file must not be taken for another video."""
    stored = await send(door, clip)
    manifest = settings.sidecars / stored.video[:2] / f"{stored.video}.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:100])
    reconciler = Reconciler(log, settings)
    assert await reconciler.survey() == 0
    assert await reconciler.append_pending() == 0
    assert manifest.read_bytes() == whole
    assert len(await stored_events(log)) == 1
    assert await Reconciler(log, settings).survey() == 0


def test_every_watched_extension_is_adopted() -> None:
    """And the usual ones besides."""
    assert {".mp4", ".avi", ".mov", ".mkv", ".webm"} <= EXTENSIONS


# ---------------------------------------------------------------- kill -9 at every step

STEPS = [
    "storage.received",
    "storage.sealed",
    "storage.announced",
    "storage.linked",
    "storage.placed",
    "upload.appended",
    "upload.marked",
]

PROGRAM = """
import asyncio, sys
from processors.media.probing import open_prober
from processors.uploads import UploadDoor
from streams.log import open_log
from streams.settings import load_settings

async def main():
    data, url, film = sys.argv[1:]
    settings = load_settings(data=data)
    async with open_log(settings, url) as log, open_prober(timeout=30) as prober:
        async with UploadDoor(log, settings, prober).receive("film.mp4") as receiving:
            await receiving.write(open(film, "rb").read())
            await receiving.finish()
    print("acknowledged")

asyncio.run(main())
"""


@pytest.mark.parametrize("step", STEPS)
async def test_kill_at_every_step_leaves_what_can_be_made_good(
    step: str, log: Log, settings: Settings, sample_videos: list[Path], redis_url: str
) -> None:
    """Afterwards: no file without its one event, no event without its whole file, nothing half."""
    film = sample_videos[1]
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(settings.data), redis_url, str(film)],
        env={**os.environ, "SPOOLHOUSE_CRASH_AT": step},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert "acknowledged" not in killed.stdout
    for _ in range(2):
        reconciler = Reconciler(log, settings)
        await reconciler.survey()
        await reconciler.append_pending()
    events = await stored_events(log)
    files = left_in(settings.uploads)
    assert files == [event.stored_name for event in events]
    assert len(events) == (0 if step in STEPS[:3] else 1)
    for event in events:
        assert Path(event.path).read_bytes() == film.read_bytes()
        assert event.sha256 == hashlib.sha256(film.read_bytes()).hexdigest()
        assert not event.adopted
    assert not Sidecars(settings.sidecars).any_pending()
