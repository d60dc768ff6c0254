"""Copying to the object store: what lies there in the end, and what the log tells of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

import processors.replicate
from processors.copies import chunk_key, manifest_key
from processors.storage.chunks import Original
from processors.storage.stores import open_store
from streams.events import (
    ChunkUploaded,
    FileMoved,
    FileRemoved,
    FileReturned,
    GrowthAbandoned,
    GrowthEnded,
    GrowthStarted,
    ReplicaDamaged,
    VideoOffloaded,
    VideoRestored,
)
from streams.identity import growth_subject, stream_id
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.retries import Retries
from streams.settings import Settings
from tests.processors.replicating import (
    check_copy,
    completed,
    copied,
    facts_of,
    new_video,
    noise,
    replicating,
    request,
    settled,
    stored,
    tell,
    types,
)
from tests.s3_faults import S3Faults
from tests.streams.driving import eventually, pending
from tests.swift import SECRET_KEY, SwiftServer

CHUNK = 64 * 1024

SMALL_FILES = int(os.environ.get("SPOOLHOUSE_SMALL_FILES", "40"))
"""Set it to 10,000 to see how long that takes."""


@pytest.fixture
def settings(s3_env: dict[str, str], make_settings: Callable[..., Settings]) -> Settings:
    """Small chunks, and the S3 server."""
    return make_settings(partitions=4, chunk_size=CHUNK, lease_ttl=2.0)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log."""
    async with open_log(settings, redis_url) as opened:
        yield opened


