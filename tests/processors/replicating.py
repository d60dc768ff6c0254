"""What the tests of copying to the object store share: videos in the log, a worker at work, and checks of what lies there."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from processors.copies import Copies, chunk_key, fold, manifest_key
from processors.ports import ObjectStore
from processors.replicate import replicate
from processors.storage.stores import open_store
from streams.events import Event, FileSettled, ReplicationRequested, VideoStored
from streams.hosting import Host, hosted
from streams.log import Log, new_event
from streams.paths import OsPath
from streams.queries import Histories
from streams.settings import Settings
from tests.streams.driving import eventually
from tests.swift import SwiftServer

NOW = datetime(2024, 11, 12, 14, 30, 52, tzinfo=UTC)


def new_video() -> str:
    """An id."""
    return str(uuid.uuid4())


def stored(path: Path, *, size: int | None = None, sha256: str | None = None) -> VideoStored:
    """An upload that lies at `path`."""
    content = path.read_bytes()
    return VideoStored(
        door="upload",
        path=OsPath(str(path)),
        stored_name=path.name,
        filename=path.name,
        original_name=path.name,
        label="",
        mime="video/mp4",
        size=len(content) if size is None else size,
        sha256=hashlib.sha256(content).hexdigest() if sha256 is None else sha256,
        received_at=NOW,
        modified_at=NOW,
    )


def settled(path: Path, revision: int = 1) -> FileSettled:
    """A watched file that is complete, its folder being the root."""
    found = path.stat()
    return FileSettled(
        root=OsPath(str(path.parent)),
        relative=OsPath(path.name),
        number=1,
        revision=revision,
        size=found.st_size,
        modified_ns=found.st_mtime_ns,
        device=found.st_dev,
        inode=found.st_ino,
    )


async def tell(log: Log, video: str, event: Event) -> None:
    """Append something that happened to a video."""
    await log.append(new_event(video, event, source="test"))


async def request(log: Log, video: str) -> None:
    """Ask for what is missing of a copy."""
    facts = fold(await log.history(video))
    await tell(log, video, ReplicationRequested(revision=facts.revision, request=facts.replication_requests + 1))


async def facts_of(log: Log, video: str) -> Copies:
    """What a video's history says."""
    return fold(await log.history(video))


async def completed(log: Log, video: str) -> Copies | None:
    """The facts, once the current revision's copy is complete and not damaged."""
    facts = await facts_of(log, video)
    stream = facts.stream()
    return facts if stream is not None and stream.completed is not None and stream.damaged is None else None


async def copied(log: Log, video: str) -> Copies:
    """Wait for a complete copy; the facts."""
    found: Copies = await eventually(lambda: completed(log, video))
    return found


async def types(log: Log, video: str) -> list[str]:
    """What happened to a video, in order."""
    return [one.type for one in await log.history(video)]


@asynccontextmanager
async def replicating(log: Log, settings: Settings, member: str = "worker-1") -> AsyncIterator[Host]:
    """A worker that copies to the configured store, in this process."""
    async with open_store(settings) as store:
        services: dict[type[Any], Any] = {Histories: log, ObjectStore: store}
        async with hosted(replicate, log, services, settings, member) as host:
            yield host


def check_copy(s3: SwiftServer, bucket: str, facts: Copies, content: bytes) -> dict[str, Any]:
    """The store holds exactly the chunks and the manifest of the current revision, byte-equal; the manifest."""
    stream = facts.stream()
    assert stream is not None
    assert stream.completed is not None
    manifest: dict[str, Any] = orjson.loads(s3.read(bucket, manifest_key(stream.id)))
    count = -(-len(content) // stream.chunk_size)
    expected = {chunk_key(stream.id, index) for index in range(count)} | {manifest_key(stream.id)}
    assert set(s3.objects(bucket, f"{stream.id}/")) == expected
    whole = b"".join(s3.read(bucket, part["key"]) for part in manifest["chunks"])
    assert whole == content
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest() == stream.completed.sha256
    assert (manifest["stream_id"], manifest["file_size"]) == (stream.id, len(content))
    assert [part["index"] for part in manifest["chunks"]] == list(range(count))
    assert sorted(stream.chunks) == list(range(count)), "the history tells of every chunk"
    for part, told in zip(manifest["chunks"], (stream.chunks[index] for index in range(count)), strict=True):
        assert (part["offset"], part["size"]) == (told.offset, told.size)
        assert (part["sha256"], part["etag"]) == (told.sha256, told.etag)
    return manifest


def noise(path: Path, size: int) -> bytes:
    """A file of random bytes; what it holds."""
    content = os.urandom(size)
    path.write_bytes(content)
    return content
