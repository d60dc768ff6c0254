"""Recordings are copied while they are written: real files, a real log, and the replication that completes them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import orjson
import pytest
from structlog.testing import capture_logs

from processors import growing
from processors.copies import fold, fold_growth, manifest_key
from processors.growing import GrowingFiles
from processors.growths import open_journal
from processors.ports import ObjectStore, StoredObject
from processors.replicate import replicate
from processors.storage.directory import open_directory
from processors.watching.comparing import Found
from processors.watching.roots import WatchedRoot
from streams.errors import ConflictError, DependencyDownError
from streams.events import ChunkDispatched, FileSettled, GrowthAbandoned
from streams.hosting import hosted
from streams.identity import growth_subject, watched_video_id
from streams.log import open_log
from streams.paths import OsPath
from streams.queries import Histories
from streams.settings import Settings
from tests.processors.watched import Watched, until, write

CHUNK = BEHIND = 65536


class Between:
    """Stands before a store: counts what is put there, and lets a test hold, lose or refuse requests."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.label = store.label
        self.puts: list[str] = []
        self.down = False
        self.held: dict[str, asyncio.Event] = {}
        """Part of a key → puts to it wait for this; whoever gives up waiting has sent it all the same."""
        self.events: list[asyncio.Event] = []
        self.late: list[asyncio.Task[str]] = []

    def hold(self, part: str) -> asyncio.Event:
        """From now on puts to keys with this part wait; setting the event lets them through."""
        opened = self.held[part] = asyncio.Event()
        self.events.append(opened)
        return opened

    async def prepare(self) -> None:
        self._answer()
        await self._store.prepare()

    async def put(self, key: str, data: bytes, *, sha256: str, md5: str) -> str:
        self._answer()
        self.puts.append(key)
        request = asyncio.create_task(self._arrive(key, data, sha256=sha256, md5=md5))
        self.late.append(request)
        return await asyncio.shield(request)

    async def _arrive(self, key: str, data: bytes, **digests: str) -> str:
        for part, opened in list(self.held.items()):
            if part in key:
                await opened.wait()
        return await self._store.put(key, data, **digests)

    async def get(self, key: str) -> bytes | None:
        self._answer()
        return await self._store.get(key)

    async def head(self, key: str) -> StoredObject | None:
        self._answer()
        return await self._store.head(key)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        self._answer()
        async for one in self._store.list(prefix):
            yield one

    async def delete(self, keys: Sequence[str]) -> None:
        self._answer()
        await self._store.delete(keys)

    def _answer(self) -> None:
        if self.down:
            raise DependencyDownError("S3", "Could not connect to the endpoint URL", retry_after=0.05)

    async def keys(self) -> list[str]:
        return [one.key async for one in self._store.list("")]


