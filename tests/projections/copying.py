"""Plausible histories of copies: what replication, Drive, verification and retention append."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streams.events import (
    AttemptFailed,
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
    EntryParked,
    Event,
    GrowthAbandoned,
    GrowthStarted,
    Replica,
    ReplicaDamaged,
    ReplicaRepaired,
    ReplicationAbandoned,
    ReplicationCompleted,
    ReplicationRequested,
    ReplicationStarted,
    ReplicaVerified,
    VideoOffloaded,
    VideoRestored,
)
from streams.identity import growth_subject, stream_id
from streams.paths import OsPath

CHUNK = 1000
STORE = "s3://videos at http://127.0.0.1:9000"

PATH = OsPath("/data/uploaded_videos/20241112_143052_clip.mp4")

Say = Callable[[str, Event, str], Awaitable[object]]


@dataclass
class Copied:
    """A video whose copies are made."""

    id: str
    revision: int = 1
    size: int = 3500
    door: Door = "upload"
    name: str = "clip.mp4"
    path: OsPath = PATH
    session: int = 0
    verification: int = 0
    episode: int = 0
    offload: int = 0
    requests: int = 0
    files: int = 1

    @property
    def stream(self) -> str:
        """The id of its stream."""
        return stream_id(self.id, self.revision)

    @property
    def file_id(self) -> str:
        """Of its newest file in Drive."""
        return f"drive-{self.id[-12:]}-{self.revision}-{self.files}"


class Copying:
    """Appends what happens to copies."""

    def __init__(self, say: Say, rng: random.Random) -> None:
        self._say, self.rng = say, rng

    async def begin(self, one: Copied) -> None:
        """The copy to the object store begins."""
        await self._say(
            one.id,
            ReplicationStarted(
                revision=one.revision, stream_id=one.stream, store=STORE, chunk_size=CHUNK, size=one.size
            ),
            "replicate",
        )

    async def chunks(self, one: Copied, first: int, last: int, content: str = "", subject: str | None = None) -> None:
        """Chunks `first` through `last` are there."""
        for index in range(first, last + 1):
            at = index * CHUNK
            sha256 = hashlib.sha256(f"{one.id}{index}{content}".encode()).hexdigest()
            event = ChunkUploaded(
                revision=one.revision,
                stream_id=one.stream,
                index=index,
                offset=at,
                size=min(CHUNK, one.size - at),
                sha256=sha256,
                etag=sha256[:32],
            )
            await self._say(subject or one.id, event, "replicate")

    async def complete(self, one: Copied, sha256: str = "c" * 64) -> None:
        """The manifest is there."""
        event = ReplicationCompleted(
            revision=one.revision,
            stream_id=one.stream,
            store=STORE,
            size=one.size,
            sha256=sha256,
            chunk_size=CHUNK,
            chunks=-(-one.size // CHUNK),
            manifest_sha256=hashlib.sha256(one.stream.encode()).hexdigest(),
        )
        await self._say(one.id, event, "replicate")

    async def replicate(self, one: Copied, sha256: str = "c" * 64) -> None:
        """From the first chunk to the manifest."""
        await self.begin(one)
        await self.chunks(one, 0, -(-one.size // CHUNK) - 1)
        await self.complete(one, sha256)

    async def abandon(self, one: Copied) -> None:
        """The copy to the object store is given up."""
        event = ReplicationAbandoned(revision=one.revision, stream_id=one.stream, reason="the file was replaced")
        await self._say(one.id, event, "replicate")

    async def drive_begin(self, one: Copied) -> None:
        """A file in Drive is begun, with a session."""
        one.session = 0
        started = DriveUploadStarted(
            revision=one.revision,
            file_id=one.file_id,
            folder_id="folder",
            filename=one.name,
            path=one.path,
            door=one.door,
            size=one.size,
        )
        await self._say(one.id, started, "drive")
        await self.drive_session(one)

    async def drive_session(self, one: Copied) -> None:
        """Another session."""
        one.session += 1
        opened = DriveSessionOpened(
            revision=one.revision, file_id=one.file_id, session=one.session, uri=f"https://drive/secret-{one.session}"
        )
        await self._say(one.id, opened, "drive")

    async def drive_reach(self, one: Copied, offset: int) -> None:
        """Drive has so much."""
        event = DriveOffsetReached(
            revision=one.revision, file_id=one.file_id, session=one.session, offset=offset, size=one.size
        )
        await self._say(one.id, event, "drive")

    async def drive_complete(self, one: Copied) -> None:
        """All of it, shared and verified."""
        revision, file_id, name, door = one.revision, one.file_id, one.name, one.door
        uploaded = DriveFileUploaded(
            revision=revision, file_id=file_id, filename=name, door=door, size=one.size, md5="d" * 32
        )
        shared = DrivePermissionsSet(revision=revision, file_id=file_id, filename=name, door=door, shared_with="anyone")
        link = f"https://drive.google.com/file/d/{file_id}/view"
        completed = DriveUploadCompleted(
            revision=revision,
            file_id=file_id,
            filename=name,
            path=one.path,
            door=door,
            link=link,
            size=one.size,
            md5="d" * 32,
        )
        for event in (uploaded, shared, completed):
            await self._say(one.id, event, "drive")

    async def drive(self, one: Copied) -> None:
        """From the first byte to the link."""
        await self.drive_begin(one)
        for offset in range(CHUNK, one.size, CHUNK):
            await self.drive_reach(one, offset)
        await self.drive_complete(one)

    async def drive_fail(self, one: Copied, reason: str = "the quota is used up", *, begun: bool = True) -> None:
        """An episode of failures begins."""
        one.episode += 1
        event = DriveUploadFailed(
            revision=one.revision,
            filename=one.name,
            path=one.path,
            door=one.door,
            episode=one.episode,
            reason=reason,
            begun=begun,
        )
        await self._say(one.id, event, "drive")

    async def verify(self, one: Copied, replica: Replica, *, deep: bool = False, whole: bool = True) -> None:
        """A copy is looked at, and is whole or not."""
        one.verification += 1
        target = one.stream if replica == "s3" else one.file_id
        event: Event
        if whole:
            event = ReplicaVerified(
                replica=replica,
                revision=one.revision,
                target=target,
                verification=one.verification,
                deep=deep,
                objects=4,
                size=one.size,
            )
        else:
            event = ReplicaDamaged(
                replica=replica,
                revision=one.revision,
                target=target,
                verification=one.verification,
                deep=deep,
                missing=1,
                wrong=0,
                faults=("chunk_000001.bin is not there",),
            )
        await self._say(one.id, event, "verify")

    async def repair(self, one: Copied, replica: Replica) -> None:
        """What the last look found is sent again."""
        event = ReplicaRepaired(
            replica=replica,
            revision=one.revision,
            target=one.stream if replica == "s3" else one.file_id,
            verification=one.verification,
            source="local",
            objects=1,
            size=CHUNK,
        )
        await self._say(one.id, event, "verify")

    async def offload(self, one: Copied) -> None:
        """The local copy is given up."""
        one.offload += 1
        event = VideoOffloaded(
            revision=one.revision, path=one.path, size=one.size, replicas=("s3", "drive"), offload=one.offload
        )
        await self._say(one.id, event, "retention")

    async def restore(self, one: Copied) -> None:
        """The local copy is back."""
        event = VideoRestored(
            revision=one.revision,
            path=one.path,
            size=one.size,
            sha256="c" * 64,
            replica="s3",
            offload=one.offload,
        )
        await self._say(one.id, event, "restore")

    async def attempt_failed(self, one: Copied, group: str) -> None:
        """A try that is made again."""
        from tests.projections.happenings import SINCE

        event = AttemptFailed(
            group=group, position=self.rng.randrange(10**9), attempt=1, reason="403 Forbidden", retry_at=SINCE
        )
        await self._say(one.id, event, group)

    async def park(self, one: Copied, group: str, reason: str = "403 Forbidden") -> None:
        """A processor gives up."""
        event = EntryParked(group=group, position=self.rng.randrange(10**9), attempts=5, reason=reason)
        await self._say(one.id, event, group)

    async def grow(self, one: Copied) -> None:
        """A file is copied while it is being written, and then is not."""
        subject = growth_subject(one.id)
        started = GrowthStarted(
            video=one.id,
            root=OsPath("/srv/videos"),
            relative=OsPath("recording.ts"),
            revision=one.revision,
            take=0,
            stream_id=one.stream,
            store=STORE,
            chunk_size=CHUNK,
            device=7,
            inode=1,
        )
        await self._say(subject, started, "growing")
        await self.chunks(one, 0, 1, subject=subject)
        await self._say(subject, GrowthAbandoned(stream_id=one.stream, reason="the file shrank"), "growing")

    async def anything(self, one: Copied) -> None:
        """One random thing that may happen to a video's copies, in any order: folds take what comes."""
        last = -(-one.size // CHUNK) - 1
        first = self.rng.randrange(last + 1)
        replica: Replica = self.rng.choice(("s3", "drive"))
        group = self.rng.choice(("replicate", "drive", "probe"))
        one.requests += 1
        happenings: list[Callable[[], Awaitable[object]]] = [
            lambda: self.begin(one),
            lambda: self.chunks(one, first, self.rng.randrange(first, last + 1), content=str(one.requests)),
            lambda: self.chunks(one, first, last, content=str(one.requests)),
            lambda: self.complete(one),
            lambda: self.abandon(one),
            lambda: self.drive_begin(one),
            lambda: self.drive_session(one),
            lambda: self.drive_reach(one, self.rng.randrange(one.size)),
            lambda: self.drive_reach(one, self.rng.randrange(one.size)),
            lambda: self.drive_complete(one),
            lambda: self.drive_fail(one),
            lambda: self.verify(one, replica, deep=self.rng.random() < 0.5, whole=self.rng.random() < 0.6),
            lambda: self.repair(one, replica),
            lambda: self.offload(one),
            lambda: self.restore(one),
            lambda: self.attempt_failed(one, group),
            lambda: self.park(one, group),
            lambda: self.grow(one),
            lambda: self._say(
                one.id, ReplicationRequested(revision=one.revision, request=one.requests), "command line"
            ),
            lambda: self._say(
                one.id, DriveUploadRequested(revision=one.revision, request=one.requests), "command line"
            ),
        ]
        await self.rng.choice(happenings)()
