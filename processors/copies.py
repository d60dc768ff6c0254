"""What a video's history says of its file and of its copies elsewhere: folded from the log, never guessed.

    facts = fold(await histories.history(video))

Whoever copies, verifies, restores or deletes begins here, so that all of them agree on what is
there. The bucket and Drive are asked only whether they still have what the log says they have.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from streams.codec import Recorded
from streams.events import (
    ChunkDispatched,
    ChunkUploaded,
    Door,
    DriveFileUploaded,
    DriveOffsetReached,
    DrivePermissionsSet,
    DriveSessionOpened,
    DriveUploadCompleted,
    DriveUploadFailed,
    DriveUploadRequested,
    DriveUploadStarted,
    Event,
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    GrowthAbandoned,
    GrowthEnded,
    GrowthStarted,
    ReplicaDamaged,
    ReplicaRepaired,
    ReplicationAbandoned,
    ReplicationCompleted,
    ReplicationRequested,
    ReplicationStarted,
    ReplicaVerified,
    VideoOffloaded,
    VideoRestored,
    VideoStored,
)
from streams.paths import OsPath, escape_path

MANIFEST = "metadata.json"


def chunk_key(stream_id: str, index: int) -> str:
    """The key of a chunk: nothing but its index decides it."""
    return f"{stream_id}/chunk_{index:06d}.bin"


def manifest_key(stream_id: str) -> str:
    """The key of a stream's manifest."""
    return f"{stream_id}/{MANIFEST}"


@dataclass(slots=True)
class Stream:
    """One revision in the object store."""

    id: str
    revision: int
    store: str
    chunk_size: int
    chunks: dict[int, ChunkUploaded] = field(default_factory=dict)
    """What the store said it has, by index: the newest of each."""
    began: datetime | None = None
    last: datetime | None = None
    """When it was begun, and when its newest chunk was there: what the manifest tells."""
    completed: ReplicationCompleted | None = None
    verified: ReplicaVerified | None = None
    """The newest verification since it was completed or damaged, where it found all well."""
    verified_at: float | None = None
    """Epoch seconds."""
    damaged: ReplicaDamaged | None = None
    """The newest verification, where it found faults that were not repaired since."""


@dataclass(slots=True)
class DriveCopy:
    """One revision in Google Drive."""

    file_id: str
    revision: int
    filename: str
    session: int = 0
    uri: str | None = None
    """Of the newest session."""
    offset: int = 0
    uploaded: DriveFileUploaded | None = None
    shared_with: str | None = None
    completed: DriveUploadCompleted | None = None
    verified: ReplicaVerified | None = None
    verified_at: float | None = None
    damaged: ReplicaDamaged | None = None


@dataclass(slots=True)
class Copies:
    """All that is known of one video's file and its copies."""

    video: str
    door: Door | None = None
    """None: nothing but an adopted row of the legacy table, or nothing at all, is known."""
    path: OsPath | None = None
    """Where the local file lies, or lay."""
    root: OsPath | None = None
    filename: str = ""
    """Its name for people and in Drive: of an upload without its timestamp."""
    stored_name: str = ""
    mime: str = "application/octet-stream"
    revision: int = 0
    size: int = 0
    sha256: str | None = None
    """Known of uploads from the start, of watched files once a copy was made."""
    device: int | None = None
    inode: int | None = None
    modified_ns: int | None = None
    """Of a watched file when it settled: another one is another revision."""
    state: Literal["present", "removed", "offloaded"] = "present"
    offloads: int = 0
    streams: dict[str, Stream] = field(default_factory=dict)
    drive: dict[str, DriveCopy] = field(default_factory=dict)
    """By file id, oldest first."""
    episode: int = 0
    """How many episodes of Drive failures there were."""
    failing: bool = False
    """Whether the last one is still open."""
    verifications: int = 0
    replication_requests: int = 0
    drive_requests: int = 0
    ver: int = 0
    """The subject's version."""

    def stream(self, store: str | None = None) -> Stream | None:
        """The newest stream of the current revision; one in the store of this label before any other."""
        found = [one for one in reversed(self.streams.values()) if one.revision == self.revision]
        return next((one for one in found if one.store == store), found[0] if found else None)

    def drive_copy(self) -> DriveCopy | None:
        """The newest Drive file of the current revision."""
        return next((one for one in reversed(self.drive.values()) if one.revision == self.revision), None)


