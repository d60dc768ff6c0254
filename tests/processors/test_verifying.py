"""Copies are compared with what was sent; what is wrong is named, written down, and repaired from what is whole."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.bootstrap import Recovery
from api.commands import verify as commands
from api.verifying import Looked, look
from processors.copies import chunk_key, manifest_key
from processors.origins import from_stream
from processors.ports import ObjectStore
from processors.verifying import Checked, all_whole, verify, write_down
from streams.errors import DependencyDownError, LogUnavailableError
from streams.events import ChunkUploaded, ReplicationStarted, ReplicaVerified, VideoOffloaded
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.drive_server import DriveServer
from tests.processors.retaining import World, world
from tests.servers import RedisServer
from tests.swift import SwiftServer

MakeSettings = Callable[..., Settings]

CONTENT = bytes(range(256)) * 39 + b"the end"
"""Three chunks of 4096 bytes, the last one shorter."""


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
    """Videos and the S3 server."""
    async with world(log, settings) as made:
        yield made


@pytest.fixture
def with_drive(
    drive_server: DriveServer, s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings
) -> Settings:
    """The same with Google Drive beside it."""
    for name, value in drive_server.environment.items():
        monkeypatch.setenv(name, value)
    return make_settings(partitions=2, chunk_size=4096)


async def checked(here: World, video: str, *, deep: bool = False) -> list[Checked]:
    return await verify(await here.facts(video), store=here.store, drive=here.drive, deep=deep)


async def one(here: World, video: str, *, deep: bool = False) -> Checked:
    [found] = await checked(here, video, deep=deep)
    return found


async def looked(here: World, video: str, *, deep: bool = False, repair: bool = False) -> Looked:
    """What `spoolhouse verify` does for a video."""
    at_hand = Recovery(here.log, None, here.store, here.drive)  # type: ignore[arg-type]
    return await look(at_hand, here.settings, video, deep=deep, repair=repair, looking=lambda _: None)


async def stream_of(here: World, video: str) -> str:
    stream = (await here.facts(video)).stream()
    assert stream is not None
    return stream.id


async def read_back(store: ObjectStore | None, stream: str) -> bytes:
    """All chunks of a stream."""
    assert store is not None
    keys = [found.key async for found in store.list(f"{stream}/") if found.key != manifest_key(stream)]
    return b"".join([await store.get(key) or b"" for key in sorted(keys)])


# ---------------------------------------------------------------- all is well


async def test_a_whole_copy_is_whole_and_the_log_says_so(here: World) -> None:
    """Shallow and deep; each look is an event with a number of its own."""
    video = await here.upload(content=CONTENT)
    for number, deep in enumerate((False, True), 1):
        result = await looked(here, video, deep=deep)
        assert (result.status, result.unwritten) == (0, "")
        [found] = result.copies
        assert (found.replica, found.state, found.objects, found.size) == ("s3", "whole", 4, len(CONTENT))
        facts = await here.facts(video)
        stream = facts.stream()
        assert stream is not None
        assert stream.verified is not None
        assert (stream.verified.verification, stream.verified.deep) == (number, deep)


async def test_empty_files_and_files_of_exactly_one_chunk(here: World) -> None:
    """The edges of counting."""
    for name, content in {"empty.mp4": b"", "one.mp4": b"x" * 4096, "two.mp4": b"y" * 4097}.items():
        video = await here.upload(name, content)
        assert (await one(here, video, deep=True)).state == "whole"


async def test_what_was_begun_or_never_begun_is_no_copy(here: World) -> None:
    """Absent, incomplete: neither is written down, both are wrong."""
    video = await here.upload(copy=False)
    result = await looked(here, video)
    assert (result.status, [found.state for found in result.copies]) == (1, ["absent"])
    assert here.store is not None
    started = ReplicationStarted(revision=1, stream_id="ab" * 32, store=here.store.label, chunk_size=4096, size=10_000)
    await here.tell(video, started)
    result = await looked(here, video)
    assert (result.status, [found.state for found in result.copies]) == (1, ["incomplete"])
    assert "no manifest yet" in result.copies[0].reason
    assert not any(name.startswith("Replica") and name != "ReplicationStarted" for name in await here.types(video))


async def test_objects_that_belong_to_nothing_are_named(here: World, s3_server: SwiftServer, bucket: str) -> None:
    """They are no fault of the copy: the old uploader named chunks by their offset."""
    video = await here.upload(content=CONTENT)
    stream = await stream_of(here, video)
    s3_server.overwrite(bucket, f"{stream}/chunk_10485760.bin", b"?")
    found = await one(here, video)
    assert (found.state, found.orphans) == ("whole", (f"{stream}/chunk_10485760.bin",))


# ---------------------------------------------------------------- damage


def same_size(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (None, "expected 4096 bytes, found nothing"),
        (lambda data: data[:-1], "expected 4096 bytes, found 4095 bytes"),
        (same_size, "bytes of sha256"),
    ],
    ids=["deleted", "truncated", "altered"],
)
async def test_harm_behind_our_back_is_found_named_and_repaired(
    here: World, s3_server: SwiftServer, bucket: str, harm: Callable[[bytes], bytes] | None, words: str
) -> None:
    """A shallow look finds all of it in S3, where an altered object has another ETag; only that chunk is sent again."""
    video = await here.upload(content=CONTENT)
    stream = await stream_of(here, video)
    key = chunk_key(stream, 1)
    others = {other: s3_server.client.head_object(Bucket=bucket, Key=other)["LastModified"] for other in
              (chunk_key(stream, 0), manifest_key(stream))}  # fmt: skip
    if harm is None:
        s3_server.delete(bucket, key)
    else:
        s3_server.overwrite(bucket, key, harm(s3_server.read(bucket, key)))
    found = await one(here, video)
    assert found.state == "damaged"
    [fault] = found.faults
    assert (fault.key, fault.index, fault.found is None) == (key, 1, harm is None)
    assert words in str(fault)

    result = await looked(here, video, repair=True)
    assert (result.status, result.repairs) == (0, ("the object store: 1 objects sent again from the local file",))
    assert await read_back(here.store, stream) == CONTENT
    for other, modified in others.items():
        assert s3_server.client.head_object(Bucket=bucket, Key=other)["LastModified"] == modified
    assert (await here.types(video))[-3:] == ["ReplicaDamaged", "ReplicaRepaired", "ReplicaVerified"]
    damaged, repaired, verified = [told.event for told in (await here.log.history(video))[-3:]]
    assert (damaged.missing, damaged.wrong) == ((1, 0) if harm is None else (0, 1))
    assert key in damaged.faults[0]
    assert (repaired.verification, repaired.source, repaired.objects) == (damaged.verification, "local", 1)
    assert verified.verification == damaged.verification + 1


async def test_a_moved_bucket_has_other_etags_and_is_whole_all_the_same(here: World, s3_server: SwiftServer) -> None:
    """An ETag that differs is a doubt; the bytes settle it."""
    video = await here.upload(content=CONTENT)
    stream = await stream_of(here, video)
    first = (await here.facts(video)).streams[stream].chunks[0]
    values = {name: getattr(first, name) for name in first.__dataclass_fields__}
    await here.tell(video, ChunkUploaded(**{**values, "etag": "another-5"}))
    facts = await here.facts(video)
    assert facts.streams[stream].chunks[0].etag == "another-5"
    assert (await one(here, video)).state == "whole"


@pytest.mark.parametrize("harm", ["deleted", "altered"])
async def test_a_manifest_is_rebuilt_from_the_log(here: World, s3_server: SwiftServer, bucket: str, harm: str) -> None:
    """Byte for byte as it was, so the completion stays true."""
    video = await here.upload(content=CONTENT)
    key = manifest_key(await stream_of(here, video))
    before = s3_server.read(bucket, key)
    if harm == "deleted":
        s3_server.delete(bucket, key)
    else:
        s3_server.overwrite(bucket, key, same_size(before))
    found = await one(here, video)
    assert [fault.key for fault in found.faults] == [key]
    result = await looked(here, video, repair=True)
    assert result.status == 0, result
    assert s3_server.read(bucket, key) == before
    assert (await here.types(video)).count("ReplicationCompleted") == 1


async def test_a_directory_shows_no_turned_byte_until_it_is_read(
    make_settings: MakeSettings, redis_url: str, tmpfs: Path
) -> None:
    """It keeps sizes only: shallow finds what is missing or short, deep finds the rest."""
    settings = make_settings(partitions=2, chunk_size=4096, s3_endpoint=f"file://{tmpfs}")
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        video = await here.upload(content=CONTENT)
        stream = await stream_of(here, video)
        path = tmpfs / "videos" / chunk_key(stream, 0)
        path.write_bytes(same_size(path.read_bytes()))
        assert (await one(here, video)).state == "whole"
        found = await one(here, video, deep=True)
        assert [fault.key for fault in found.faults] == [chunk_key(stream, 0)]
        path.write_bytes(b"short")
        assert (await one(here, video)).state == "damaged"
        assert (await looked(here, video, deep=True, repair=True)).status == 0
        path.unlink()
        assert (await looked(here, video, repair=True)).status == 0
        assert await read_back(here.store, stream) == CONTENT


async def test_a_local_file_that_differs_repairs_nothing(here: World, s3_server: SwiftServer, bucket: str) -> None:
    """What is no longer the video is not sent in its name; the replica stays damaged, and that is said."""
    video = await here.upload(content=CONTENT)
    stream = await stream_of(here, video)
    s3_server.delete(bucket, chunk_key(stream, 0))
    s3_server.delete(bucket, chunk_key(stream, 1))
    path = here.settings.uploads / "lesson.mp4"
    path.write_bytes(same_size(CONTENT))
    result = await looked(here, video, repair=True)
    assert result.status == 1
    assert "it holds other bytes there" in result.repairs[0]
    assert [fault.key for fault in result.copies[0].faults] == [chunk_key(stream, 0)]
    outside = path.with_name("secret")
    outside.write_bytes(CONTENT)
    path.unlink()
    path.symlink_to(outside)
    assert (await looked(here, video, repair=True)).status == 1


async def test_former_content_is_looked_at_too(
    here: World, tmp_path: Path, s3_server: SwiftServer, bucket: str
) -> None:
    """The stream of a replaced file is a copy as well; without it nothing is wrong with the newer one."""
    path = tmp_path / "inbox" / "film.mp4"
    video = await here.watch(path, b"first" * 1000)
    former = await stream_of(here, video)
    assert await here.watch(path, b"second" * 1000, revision=2) == video
    newer, older = await checked(here, video)
    assert (newer.revision, older.revision, older.target) == (2, 1, former)
    s3_server.delete(bucket, chunk_key(former, 0))
    facts = await here.facts(video)
    found = await checked(here, video)
    assert [copy.state for copy in found] == ["whole", "damaged"]
    assert all_whole(facts, found, ["s3"])
    assert (await looked(here, video, repair=True)).status == 1


# ---------------------------------------------------------------- Google Drive


def into_the_trash(server: DriveServer, file_id: str) -> None:
    """As a person does in the browser."""
    user = json.loads(server.credentials(server.folder / "person.json", "authorized_user").read_text())
    asked = {name: user[name] for name in ("client_id", "client_secret", "refresh_token")}
    form = urllib.parse.urlencode({"grant_type": "refresh_token", **asked}).encode()
    with urllib.request.urlopen(user["token_uri"], form, timeout=30) as answer:
        token = json.load(answer)["access_token"]
    change = urllib.request.Request(
        f"{server.url}/drive/v3/files/{file_id}?supportsAllDrives=true",
        data=b'{"trashed": true}',
        method="PATCH",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(change, timeout=30) as answer:
        assert answer.status == 200


async def test_drive_is_compared_too_and_asked_for_again(
    with_drive: Settings, redis_url: str, drive_server: DriveServer
) -> None:
    """In the trash, altered, gone: named, and uploaded anew by its processor."""
    async with open_log(with_drive, redis_url) as log, world(log, with_drive) as here:
        video = await here.upload(content=CONTENT)
        for deep in (False, True):
            assert [copy.state for copy in await checked(here, video, deep=deep)] == ["whole", "whole"]
        for word in ("trash", "alter", "remove"):
            copy = (await here.facts(video)).drive_copy()
            assert copy is not None
            assert here.drive is not None
            if word == "trash":
                into_the_trash(drive_server, copy.file_id)
            elif word == "alter":
                drive_server.corrupt(copy.file_id)
            else:
                await here.drive.delete(copy.file_id)
            result = await looked(here, video, repair=True)
            assert result.status == 1
            assert [found.state for found in result.copies] == ["whole", "damaged"]
            assert "queue for Google Drive" in result.repairs[0]
            await here.copy(video)
            result = await looked(here, video, deep=True)
            assert (result.status, len(result.copies)) == (0, 2), (word, result)


async def test_chunks_come_from_drive_when_the_local_file_is_gone(
    with_drive: Settings, redis_url: str, s3_server: SwiftServer, bucket: str
) -> None:
    """By ranges, each compared with its sha256."""
    async with open_log(with_drive, redis_url) as log, world(log, with_drive) as here:
        video = await here.upload(content=CONTENT)
        stream = await stream_of(here, video)
        (here.settings.uploads / "lesson.mp4").unlink()
        s3_server.delete(bucket, chunk_key(stream, 0))
        s3_server.delete(bucket, chunk_key(stream, 2))
        result = await looked(here, video, repair=True)
        assert result.repairs == ("the object store: 2 objects sent again from Google Drive",)
        assert await read_back(here.store, stream) == CONTENT


async def test_an_offloaded_video_is_fetched_back_for_drive(with_drive: Settings, redis_url: str) -> None:
    """Drive takes from the local file only: that is restored from the object store first, and the log knows."""
    async with open_log(with_drive, redis_url) as log, world(log, with_drive) as here:
        video = await here.upload(content=CONTENT)
        await here.look()
        facts = await here.facts(video)
        assert facts.state == "offloaded"
        copy = facts.drive_copy()
        assert copy is not None
        assert here.drive is not None
        await here.drive.delete(copy.file_id)
        result = await looked(here, video, repair=True)
        assert "was restored first" in result.repairs[0]
        assert (here.settings.uploads / "lesson.mp4").read_bytes() == CONTENT
        assert (await here.facts(video)).state == "present"
        await here.copy(video)
        assert (await looked(here, video)).status == 0


async def test_nothing_whole_is_left(with_drive: Settings, redis_url: str, s3_server: SwiftServer, bucket: str) -> None:
    """It says what it looked at."""
    async with open_log(with_drive, redis_url) as log, world(log, with_drive) as here:
        video = await here.upload(content=CONTENT)
        stream = await stream_of(here, video)
        (here.settings.uploads / "lesson.mp4").unlink()
        s3_server.delete(bucket, chunk_key(stream, 0))
        copy = (await here.facts(video)).drive_copy()
        assert copy is not None
        assert here.drive is not None
        await here.drive.delete(copy.file_id)
        result = await looked(here, video, repair=True)
        assert result.status == 1
        assert all("not repaired" in words for words in result.repairs), result.repairs
        assert "No such file" in result.repairs[0]


# ---------------------------------------------------------------- what cannot be asked, or not be told


async def test_a_store_that_is_down_is_not_damaged(here: World, make_settings: MakeSettings, redis_url: str) -> None:
    """Unchecked: neither whole nor wrong, and nothing is written down."""
    video = await here.upload(content=CONTENT)
    settings = make_settings(partitions=2, chunk_size=4096, s3_endpoint="http://127.0.0.1:9")
    async with world(here.log, settings) as elsewhere:
        result = await looked(elsewhere, video, repair=True)
    assert (result.status, result.copies[0].state) == (2, "unchecked")
    assert isinstance(result.down, DependencyDownError)
    assert (await here.types(video))[-1] == "ReplicationCompleted"


async def test_copies_in_two_buckets_are_not_taken_for_each_other(here: World, make_settings: MakeSettings) -> None:
    """The setting is changed and changed back: each time the copy is looked for where it was sent."""
    video = await here.upload(content=CONTENT)
    other = make_settings(partitions=2, chunk_size=4096, s3_bucket=f"{here.settings.bucket}-other")
    async with world(here.log, other) as there:
        result = await looked(there, video)
        assert (result.status, result.copies[0].state) == (1, "absent")
        assert "it was copied to s3://" in result.copies[0].reason
        assert (await here.types(video))[-1] == "ReplicationCompleted", "the copy in the other bucket is none the worse"
        await looked(there, video, repair=True)
        await there.copy(video)
        assert (await one(there, video)).state == "whole"
        assert (await looked(here, video)).status == 0
        for place in (here, there):
            assert place.store is not None
            wanted = await from_stream(await here.facts(video), place.store)
            assert b"".join([await wanted.fetch(part) for part in wanted.parts]) == CONTENT
    assert await here.decided() == ("deleted", "its copy is whole in the object store")


async def test_a_log_that_goes_away_meanwhile(here: World, own_redis: RedisServer) -> None:
    """The results stand, and that they were not written down is said."""
    async with open_log(here.settings, own_redis.url) as log, world(log, here.settings) as world_of_its_own:
        video = await world_of_its_own.upload(content=CONTENT)
        facts = await world_of_its_own.facts(video)
        found = await verify(facts, store=world_of_its_own.store, drive=None, deep=False)
        own_redis.kill()
        with pytest.raises(LogUnavailableError):
            await asyncio.wait_for(write_down(log, facts, found), 30)


async def test_two_who_verify_at_the_same_time_both_write_it_down(here: World) -> None:
    """Whoever comes second folds the video once more."""
    video = await here.upload(content=CONTENT)
    facts = await here.facts(video)
    found = [await checked(here, video, deep=deep) for deep in (False, True)]
    written = await asyncio.gather(*(write_down(here.log, facts, one_of) for one_of in found))
    assert sorted(one_of[0].verification or 0 for one_of in written) == [1, 2]
    told = [one_of.event for one_of in await here.log.history(video) if isinstance(one_of.event, ReplicaVerified)]
    assert [event.verification for event in told] == [1, 2]
    assert {event.deep for event in told} == {False, True}


async def test_a_look_at_what_was_replaced_since_is_not_written_down(here: World, tmp_path: Path) -> None:
    """It is about another copy than there is."""
    path = tmp_path / "inbox" / "film.mp4"
    video = await here.watch(path, b"first" * 1000)
    facts = await here.facts(video)
    found = await checked(here, video)
    offloaded = VideoOffloaded(revision=1, path=OsPath(str(path)), size=5000, replicas=("s3",), offload=1)
    await here.tell(video, offloaded)
    [written] = await write_down(here.log, facts, found)
    assert written.verification == 1  # another event, the same copy
    stale = [Checked("s3", 1, found[0].target, "whole", deep=False, completion="of another manifest")]
    [unwritten] = await write_down(here.log, await here.facts(video), stale)
    assert unwritten.verification is None


# ---------------------------------------------------------------- many


class Counting:
    """An object store that counts what is asked of it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.asked = store, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if callable(found):
            self.asked[name] += 1
        return found