async def test_a_video_is_copied_in_chunks(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Dense numbers from 0, the last one shorter; the manifest last; the lines and the hash that people look for."""
    path = tmp_path / "lesson.mp4"
    content = noise(path, 5 * CHUNK + 1000)
    video = new_video()
    with capture_logs() as told:
        async with replicating(log, settings):
            await tell(log, video, stored(path))
            facts = await copied(log, video)
            hash_in_redis = await log.checkpoint(video)
    manifest = check_copy(s3_server, bucket, facts, content)
    sid = stream_id(video, 1)
    assert manifest["stream_id"] == sid
    assert manifest["file_name"] == "lesson.mp4"
    assert manifest["chunk_size"] == CHUNK
    assert manifest["created_at"] <= manifest["completed_at"]
    assert await types(log, video) == [
        "VideoStored",
        "ReplicationStarted",
        *["ChunkUploaded"] * 6,
        "ReplicationCompleted",
    ]
    assert hash_in_redis["stream_id"] == sid
    assert hash_in_redis["offset"] == str(len(content))
    assert float(hash_in_redis["last_modified"]) > 0
    lines = [one["event"] for one in told]
    assert "Starting upload from offset 0" in lines
    for index in range(6):
        assert f"Uploading chunk: {sid}/chunk_{index:06d}.bin chunk_number: {index}" in lines
    assert f"Successfully completed upload for {path}" in lines


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
async def test_every_size(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path, size: int
) -> None:
    """An empty file has a manifest and no chunk; one of exactly a chunk has one."""
    path = tmp_path / "film.mkv"
    content = noise(path, size)
    video = new_video()
    async with replicating(log, settings):
        await tell(log, video, settled(path))
        facts = await copied(log, video)
    manifest = check_copy(s3_server, bucket, facts, content)
    assert len(manifest["chunks"]) == -(-size // CHUNK)


async def test_a_copy_that_is_complete_is_not_made_again(
    log: Log, settings: Settings, make_settings: Callable[..., Settings], s3_server: SwiftServer, tmp_path: Path
) -> None:
    """Asked for once more, nothing is sent."""
    path = tmp_path / "a.mp4"
    noise(path, 3 * CHUNK)
    video = new_video()
    with S3Faults(s3_server.url) as faults:
        async with replicating(log, make_settings(partitions=4, chunk_size=CHUNK, s3_endpoint=faults.url)):
            await tell(log, video, stored(path))
            await copied(log, video)
            before = faults.bytes_sent
            await request(log, video)
            await eventually(lambda: quiet(log))
            assert faults.bytes_sent == before
    assert (await types(log, video)).count("ReplicationCompleted") == 1


async def quiet(log: Log) -> bool:
    """Whether the group has handled everything."""
    heads = await log.heads()
    for partition, head in enumerate(heads):
        if head and not await log.redis.exists(log.keys.log(partition)):
            return False
        for group in await log.redis.xinfo_groups(log.keys.log(partition)) if head else ():
            if group["name"] == b"replicate" and int(group["last-delivered-id"].split(b"-")[0]) < head:
                return False
    return await pending(log, "replicate") == 0


# ---------------------------------------------------------------- the file changes


async def test_a_file_that_changed_after_it_settled_is_left_to_its_next_revision(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Nothing of the former content stays, and the new one has a stream of its own."""
    path = tmp_path / "a.mp4"
    noise(path, 3 * CHUNK)
    video, first = new_video(), settled(path)
    content = noise(path, 4 * CHUNK + 5)
    os.utime(path, ns=(first.modified_ns + 10**9, first.modified_ns + 10**9))
    async with replicating(log, settings):
        await tell(log, video, first)
        await eventually(lambda: quiet(log))
        assert await types(log, video) == ["FileSettled"]
        await tell(log, video, settled(path, revision=2))
        facts = await copied(log, video)
    stream = facts.stream()
    assert stream is not None
    assert stream.id == stream_id(video, 2)
    check_copy(s3_server, bucket, facts, content)
    assert s3_server.objects(bucket, stream_id(video, 1)) == {}


async def _has(log: Log, video: str, name: str) -> bool:
    return name in await types(log, video)


@pytest.mark.parametrize("how", ["removed", "replaced", "shortened"])
async def test_a_file_that_goes_while_it_is_copied(
    log: Log, make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str, tmp_path: Path, how: str
) -> None:
    """The copy is given up and its chunks are removed; what comes in its place is copied whole, unmixed."""
    path = tmp_path / "a.mp4"
    noise(path, 12 * CHUNK)
    video = new_video()
    with S3Faults(s3_server.url) as faults:
        faults.crawl(piece=8192, pause=0.05, times=1, key="chunk_000006")
        async with replicating(log, make_settings(partitions=4, chunk_size=CHUNK, s3_endpoint=faults.url)):
            await tell(log, video, settled(path))
            await eventually(lambda: any("chunk_000006" in one.key for one in faults.requests))
            content = b""
            if how == "removed":
                path.unlink()
            elif how == "replaced":
                content = noise(tmp_path / "b.mp4", 11 * CHUNK)
                (tmp_path / "b.mp4").replace(path)
            else:
                content = path.read_bytes()[: CHUNK * 8]
                os.truncate(path, CHUNK * 8)
            await eventually(lambda: _has(log, video, "ReplicationAbandoned"))
            if how == "removed":
                await tell(log, video, FileRemoved(root=OsPath(str(tmp_path)), relative=OsPath(path.name)))
            else:
                await tell(log, video, settled(path, revision=2))
                check_copy(s3_server, bucket, await copied(log, video), content)
            await eventually(lambda: not s3_server.objects(bucket, stream_id(video, 1)))


async def test_a_file_that_comes_back_is_copied_after_all(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """It was removed before its copy was complete; the stream is another one, for the first was given up."""
    path, away = tmp_path / "a.mp4", tmp_path / "away"
    content = noise(path, 3 * CHUNK)
    video, event = new_video(), settled(path)
    path.rename(away)
    root, relative = OsPath(str(tmp_path)), OsPath(path.name)
    await tell(log, video, event)
    await tell(log, video, FileRemoved(root=root, relative=relative))
    async with replicating(log, settings):
        await eventually(lambda: quiet(log))
        assert await types(log, video) == ["FileSettled", "FileRemoved"]
        away.rename(path)
        known = {"size": event.size, "modified_ns": event.modified_ns, "device": event.device, "inode": event.inode}
        await tell(log, video, FileReturned(root=root, relative=relative, removal=1, **known))
        check_copy(s3_server, bucket, await copied(log, video), content)


async def test_a_file_that_moves_is_found_at_its_new_place(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the event and the copy."""
    monkeypatch.setattr(processors.replicate, "MISSING", 0.05)
    path, moved = tmp_path / "a.mp4", tmp_path / "b.mp4"
    content = noise(path, 3 * CHUNK)
    video, event = new_video(), settled(path)
    path.rename(moved)
    async with replicating(log, settings):
        await tell(log, video, event)
        await eventually(lambda: _has(log, video, "AttemptFailed"))
        known = {"size": event.size, "modified_ns": event.modified_ns, "device": event.device, "inode": event.inode}
        names = {"relative": OsPath("b.mp4"), "former": OsPath("a.mp4")}
        await tell(log, video, FileMoved(root=OsPath(str(tmp_path)), move=1, **names, **known))
        manifest = check_copy(s3_server, bucket, await copied(log, video), content)
    assert manifest["file_name"] == "b.mp4"


async def test_an_upload_that_turned_bad_on_our_disk_is_not_completed(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parked with words; no manifest vouches for the wrong bytes."""
    path = tmp_path / "a.mp4"
    noise(path, 3 * CHUNK)
    video, event = new_video(), stored(path)
    data = bytearray(path.read_bytes())
    data[CHUNK + 17] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr("streams.setting_aside.backoff", lambda _: 0.01)
    async with replicating(log, settings):
        await tell(log, video, event)
        await eventually(lambda: _has(log, video, "EntryParked"))
    [parked] = [one.event for one in await log.history(video) if one.type == "EntryParked"]
    assert "is not what it was: its sha256 is" in parked.reason
    assert manifest_key(stream_id(video, 1)) not in s3_server.objects(bucket)


async def test_an_upload_that_turned_bad_is_copied_once_the_right_file_is_back(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reason of its parking says."""
    path = tmp_path / "a.mp4"
    content = noise(path, 3 * CHUNK)
    video, event = new_video(), stored(path)
    path.write_bytes(content[:CHUNK] + bytes(CHUNK) + content[2 * CHUNK :])
    monkeypatch.setattr("streams.setting_aside.backoff", lambda _: 0.01)
    async with replicating(log, settings):
        await tell(log, video, event)
        await eventually(lambda: _has(log, video, "EntryParked"))
        path.write_bytes(content)
        retries = Retries(log.redis, log.keys, "replicate")
        [parked] = [one for partition in range(4) for one in await retries.parked(partition)]
        await retries.replay(parked)
        check_copy(s3_server, bucket, await copied(log, video), content)


async def test_a_link_in_a_watched_folder(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """It stands for what it points to."""
    path, link = tmp_path / "a.mp4", tmp_path / "link.mp4"
    content = noise(path, 3 * CHUNK)
    link.symlink_to("a.mp4")
    video = new_video()
    async with replicating(log, settings):
        await tell(log, video, settled(link))
        check_copy(s3_server, bucket, await copied(log, video), content)


async def test_a_restored_file_is_copied_where_the_store_came_later(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """It was given up while only Drive was configured."""
    path = tmp_path / "a.mp4"
    content = noise(path, 3 * CHUNK)
    video, event = new_video(), stored(path)
    size, where = len(content), event.path
    await tell(log, video, event)
    await tell(log, video, VideoOffloaded(revision=1, path=where, size=size, replicas=("drive",), offload=1))
    async with replicating(log, settings):
        await eventually(lambda: quiet(log))
        assert "ReplicationStarted" not in await types(log, video)
        back = VideoRestored(revision=1, path=where, size=size, sha256=event.sha256, replica="drive", offload=1)
        await tell(log, video, back)
        check_copy(s3_server, bucket, await copied(log, video), content)


async def test_names_that_are_no_text_are_copied(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Escaped in the manifest."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    content = noise(path, CHUNK + 1)
    video = new_video()
    async with replicating(log, settings):
        await tell(log, video, settled(path))
        manifest = check_copy(s3_server, bucket, await copied(log, video), content)
    assert manifest["file_name"] == "caf\\xe9.mp4"


# ---------------------------------------------------------------- what was sent before


async def grow(log: Log, settings: Settings, video: str, path: Path, chunks: int, take: int = 0) -> str:
    """Chunks that were sent before the file settled, as its watcher does it; the stream's id."""
    subject, sid, found = growth_subject(video), stream_id(video, 1, take), path.stat()
    async with open_store(settings) as store:
        await store.prepare()
        started = GrowthStarted(
            video=video,
            root=OsPath(str(path.parent)),
            relative=OsPath(path.name),
            revision=1,
            take=take,
            stream_id=sid,
            store=store.label,
            chunk_size=CHUNK,
            device=found.st_dev,
            inode=found.st_ino,
        )
        await tell(log, subject, started)
        content = path.read_bytes()
        for index in range(chunks):
            data = content[index * CHUNK : (index + 1) * CHUNK]
            sha256 = hashlib.sha256(data).hexdigest()
            etag = await store.put(
                chunk_key(sid, index), data, sha256=sha256, md5=hashlib.md5(data, usedforsecurity=False).hexdigest()
            )
            sent = ChunkUploaded(
                revision=1,
                stream_id=sid,
                index=index,
                offset=index * CHUNK,
                size=len(data),
                sha256=sha256,
                etag=etag,
            )
            await tell(log, subject, sent)
    return sid


async def test_what_was_sent_while_a_file_grew_is_not_sent_again(
    log: Log, make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """But for chunks that were rewritten since: those go under the same index. The manifest comes last."""
    path = tmp_path / "recording.mp4"
    content = bytearray(noise(path, 6 * CHUNK + 100))
    video = new_video()
    with S3Faults(s3_server.url) as faults:
        settings = make_settings(partitions=4, chunk_size=2 * CHUNK, s3_endpoint=faults.url)
        sid = await grow(log, settings, video, path, chunks=5)
        await tell(log, growth_subject(video), GrowthEnded(stream_id=sid, size=len(content), ending=7))
        content[10:14] = b"moov"
        with path.open("r+b") as file:
            file.write(content)
        before = len(faults.requests)
        async with replicating(log, settings):
            await tell(log, video, settled(path))
            facts = await copied(log, video)
        puts = [one.key for one in faults.requests[before:] if one.method == "PUT"]
    assert puts == [*(chunk_key(sid, index) for index in (0, 5, 6)), manifest_key(sid)]
    manifest = check_copy(s3_server, bucket, facts, bytes(content))
    assert (manifest["stream_id"], manifest["chunk_size"]) == (sid, CHUNK), (
        "a stream keeps the chunk size it began with"
    )


async def test_an_abandoned_growth_is_never_gone_on_with(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Of it, requests may yet arrive: the copy has an id of its own."""
    path = tmp_path / "recording.mp4"
    content = noise(path, 3 * CHUNK)
    video = new_video()
    sid = await grow(log, settings, video, path, chunks=2)
    await tell(log, growth_subject(video), GrowthAbandoned(stream_id=sid, reason="it shrank"))
    async with replicating(log, settings):
        await tell(log, video, settled(path))
        facts = await copied(log, video)
    assert check_copy(s3_server, bucket, facts, content)["stream_id"] == stream_id(video, 1, 1)


@pytest.mark.parametrize("door", ["upload", "watch"])
async def test_a_log_that_lost_its_tail_finds_its_copy_again(
    log: Log, make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str, tmp_path: Path, door: str
) -> None:
    """By the manifest at the place that follows from the video's id: no chunk is sent again, what is missing is."""
    path = tmp_path / "a.mp4"
    content = noise(path, 5 * CHUNK + 9)
    video = new_video()
    event = stored(path) if door == "upload" else settled(path)
    with S3Faults(s3_server.url) as faults:
        settings = make_settings(partitions=4, chunk_size=CHUNK, s3_endpoint=faults.url)
        async with replicating(log, settings):
            await tell(log, video, event)
            await copied(log, video)
        await log.redis.flushall()
        await log.prepare()
        await log.raise_epoch(2)
        s3_server.delete(bucket, chunk_key(stream_id(video, 1), 3))
        before = len(faults.requests)
        async with replicating(log, make_settings(partitions=4, chunk_size=2 * CHUNK, s3_endpoint=faults.url)):
            await tell(log, video, event)
            facts = await copied(log, video)
        puts = [one.key for one in faults.requests[before:] if one.method == "PUT"]
    assert puts == [chunk_key(stream_id(video, 1), 3), manifest_key(stream_id(video, 1))]
    check_copy(s3_server, bucket, facts, content)


async def test_a_copy_of_other_content_is_not_mixed_with_this_one(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """After a loss the same revision may be other bytes of the same size: the old manifest goes before its chunks do."""
    path = tmp_path / "a.mp4"
    noise(path, 4 * CHUNK)
    video = new_video()
    async with replicating(log, settings):
        await tell(log, video, settled(path))
        await copied(log, video)
    await log.redis.flushall()
    await log.prepare()
    await log.raise_epoch(2)
    content = noise(path, 4 * CHUNK)
    async with replicating(log, settings):
        await tell(log, video, settled(path))
        facts = await copied(log, video)
    check_copy(s3_server, bucket, facts, content)


async def test_damage_is_repaired_when_asked_for(
    log: Log, make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Only what is missing or wrong is sent again."""
    path = tmp_path / "a.mp4"
    content = noise(path, 5 * CHUNK)
    video = new_video()
    sid = stream_id(video, 1)
    with S3Faults(s3_server.url) as faults:
        async with replicating(log, make_settings(partitions=4, chunk_size=CHUNK, s3_endpoint=faults.url)):
            await tell(log, video, stored(path))
            await copied(log, video)
            s3_server.delete(bucket, chunk_key(sid, 1))
            s3_server.overwrite(bucket, chunk_key(sid, 3), os.urandom(CHUNK))
            damaged = ReplicaDamaged(
                replica="s3", revision=1, target=sid, verification=1, deep=False, missing=1, wrong=1, faults=("…",)
            )
            await tell(log, video, damaged)
            assert await completed(log, video) is None
            before = len(faults.requests)
            await request(log, video)
            facts = await copied(log, video)
            puts = [one.key for one in faults.requests[before:] if one.method == "PUT"]
    assert puts == [chunk_key(sid, 1), chunk_key(sid, 3), manifest_key(sid)]
    check_copy(s3_server, bucket, facts, content)


# ---------------------------------------------------------------- the store fails


async def test_no_more_is_sent_than_the_window_holds(
    log: Log, make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """It counts from the oldest chunk that the log does not know of: so much is sent again after a kill."""
    path = tmp_path / "a.mp4"
    content = noise(path, 8 * CHUNK)
    video = new_video()
    with S3Faults(s3_server.url) as faults:
        faults.crawl(piece=8192, pause=0.05, key="chunk_000000")
        settings = make_settings(partitions=4, chunk_size=CHUNK, chunks_in_flight=3, s3_endpoint=faults.url)
        async with replicating(log, settings):
            await tell(log, video, stored(path))
            [first] = await eventually(lambda: [one for one in faults.requests if "chunk_000000" in one.key])
            await eventually(lambda: any("chunk_000003" in one.key for one in faults.requests))
            assert first.status == 200
            assert "ChunkUploaded" in await types(log, video)
            check_copy(s3_server, bucket, await copied(log, video), content)


async def test_an_outage_is_waited_for(
    log: Log,
    settings: Settings,
    own_s3: SwiftServer,
    use_s3: Callable[[SwiftServer], dict[str, str]],
    make_settings: Callable[..., Settings],
    bucket: str,
    tmp_path: Path,
) -> None:
    """The server is stopped in mid-file: the breaker names it, the lines are there, and no attempt is spent."""
    use_s3(own_s3)
    path = tmp_path / "a.mp4"
    content = noise(path, 24 * CHUNK)
    video = new_video()
    sid = stream_id(video, 1)
    with capture_logs() as told:
        async with replicating(log, make_settings(partitions=4, chunk_size=CHUNK)) as host:
            await tell(log, video, stored(path))
            await eventually(lambda: _told(log, video, 3), every=0.001)
            own_s3.kill()
            reason = await eventually(lambda: host.handling.breaker.reason, timeout=5)
            assert "Could not connect to the endpoint URL" in reason
            own_s3.start()
            facts = await copied(log, video)
            assert host.handling.breaker.reason is None
    check_copy(own_s3, bucket, facts, content)
    assert "AttemptFailed" not in await types(log, video)
    lines = [one["event"] for one in told]
    assert any(
        line.startswith(f"MinIO/S3 connection unavailable or error during upload_chunk {sid}, ") for line in lines
    )
    assert any(line.startswith(f"S3 error during upload of {path} (attempt 1/5): ") for line in lines)
    assert f"Retrying S3 upload for {path} in 5 seconds..." in lines
    resumed = [line for line in lines if line.startswith("Starting upload from offset ")]
    assert int(resumed[-1].split()[-1]) >= 3 * CHUNK
    assert int(resumed[-1].split()[-1]) % CHUNK == 0


async def test_nothing_is_read_again_before_the_store_answers(
    log: Log,
    settings: Settings,
    own_s3: SwiftServer,
    use_s3: Callable[[SwiftServer], dict[str, str]],
    make_settings: Callable[..., Settings],
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large file takes long to be hashed up to where it goes on: others would wait for that after an outage."""
    use_s3(own_s3)
    path = tmp_path / "a.mp4"
    content = noise(path, 6 * CHUNK)
    video, read = new_video(), list[int]()
    chunks = Original.chunks
    monkeypatch.setattr(Original, "chunks", lambda *given: (read.append(1), chunks(*given))[1])
    settings = make_settings(partitions=4, chunk_size=CHUNK)
    sid = await grow(log, settings, video, path, chunks=5)
    await tell(log, growth_subject(video), GrowthEnded(stream_id=sid, size=len(content), ending=7))
    own_s3.kill()
    async with replicating(log, settings) as host:
        await tell(log, video, settled(path))
        await eventually(lambda: host.handling.breaker.reason, timeout=10)
        assert not read
        own_s3.start()
        check_copy(own_s3, bucket, await copied(log, video), content)
    assert len(read) == 1


async def _told(log: Log, video: str, chunks: int) -> bool:
    return (await types(log, video)).count("ChunkUploaded") >= chunks


async def test_bad_credentials_are_said_once_and_raise_no_storm(
    log: Log,
    make_settings: Callable[..., Settings],
    s3_server: SwiftServer,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    """However many videos wait; with the right ones all of them are copied."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    videos = []
    for number in range(20):
        path = tmp_path / f"{number}.mp4"
        content = noise(path, 100)
        videos.append((new_video(), path, content))
    with S3Faults(s3_server.url) as faults:
        changed = make_settings(partitions=4, s3_endpoint=faults.url)
        async with replicating(log, changed) as host:
            for video, path, _ in videos:
                await tell(log, video, stored(path))
            reason = await eventually(lambda: host.handling.breaker.reason)
            assert "does not accept the credentials" in reason
            await asyncio.sleep(1.0)  # time for a storm
            assert len(faults.requests) <= 2 * changed.replicate_concurrency * 2
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        async with replicating(log, changed):
            for video, _, content in videos:
                check_copy(s3_server, bucket, await copied(log, video), content)


async def test_one_refused_object_parks_its_video_alone(
    log: Log,
    make_settings: Callable[..., Settings],
    s3_server: SwiftServer,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """403 for it and not for the others: they go on; replayed once it is allowed, it is copied, too."""
    monkeypatch.setattr(processors.replicate, "RETRY", 0.05)
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    contents = [noise(path, 3 * CHUNK) for path in paths]
    videos = [new_video() for _ in paths]
    with S3Faults(s3_server.url) as faults:
        faults.answer(403, "AccessDenied", times=float("inf"), key=f"{stream_id(videos[1], 1)}/chunk_000001")
        settings = make_settings(partitions=4, chunk_size=CHUNK, attempts=3, s3_endpoint=faults.url)
        async with replicating(log, settings) as host:
            for video, path in zip(videos, paths, strict=True):
                await tell(log, video, stored(path))
            for number in (0, 2):
                check_copy(s3_server, bucket, await copied(log, videos[number]), contents[number])
            await eventually(lambda: _has(log, videos[1], "EntryParked"))
            assert host.handling.breaker.reason is None
            assert (await types(log, videos[1])).count("AttemptFailed") == 2
            faults.clear()
            retries = Retries(log.redis, log.keys, "replicate")
            [parked] = [one for partition in range(4) for one in await retries.parked(partition)]
            assert "AccessDenied" in parked.reason
            await retries.replay(parked)
            check_copy(s3_server, bucket, await copied(log, videos[1]), contents[1])


async def test_a_worker_that_drains_stops_between_chunks(
    log: Log, make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """What is on its way arrives and is told; the rest goes on elsewhere, and nothing is sent twice."""
    path = tmp_path / "a.mp4"
    content = noise(path, 40 * CHUNK)
    video = new_video()
    with S3Faults(s3_server.url) as faults:
        settings = make_settings(partitions=4, chunk_size=CHUNK, s3_endpoint=faults.url, drain=60)
        async with replicating(log, settings, "first"):
            await tell(log, video, stored(path))
            await eventually(lambda: _told(log, video, 2), every=0.001)
        told = (await types(log, video)).count("ChunkUploaded")
        assert told < 40, "it drained too late for this test"
        assert await completed(log, video) is None
        async with replicating(log, settings, "second"):
            facts = await copied(log, video)
        assert set(faults.puts(bucket).values()) == {1}
    assert facts.stream() is not None
    check_copy(s3_server, bucket, facts, content)
    assert "AttemptFailed" not in await types(log, video)


async def test_many_small_files_are_copied(
    log: Log, settings: Settings, s3_server: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    """Each with its chunk and its manifest; several side by side."""
    count = SMALL_FILES
    videos = {}
    async with replicating(log, settings):
        for number in range(count):
            path = tmp_path / f"{number}.mp4"
            videos[new_video()] = (path, noise(path, 1 + number * 37 % 3000))
        for video, (path, _) in videos.items():
            await tell(log, video, stored(path))
        began = time.monotonic()
        for video in videos:
            await copied(log, video)
        await eventually(lambda: quiet(log))
        print(f"{count / (time.monotonic() - began):.0f} small files a second")
    objects = s3_server.objects(bucket)
    assert len(objects) == 2 * count
    for video, (_, content) in videos.items():
        sid = stream_id(video, 1)
        assert objects[chunk_key(sid, 0)] == len(content)
        assert orjson.loads(s3_server.read(bucket, manifest_key(sid)))["sha256"] == hashlib.sha256(content).hexdigest()
        assert len(await types(log, video)) == 4
    assert (await facts_of(log, next(iter(videos)))).sha256 is not None