def fold(history: Iterable[Recorded[Any]]) -> Copies:
    """What a video's events say."""
    facts = Copies("")
    for recorded in history:
        facts.video, facts.ver = recorded.subject, recorded.ver
        _apply(facts, recorded)
    return facts


@dataclass(slots=True)
class Growth:
    """What was sent of a file before it settled."""

    started: GrowthStarted
    chunks: dict[int, ChunkUploaded] = field(default_factory=dict)
    requests: list[ChunkDispatched] = field(default_factory=list)
    """Every chunk that was on its way, in order."""
    ended: bool = False
    """The file was complete, and no one sends more of it."""
    abandoned: bool = False

    def doubtful(self) -> list[ChunkDispatched]:
        """Requests that may yet arrive: made by someone who died, or given up without an answer."""
        arrived = {(one.index, one.sha256) for one in self.chunks.values()}
        return [one for one in self.requests if one.again or (one.index, one.sha256) not in arrived]


def fold_growth(history: Iterable[Recorded[Any]]) -> list[Growth]:
    """The streams that began before their file settled, oldest first."""
    found: list[Growth] = []
    for recorded in history:
        apply_growth(found, recorded.event)
    return found


def apply_growth(growths: list[Growth], event: Event) -> None:
    """Take in one event more."""
    if isinstance(event, GrowthStarted):
        growths.append(Growth(event))
        return
    id = getattr(event, "stream_id", None)
    growth = next((one for one in reversed(growths) if one.started.stream_id == id), None)
    if growth is None:
        return
    match event:
        case ChunkDispatched():
            growth.requests.append(event)
            growth.ended = False
        case ChunkUploaded():
            growth.chunks[event.index] = event
        case GrowthEnded():
            growth.ended = True
        case GrowthAbandoned():
            growth.abandoned = True


def grown(growths: Iterable[Growth], facts: Copies, store: str) -> Growth | None:
    """What was sent of this very file before it settled, where its copy can be completed from there.

    The watcher ended it before it registered the file, and only where nothing that may yet arrive
    differs from what the file holds.
    """
    for growth in reversed(list(growths)):
        started = growth.started
        same = (started.revision, started.device, started.inode) == (facts.revision, facts.device, facts.inode)
        if same and started.store == store and growth.ended and not growth.abandoned:
            return growth
    return None


def next_take(growths: Iterable[Growth], revision: int) -> int:
    """The `take` of a stream that shares no object with any that began before the file settled.

    Of an abandoned one, requests may yet arrive, and objects may yet be removed.
    """
    return max((one.started.take + 1 for one in growths if one.started.revision == revision), default=0)