class Recording:
    """A watched root with one recorder, the store that its files grow into, and what the log says."""

    def __init__(self, watched: Watched, store: Between) -> None:
        self.watched, self.store, self.log, self.root = watched, store, watched.log, watched.root

    def video(self, name: str, generation: int = 0) -> str:
        return watched_video_id(str(self.root), name, generation)

    async def growths(self, name: str) -> list[Any]:
        return fold_growth(await self.log.history(growth_subject(self.video(name))))

    async def sent(self, name: str) -> int:
        """Chunks of the newest stream that the store has."""
        growths = await self.growths(name)
        return len(growths[-1].chunks) if growths and not growths[-1].abandoned else 0

    async def sends(self, name: str, chunks: int) -> None:
        """Wait until so many chunks of a file are in the store."""

        async def enough() -> bool:
            return await self.sent(name) >= chunks

        await until(enough)

    async def settled(self, name: str) -> FileSettled:
        async def found() -> FileSettled | None:
            history = await self.log.history(self.video(name))
            return next((one.event for one in reversed(history) if isinstance(one.event, FileSettled)), None)

        return await until(found)

    @asynccontextmanager
    async def replicating(self) -> AsyncIterator[None]:
        services: dict[type[Any], Any] = {Histories: self.log, ObjectStore: self.store}
        async with hosted(replicate, self.log, services, self.watched.settings, "worker"):
            yield

    async def copied(self, name: str, content: bytes, *, revision: int = 1) -> Any:
        """Complete the copy, and compare it: exactly the file's chunks, and the manifest. The stream."""

        async def complete() -> Any:
            facts = fold(await self.log.history(self.video(name)))
            stream = facts.stream()
            return stream if stream is not None and stream.completed and stream.revision == revision else None

        async with self.replicating():
            stream = await until(complete)
        await self.holds(stream, content)
        return stream

    async def holds(self, stream: Any, content: bytes) -> None:
        data = await self.store.get(manifest_key(stream.id))
        assert data is not None
        manifest = orjson.loads(data)
        chunks = [await self.store.get(part["key"]) or b"" for part in manifest["chunks"]]
        assert b"".join(chunks) == content
        assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
        there = {key for key in await self.store.keys() if key.startswith(stream.id)}
        assert there == {part["key"] for part in manifest["chunks"]} | {manifest_key(stream.id)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(make_settings: Callable[..., Settings], root: Path) -> Settings:
    return make_settings(
        watch=(root,), watch_still_after=0.3, watch_poll_interval=0.2, partitions=4,
        chunk_size=CHUNK, growing_behind=BEHIND, s3_endpoint="file:///dev/shm",
    )  # fmt: skip


@pytest.fixture
async def recording(redis_url: str, settings: Settings, root: Path) -> AsyncIterator[Recording]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="spoolhouse-test-") as other_disk:
        elsewhere = settings.model_copy(update={"s3_endpoint": f"file://{other_disk}"})
        async with open_log(elsewhere, redis_url) as log, open_directory(elsewhere) as store:
            between = Between(store)
            watched = Watched(log, elsewhere, root, growing=partial(GrowingFiles, log, elsewhere, between))
            await watched.reserve()
            yield Recording(watched, between)
            for opened in between.events:
                opened.set()
            await asyncio.gather(*between.late, return_exceptions=True)


@pytest.fixture
def content(rng: random.Random) -> Callable[[float], bytes]:
    """`content(3.5)`: random bytes for so many chunks."""
    return lambda chunks: rng.randbytes(int(chunks * CHUNK))


# ---------------------------------------------------------------- as it grows