async def test_a_shallow_look_takes_one_request_for_a_thousand_objects(here: World) -> None:
    """The list tells all of it, the manifest's checksum, too; a deep look reads."""
    video = await here.upload(content=os.urandom(60 * 4096))
    assert here.store is not None
    store: Any = Counting(here.store)
    facts = await here.facts(video)
    [found] = await verify(facts, store=store, drive=None, deep=False)
    assert (found.state, found.objects, dict(store.asked)) == ("whole", 61, {"list": 1})
    await verify(facts, store=store, drive=None, deep=True)
    assert dict(store.asked) == {"list": 2, "get": 61}


@pytest.fixture
def at_hand(here: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`at_hand(store)`: what the commands find instead of opening it, the world as the catalogue."""
    monkeypatch.setattr(commands, "PAUSE", 0.01)

    def use(store: ObjectStore | None) -> None:
        @asynccontextmanager
        async def opened(_: Settings) -> AsyncIterator[Recovery]:
            yield Recovery(here.log, here, store, None)  # type: ignore[arg-type]

        monkeypatch.setattr(commands, "open_recovery", opened)

    return use


async def test_all_videos_are_looked_at(
    here: World, at_hand: Callable[..., None], s3_server: SwiftServer, bucket: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is told, of the others only how many there are; for programs, a line for each."""
    videos = [await here.upload(f"{number}.mp4", bytes([number]) * 5000) for number in range(5)]
    key = chunk_key(await stream_of(here, videos[2]), 1)
    s3_server.delete(bucket, key)
    at_hand(here.store)
    capfd.readouterr()
    how = {"repair": False, "as_json": False, "deep": False}
    assert await commands._verify(here.settings, (), **how) == 1
    told = capfd.readouterr().out
    assert f"{key}: expected 904 bytes, found nothing" in told
    assert [video for video in videos if video in told] == [videos[2]]
    assert "5 videos verified: 4 well, 1 with something wrong, 0 not checked" in told
    assert await commands._verify(here.settings, (), **{**how, "repair": True, "as_json": True}) == 0
    lines = {line["video"]: line for line in map(json.loads, capfd.readouterr().out.splitlines())}
    assert set(lines) == set(videos)
    assert (len(lines[videos[2]]["repairs"]), lines[videos[2]]["status"], lines[videos[2]]["written"]) == (1, 0, True)


async def test_a_store_that_is_down_ends_the_look_at_all(
    here: World, at_hand: Callable[..., None], make_settings: MakeSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """After some tries, with the reason: no one wants that once for each of ten thousand videos."""
    for number in range(12):
        await here.upload(f"{number}.mp4", bytes([number]) * 100, copy=number == 0)
    for _ in range(2):
        async with world(here.log, make_settings(s3_endpoint="http://127.0.0.1:9", chunk_size=4096)) as elsewhere:
            at_hand(elsewhere.store)
            how = {"repair": False, "as_json": True, "deep": False}
            assert await commands._verify(here.settings, (), **how) in {1, 2}
    told = capfd.readouterr()
    assert "Stopped, since the rest cannot be checked now: S3 is unreachable" in told.err
    assert "trying again" in told.err