def manifest_bytes(
    facts: Copies, stream: Stream, chunks: Iterable[ChunkUploaded], *, sha256: str, created_at: str, completed_at: str
) -> bytes:
    """The content of `<stream_id>/metadata.json`: what a restore needs, readable."""
    parts = [
        {
            "index": one.index,
            "key": chunk_key(one.stream_id, one.index),
            "offset": one.offset,
            "size": one.size,
            "sha256": one.sha256,
            "etag": one.etag,
        }
        for one in chunks
    ]
    told = {
        "stream_id": stream.id,
        "file_name": escape_path(facts.stored_name),
        "file_size": sum(part["size"] for part in parts),  # type: ignore[misc]
        "chunk_size": stream.chunk_size,
        "chunks": parts,
        "sha256": sha256,
        "created_at": created_at,
        "completed_at": completed_at,
        "video": facts.video,
        "revision": stream.revision,
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def manifest_again(facts: Copies, stream: Stream) -> bytes | None:
    """A completed stream's manifest from what the log says; None where the log does not hold all of its chunks.

    Byte for byte what was written, unless its file got another name or a chunk was sent again since.
    """
    done = stream.completed
    if done is None or stream.began is None or stream.last is None or sorted(stream.chunks) != list(range(done.chunks)):
        return None
    return manifest_bytes(
        facts,
        stream,
        [stream.chunks[index] for index in range(done.chunks)],
        sha256=done.sha256,
        created_at=stream.began.isoformat(timespec="milliseconds"),
        completed_at=stream.last.isoformat(timespec="milliseconds"),
    )


# ---------------------------------------------------------------- event by event


def _apply(facts: Copies, recorded: Recorded[Any]) -> None:
    event = recorded.event
    match event:
        case VideoStored() | FileSettled() | FileMoved() | FileReturned() | FileRemoved():
            _local(facts, event)
        case VideoOffloaded():
            facts.state, facts.offloads = "offloaded", event.offload
        case VideoRestored():
            facts.state = "present"
        case ReplicaVerified() | ReplicaDamaged() | ReplicaRepaired():
            _verification(facts, event, recorded.time.timestamp())
        case ReplicationRequested():
            facts.replication_requests = event.request
        case DriveUploadRequested():
            facts.drive_requests = event.request
        case DriveUploadFailed():
            facts.episode, facts.failing = event.episode, True
        case ReplicationStarted() | ChunkUploaded() | ReplicationCompleted() | ReplicationAbandoned():
            _stream(facts, event, recorded.time)
        case _:
            _drive(facts, event)


def _local(facts: Copies, event: VideoStored | FileSettled | FileMoved | FileReturned | FileRemoved) -> None:
    if isinstance(event, FileRemoved):
        if facts.state != "offloaded":
            facts.state = "removed"
        return
    facts.state = "present"
    facts.size = event.size
    if isinstance(event, VideoStored):
        facts.door, facts.path, facts.revision = event.door, event.path, event.revision
        facts.filename, facts.stored_name, facts.mime = event.filename, event.stored_name, event.mime
        facts.sha256 = event.sha256
        return
    facts.door, facts.root = "watch", event.root
    facts.path = OsPath(os.path.join(event.root, event.relative))
    facts.filename = facts.stored_name = os.path.basename(event.relative)
    facts.device, facts.inode, facts.modified_ns = event.device, event.inode, event.modified_ns
    if isinstance(event, FileSettled):
        if event.revision != facts.revision:
            facts.sha256 = None
        facts.revision = event.revision


def _stream(
    facts: Copies, event: ReplicationStarted | ChunkUploaded | ReplicationCompleted | ReplicationAbandoned, at: datetime
) -> None:
    match event:
        case ReplicationStarted():
            former = facts.streams.pop(event.stream_id, None)
            # Begun again in the same store: what it has stays sent.
            chunks = former.chunks if former and former.store == event.store else {}
            began = (former.began if former else None) or at
            facts.streams[event.stream_id] = Stream(
                event.stream_id, event.revision, event.store, event.chunk_size, chunks, began, at
            )
        case ChunkUploaded() if event.stream_id in facts.streams:
            stream = facts.streams[event.stream_id]
            stream.chunks[event.index], stream.last = event, at
        case ReplicationCompleted():
            stream = facts.streams.setdefault(
                event.stream_id, Stream(event.stream_id, event.revision, event.store, event.chunk_size)
            )
            stream.completed, stream.damaged = event, None
            if event.revision == facts.revision and facts.sha256 is None:
                facts.sha256 = event.sha256
        case ReplicationAbandoned():
            facts.streams.pop(event.stream_id, None)


def _drive(facts: Copies, event: Any) -> None:
    if isinstance(event, DriveUploadStarted):
        facts.drive.pop(event.file_id, None)  # one that is begun again is the newest
        facts.drive[event.file_id] = DriveCopy(event.file_id, event.revision, event.filename)
        return
    copy = facts.drive.get(getattr(event, "file_id", ""))
    if copy is None:
        return
    match event:
        case DriveSessionOpened():
            copy.session, copy.uri, copy.offset = event.session, event.uri, 0
        case DriveOffsetReached():
            copy.offset = event.offset
        case DriveFileUploaded():
            copy.uploaded = event
        case DrivePermissionsSet():
            copy.shared_with = event.shared_with
        case DriveUploadCompleted():
            copy.completed, copy.damaged = event, None
            facts.failing = False


def _verification(facts: Copies, event: ReplicaVerified | ReplicaDamaged | ReplicaRepaired, at: float) -> None:
    facts.verifications = max(facts.verifications, event.verification)
    copy: Stream | DriveCopy | None = (
        facts.streams.get(event.target) if event.replica == "s3" else facts.drive.get(event.target)
    )
    if copy is None:
        return
    match event:
        case ReplicaVerified():
            copy.verified, copy.verified_at, copy.damaged = event, at, None
        case ReplicaDamaged():
            copy.damaged, copy.verified, copy.verified_at = event, None, None
        case ReplicaRepaired():
            copy.damaged = None