async def test_a_recording_is_copied_behind_its_writer_and_completed_once_it_is_closed(
    recording: Recording, content: Callable[[float], bytes]
):
    whole = content(9.3)
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            for at in range(0, len(whole), CHUNK // 2):
                recorder.write(whole[at : at + CHUNK // 2])
                if at >= 5 * CHUNK:
                    await recording.sends("cam.mp4", min(at // CHUNK, 8) - 1)
            await recording.sends("cam.mp4", 8)
            assert await recording.sent("cam.mp4") == 8, "one chunk of 9.3 lies too near to the writer"
            assert await recording.log.history(recording.video("cam.mp4")) == [], "nothing is said of it before"
        settled = await recording.settled("cam.mp4")
    assert (settled.revision, settled.size) == (1, len(whole))
    stream = await recording.copied("cam.mp4", whole)
    growths = await recording.growths("cam.mp4")
    assert [(one.started.stream_id, one.ended) for one in growths] == [(stream.id, True)]
    counted = Counter(recording.store.puts)
    assert len(counted) == 11 and set(counted.values()) == {1}, "each of ten chunks and the manifest, once"


async def test_users_see_in_redis_how_far_it_is(recording: Recording, content: Callable[[float], bytes]):
    async with recording.watched.running():
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder, capture_logs() as lines:
            recorder.write(content(3))
            await recording.sends("cam.mp4", 2)
            shown = await recording.log.checkpoint(growth_subject(recording.video("cam.mp4")))
            [growth] = await recording.growths("cam.mp4")
    assert shown["offset"] == str(2 * CHUNK) and shown["stream_id"] == growth.started.stream_id
    assert float(shown["last_modified"]) > 1e9
    said = [line["event"] for line in lines]
    assert said.count("Starting upload from offset 0") == 1
    assert f"Uploading chunk: {growth.started.stream_id}/chunk_000000.bin chunk_number: 0" in said


async def test_an_mp4_whose_start_is_rewritten_at_the_end_costs_one_chunk_more(
    recording: Recording, rng: random.Random
):
    """What ffmpeg's muxer does when a recording is closed."""
    path = recording.root / "camera.mp4"
    noise = np.random.default_rng(rng.randrange(2**32))
    async with recording.watched.running():
        await recording.watched.ready()
        with av.open(str(path), "w") as container:
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
            video.options = {"qscale": "1"}
            while not path.exists() or path.stat().st_size < 6 * CHUNK:
                frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (120, 160, 3), np.uint8), format="rgb24")
                container.mux(video.encode(frame))
                await asyncio.sleep(0)
            await recording.sends("camera.mp4", 4)
            before = path.read_bytes()[:CHUNK]
            container.mux(video.encode(None))
        await recording.settled("camera.mp4")
    whole = path.read_bytes()
    assert whole[:CHUNK] != before
    stream = await recording.copied("camera.mp4", whole)
    assert [one for one, times in Counter(recording.store.puts).items() if times > 1] == [
        f"{stream.id}/chunk_000000.bin"
    ]


async def test_two_recordings_grow_side_by_side_and_a_short_one_waits_for_its_end(
    recording: Recording, content: Callable[[float], bytes]
):
    wholes = {name: content(size) for name, size in (("one.mp4", 6.5), ("two.mkv", 5.1), ("short.mov", 1.9))}
    async with recording.watched.running():
        with ExitStack() as stack:
            files = {name: stack.enter_context(open(recording.root / name, "wb", buffering=0)) for name in wholes}
            for at in range(0, 7 * CHUNK, CHUNK // 4):
                for name, file in files.items():
                    file.write(wholes[name][at : at + CHUNK // 4])
            await recording.sends("one.mp4", 5)
            await recording.sends("two.mkv", 4)
        for name in wholes:
            await recording.settled(name)
    assert await recording.growths("short.mov") == []
    for name, whole in wholes.items():
        await recording.copied(name, whole)
    assert set(Counter(recording.store.puts).values()) == {1}


async def test_what_was_reserved_and_not_written_yet_is_not_sent(
    recording: Recording, content: Callable[[float], bytes]
):
    """Copiers set a file's length first: sending the holes would be sending it all twice."""
    whole = content(6)
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "copied.mp4", "wb", buffering=0) as copier:
            copier.truncate(len(whole))
            copier.write(whole[: 3 * CHUNK])
            await recording.sends("copied.mp4", 3)
            copier.write(whole[3 * CHUNK :])
            await recording.sends("copied.mp4", 5)
        await recording.settled("copied.mp4")
    await recording.copied("copied.mp4", whole)
    assert set(Counter(recording.store.puts).values()) == {1}


async def test_a_writer_that_stands_still_keeps_its_file_open_until_it_closes_it(
    recording: Recording, content: Callable[[float], bytes]
):
    whole = content(4)
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "paused.mp4", "wb", buffering=0) as recorder:
            recorder.write(whole)
            await recording.sends("paused.mp4", 3)
            write(recording.root / "other.mp4")  # settles, long after the other one stood still
            await recording.watched.becomes("other.mp4")
            await asyncio.sleep(2 * recording.watched.settings.watch_still_after)
            assert await recording.watched.present() == {"other.mp4"}
        await recording.watched.becomes("other.mp4", "paused.mp4")
    await recording.copied("paused.mp4", whole)


async def test_the_next_revision_of_a_known_file_grows_like_the_first(
    recording: Recording, content: Callable[[float], bytes]
):
    first, second = content(4), content(6)
    async with recording.watched.running():
        (recording.root / "again.mp4").write_bytes(first)
        await recording.settled("again.mp4")
        before = await recording.copied("again.mp4", first)
        with open(recording.root / "again.mp4", "wb", buffering=0) as recorder:
            recorder.write(second)
            await recording.sends("again.mp4", 5)

        async def replaced() -> bool:
            return (await recording.settled("again.mp4")).revision == 2

        await until(replaced)
    stream = await recording.copied("again.mp4", second, revision=2)
    assert stream.id != before.id
    await recording.holds(before, first)


# ---------------------------------------------------------------- interruptions


async def test_another_owner_goes_on_with_the_next_chunk(recording: Recording, content: Callable[[float], bytes]):
    whole = content(8)
    with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
        async with recording.watched.running():
            recorder.write(whole[: 4 * CHUNK])
            await recording.sends("cam.mp4", 3)
        async with recording.watched.running():
            recorder.write(whole[4 * CHUNK :])
            await recording.sends("cam.mp4", 7)
    async with recording.watched.running():
        await recording.settled("cam.mp4")
    await recording.copied("cam.mp4", whole)
    assert set(Counter(recording.store.puts).values()) == {1}


async def test_a_recording_that_ends_while_nobody_watches_loses_nothing_that_was_sent(
    recording: Recording, content: Callable[[float], bytes]
):
    whole = content(6)
    with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
        async with recording.watched.running():
            recorder.write(whole[: 5 * CHUNK])
            await recording.sends("cam.mp4", 4)
        recorder.write(whole[5 * CHUNK :])
    async with recording.watched.running():
        await recording.settled("cam.mp4")
    await recording.copied("cam.mp4", whole)
    assert set(Counter(recording.store.puts).values()) == {1}


async def test_while_the_store_is_down_the_root_is_watched_and_the_copy_waits(
    recording: Recording, content: Callable[[float], bytes]
):
    whole = content(8)
    with capture_logs() as lines:
        async with recording.watched.running():
            await recording.watched.ready()
            with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
                recorder.write(whole[: 3 * CHUNK])
                await recording.sends("cam.mp4", 2)
                recording.store.down = True
                recorder.write(whole[3 * CHUNK : 5 * CHUNK])
                write(recording.root / "other.mp4")
                await recording.watched.becomes("other.mp4")

                async def told() -> bool:
                    return any("MinIO/S3" in line["event"] for line in lines)

                await until(told)
                [growth] = await recording.growths("cam.mp4")
                recording.store.down = False
                recorder.write(whole[5 * CHUNK :])
                await recording.sends("cam.mp4", 7)
            await recording.settled("cam.mp4")
    told_by = ("MinIO/S3", "Retrying S3", "Starting upload")
    said = [line["event"] for line in lines if line["event"].startswith(told_by)]
    id, path = growth.started.stream_id, recording.root / "cam.mp4"
    assert said[:3] == [
        "Starting upload from offset 0",
        f"MinIO/S3 connection unavailable or error during upload_chunk {id}, 2",
        f"Retrying S3 upload for {path} in {said[2].rsplit(' ', 2)[1]} seconds...",
    ]
    assert said[3:] == [f"Starting upload from offset {2 * CHUNK}"], "once for the outage"
    await recording.copied("cam.mp4", whole)
    assert set(Counter(recording.store.puts).values()) == {1}


async def test_a_store_that_hangs_holds_up_no_other_file(
    recording: Recording, content: Callable[[float], bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(growing, "LAST_REQUEST", 0.2)
    recording.store.hold("chunk_")
    wholes = {f"cam {number}.mp4": content(3) for number in range(6)}
    async with recording.watched.running():
        with ExitStack() as stack:
            for name, whole in wholes.items():
                stack.enter_context(open(recording.root / name, "wb", buffering=0)).write(whole)

            async def full() -> bool:
                return len(recording.store.puts) == growing.SIDE_BY_SIDE

            await until(full)
            write(recording.root / "other.mp4")
            await recording.watched.becomes("other.mp4")
        await recording.watched.becomes("other.mp4", *wholes)
        assert len(recording.store.puts) == growing.SIDE_BY_SIDE, "memory is bounded"
    recording.store.held.pop("chunk_").set()
    for name, whole in wholes.items():
        await recording.copied(name, whole)


# ---------------------------------------------------------------- files that do not stay what they were


async def test_a_file_that_shrinks_begins_another_stream(recording: Recording, content: Callable[[float], bytes]):
    former, whole = content(5), content(4)
    async with recording.watched.running():
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(former)
            await recording.sends("cam.mp4", 4)
            recorder.truncate(0)
            recorder.seek(0)

            async def over() -> bool:
                return (await recording.growths("cam.mp4"))[0].abandoned

            await until(over)
            recorder.write(whole)
            await recording.sends("cam.mp4", 3)
        await recording.settled("cam.mp4")
    first, second = await recording.growths("cam.mp4")
    assert (first.abandoned, second.started.take, second.ended) == (True, 1, True)
    stream = await recording.copied("cam.mp4", whole)
    assert stream.id == second.started.stream_id
    assert not [key for key in await recording.store.keys() if key.startswith(first.started.stream_id)]


async def test_a_file_that_is_replaced_begins_another_stream(recording: Recording, content: Callable[[float], bytes]):
    whole = content(5)
    async with recording.watched.running():
        with (
            open(recording.root / "cam.mp4", "wb", buffering=0) as first,
            open(recording.root / ".next", "wb", buffering=0) as second,
        ):
            first.write(content(4))
            await recording.sends("cam.mp4", 3)
            second.write(whole)
            os.replace(recording.root / ".next", recording.root / "cam.mp4")

            async def begun_anew() -> bool:
                return len(await recording.growths("cam.mp4")) == 2

            await until(begun_anew)
            await recording.sends("cam.mp4", 4)
        await recording.settled("cam.mp4")
    [former, _] = await recording.growths("cam.mp4")
    assert former.abandoned
    await recording.copied("cam.mp4", whole)
    assert not [key for key in await recording.store.keys() if key.startswith(former.started.stream_id)]


async def test_of_a_file_that_vanishes_nothing_is_left(recording: Recording, content: Callable[[float], bytes]):
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(content(4))
            await recording.sends("cam.mp4", 3)
            os.unlink(recording.root / "cam.mp4")

            async def over() -> bool:
                return (await recording.growths("cam.mp4"))[0].abandoned

            await until(over)
            await until(partial(nothing_left, recording))
    [*_, last] = await recording.log.history(growth_subject(recording.video("cam.mp4")))
    assert isinstance(last.event, GrowthAbandoned) and last.event.reason == "the file went away"


async def test_nothing_is_left_of_a_file_that_vanishes_while_nobody_watches(
    recording: Recording, content: Callable[[float], bytes]
):
    with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
        async with recording.watched.running():
            recorder.write(content(4))
            await recording.sends("cam.mp4", 3)
    os.unlink(recording.root / "cam.mp4")
    async with recording.watched.running():

        async def over() -> bool:
            return (await recording.growths("cam.mp4"))[0].abandoned

        await until(over)
        await until(partial(nothing_left, recording))


async def test_what_was_sent_is_kept_when_the_whole_root_goes_away(
    recording: Recording, content: Callable[[float], bytes], tmp_path: Path
):
    """An unmounted disk, perhaps a dying one: this may be the only copy there is."""
    whole = content(6)
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(whole[: 4 * CHUNK])
            await recording.sends("cam.mp4", 3)
            os.rename(recording.root, tmp_path / "away")

            async def noticed() -> bool:
                return "RootHeld" in await recording.watched.root_types()

            await until(noticed)
            os.rename(tmp_path / "away", recording.root)
            recorder.write(whole[4 * CHUNK :])
            await recording.sends("cam.mp4", 5)
        await recording.settled("cam.mp4")
    [growth] = await recording.growths("cam.mp4")
    assert growth.ended and not growth.abandoned
    await recording.copied("cam.mp4", whole)


async def test_what_another_file_at_its_path_sends_takes_nothing_from_a_copy_that_is_complete(
    recording: Recording, content: Callable[[float], bytes]
):
    """A recording is moved away and the next one begins at its path, before anyone hears of the move."""
    first, second = content(6), content(6)
    path = recording.root / "cam.mp4"
    async with recording.watched.running():
        with open(path, "wb", buffering=0) as recorder:
            recorder.write(first)
            await recording.sends("cam.mp4", 5)
        await recording.settled("cam.mp4")
    before = await recording.copied("cam.mp4", first)
    os.rename(path, recording.root / "kept.mkv.part")
    with open(path, "wb", buffering=0) as recorder:
        async with recording.watched.running():
            recorder.write(second)

            async def followed() -> bool:
                growths = await recording.growths("cam.mp4")
                return len(growths) == 2 and len(growths[-1].chunks) == 5

            async def over() -> bool:
                growth = (await recording.growths("cam.mp4"))[-1]
                left = [key for key in await recording.store.keys() if key.startswith(growth.started.stream_id)]
                return growth.abandoned and not left

            await until(followed)
            os.rename(recording.root / "kept.mkv.part", recording.root / "kept.mp4")
            await recording.watched.becomes("kept.mp4")
            recorder.close()
            await recording.watched.becomes("kept.mp4", "cam.mp4")
            await until(over)
    await recording.holds(before, first)


async def test_a_copy_that_is_begun_once_more_counts_on_nothing_that_is_being_removed(
    recording: Recording, content: Callable[[float], bytes], monkeypatch: pytest.MonkeyPatch
):
    """`cp` is interrupted and run again: the same bytes into the same file, while answers of the store are lost."""
    whole = content(6)
    asked = asyncio.Event()
    delete = recording.store.delete

    async def unanswered(keys: Sequence[str]) -> None:
        await delete(keys)
        asked.set()
        raise DependencyDownError("S3", "no answer in time", retry_after=0.05)

    monkeypatch.setattr(recording.store, "delete", unanswered)
    async with recording.watched.running():
        with open(recording.root / "cam.mp4", "wb", buffering=0) as copier:
            copier.write(whole)
            await recording.sends("cam.mp4", 5)
            copier.truncate(0)
            copier.seek(0)
            await asyncio.wait_for(asked.wait(), 15)
            copier.write(whole)
        await recording.settled("cam.mp4")
    await recording.copied("cam.mp4", whole)


async def test_what_another_run_left_of_an_abandoned_stream_is_removed(
    recording: Recording, content: Callable[[float], bytes], monkeypatch: pytest.MonkeyPatch
):
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(content(4))
            await recording.sends("cam.mp4", 3)
            monkeypatch.setattr(recording.store, "down", True)
            os.unlink(recording.root / "cam.mp4")

            async def over() -> bool:
                return (await recording.growths("cam.mp4"))[0].abandoned

            await until(over)
    assert len(await recording.store.keys()) == 3
    monkeypatch.setattr(recording.store, "down", False)
    async with recording.watched.running():
        await until(partial(nothing_left, recording))


# ---------------------------------------------------------------- a chunk of old must not come late


async def test_a_file_is_registered_after_its_last_request_has_come_to_an_end(
    recording: Recording, content: Callable[[float], bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(growing, "LAST_REQUEST", 60.0)
    former, whole = content(4), content(4)
    opened = recording.store.hold("chunk_000000")
    async with recording.watched.running():
        await recording.watched.ready()
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(former)
            await until(lambda: put_begun(recording))
            recorder.seek(0)
            recorder.write(whole)
        write(recording.root / "other.mp4")
        await recording.watched.becomes("other.mp4")
        opened.set()
        await recording.settled("cam.mp4")
        [growth] = await recording.growths("cam.mp4")
        assert list(growth.chunks) == [0] and growth.ended, "the request's end was waited for"
    stream = await recording.copied("cam.mp4", whole)
    assert stream.id == growth.started.stream_id


async def test_a_request_that_comes_late_with_former_content_finds_no_copy_to_spoil(
    recording: Recording, content: Callable[[float], bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(growing, "LAST_REQUEST", 0.2)
    former, whole = content(4), content(4)
    opened = recording.store.hold("chunk_000000")
    async with recording.watched.running():
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(former)
            await until(lambda: put_begun(recording))
            recorder.seek(0)
            recorder.write(whole)
        await recording.settled("cam.mp4")
    [growth] = await recording.growths("cam.mp4")
    assert growth.abandoned
    del recording.store.held["chunk_000000"]
    stream = await recording.copied("cam.mp4", whole)
    opened.set()
    await asyncio.gather(*recording.store.late)
    assert await recording.store.get(f"{growth.started.stream_id}/chunk_000000.bin") == former[:CHUNK]
    await recording.holds(stream, whole)


async def test_a_request_that_comes_late_with_what_the_file_holds_does_no_harm(
    recording: Recording, content: Callable[[float], bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(growing, "LAST_REQUEST", 0.2)
    whole = content(6)
    opened = recording.store.hold("chunk_000003")
    async with recording.watched.running():
        with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
            recorder.write(whole)
            await recording.sends("cam.mp4", 3)
        await recording.settled("cam.mp4")
    del recording.store.held["chunk_000003"]
    stream = await recording.copied("cam.mp4", whole)
    [growth] = await recording.growths("cam.mp4")
    assert growth.started.stream_id == stream.id, "what had been sent is used"
    opened.set()
    await asyncio.gather(*recording.store.late)
    await recording.holds(stream, whole)


async def test_the_requests_of_a_worker_that_died_are_known_by_their_hash(
    recording: Recording, content: Callable[[float], bytes]
):
    """Killed with chunk 0 on its way; nobody sees it again before the file is complete, its start rewritten."""
    former, whole = content(4), content(4)
    opened = recording.store.hold("chunk_000000")
    with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
        async with recording.watched.running():
            recorder.write(former)
            await until(lambda: put_begun(recording))
        recorder.seek(0)
        recorder.write(whole)
    del recording.store.held["chunk_000000"]
    async with recording.watched.running():
        await recording.settled("cam.mp4")
    stream = await recording.copied("cam.mp4", whole)
    opened.set()
    await asyncio.gather(*recording.store.late)
    await recording.holds(stream, whole)


async def test_a_request_that_is_made_again_stays_doubtful(recording: Recording, content: Callable[[float], bytes]):
    """The second one came to its end; the first, with bytes that the file no longer holds, has not."""
    former, whole = content(4), content(4)
    opened = recording.store.hold("chunk_000000")
    with open(recording.root / "cam.mp4", "wb", buffering=0) as recorder:
        async with recording.watched.running():
            recorder.write(former)
            await until(lambda: put_begun(recording))
        del recording.store.held["chunk_000000"]
        async with recording.watched.running():
            await recording.sends("cam.mp4", 3)
            recorder.seek(0)
            recorder.write(whole)
    async with recording.watched.running():
        await recording.settled("cam.mp4")
    [growth] = await recording.growths("cam.mp4")
    assert growth.abandoned
    stream = await recording.copied("cam.mp4", whole)
    opened.set()
    await asyncio.gather(*recording.store.late)
    await recording.holds(stream, whole)


async def test_a_worker_that_was_suspended_finds_that_others_went_on(recording: Recording):
    former = await open_journal(recording.log, "video")
    growth = await former.start(
        OsPath("/root"), "a.mp4", 1, Found(1, 1, 1, 1), store=recording.store.label, chunk_size=CHUNK
    )
    await former.dispatch(growth, 0, "aa")
    now = await open_journal(recording.log, "video")
    await now.end(now.growths[0], 1)
    with pytest.raises(ConflictError):
        await former.dispatch(growth, 1, "bb")
    with pytest.raises(ConflictError):
        await former.dispatch(growth, 0, "aa")
    history = await recording.log.history(growth_subject("video"))
    assert sum(isinstance(one.event, ChunkDispatched) for one in history) == 1


async def put_begun(recording: Recording) -> bool:
    return bool(recording.store.puts)


async def nothing_left(recording: Recording) -> bool:
    return not await recording.store.keys()


# ---------------------------------------------------------------- a root that pauses


async def test_a_paused_root_registers_nothing_until_it_may_go_on(redis_url: str, settings: Settings, root: Path):
    reason: list[str] = ["the disk is full"]
    async with open_log(settings, redis_url) as log:
        watched = Watched(log, settings, root, paused=lambda: reason[0] if reason else None)
        await watched.reserve()
        with capture_logs() as lines:
            async with watched.running() as source:
                write(root / "a.mp4")

                async def said() -> bool:
                    return any("pauses" in line["event"] for line in lines)

                await until(said)
                assert isinstance(source, WatchedRoot)
                assert source.waits is not None and "the disk is full" in source.waits
                assert await watched.present() == set()
                reason.clear()
                await watched.becomes("a.mp4")
                assert source.waits is None
    assert sum("pauses" in line["event"] for line in lines) == 1
