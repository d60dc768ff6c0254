"""What the tests of retention share: old videos with real copies, and a look through them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from processors.copies import Copies, fold
from processors.drive import drive as upload_to_drive
from processors.ports import Drive, ObjectStore
from processors.reconciling import Reconciler
from processors.replicate import replicate
from processors.retention import Outcome, Retention
from processors.storage.drive import open_drive
from processors.storage.sidecars import Sidecar, Sidecars
from processors.storage.stores import open_store
from streams.codec import Recorded
from streams.events import Event, FileSettled, VideoStored
from streams.identity import watched_video_id
from streams.log import Log, new_event
from streams.paths import OsPath
from streams.processing import Context, Processor, bound_logger
from streams.queries import Histories, VideoCopies
from streams.settings import Settings
from tests.processors.folding import all_events
from tests.processors.replicating import new_video

LONG_AGO = timedelta(days=60)


@dataclass
class World:
    """A log, what is configured of object store and Drive, and videos that came in long ago."""

    log: Log
    settings: Settings
    store: ObjectStore | None
    drive: Drive | None
    retention: Retention = field(init=False)
    looks: int = 0
    """How many began."""

    def __post_init__(self) -> None:
        self.sidecars = Sidecars(self.settings.sidecars)
        self.reconciler = Reconciler(self.log, self.settings)
        self.retention = Retention(self.log, self, self.settings, self.store, self.drive)

    # ------------------------------------------------------------ videos

    async def upload(
        self, name: str = "lesson.mp4", content: bytes = b"0123456789" * 1000, *, copy: bool = True
    ) -> str:
        """An upload of long ago, whole in every place (with `copy`); its id."""
        path = self.settings.uploads / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        received = datetime.now(UTC) - LONG_AGO
        os.utime(path, (received.timestamp(), received.timestamp()))
        event = VideoStored(
            door="upload",
            path=OsPath(str(path)),
            stored_name=name,
            filename=name,
            original_name=name,
            label="",
            mime="video/mp4",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            received_at=received,
            modified_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        )
        sidecar = Sidecar.of(new_video(), event, source="upload", inode=path.stat().st_ino)
        self.sidecars.write(sidecar)
        await self.log.append(sidecar.new_event())
        self.sidecars.mark_logged(sidecar.video)
        if copy:
            await self.copy(sidecar.video)
        return sidecar.video

    async def watch(self, path: Path, content: bytes = b"recorded" * 1000, revision: int = 1) -> str:
        """A watched file that settled just now, whole in every place; its id."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found = path.stat()
        event = FileSettled(
            root=OsPath(str(path.parent)),
            relative=OsPath(path.name),
            number=1,
            revision=revision,
            size=found.st_size,
            modified_ns=found.st_mtime_ns,
            device=found.st_dev,
            inode=found.st_ino,
        )
        video = watched_video_id(str(path.parent), path.name)
        await self.tell(video, event)
        await self.copy(video)
        return video

    async def tell(self, video: str, event: Event) -> None:
        """Append something that happened to a video."""
        await self.log.append(new_event(video, event, source="test"))

    async def copy(self, video: str) -> None:
        """Let the processors of every configured place do their work for a video, once."""
        processors: list[Processor] = [replicate] if self.store else []
        for one in [*processors, *([upload_to_drive] if self.drive else [])]:
            history = await self.log.history(video)
            cause = next(event for event in reversed(history) if event.type in one.on)
            services: dict[type[Any], Any] = {Histories: self.log, ObjectStore: self.store, Drive: self.drive}
            context = Context(
                self.settings, 1, asyncio.Event(), bound_logger(one.group, video), services, beats=lambda: None
            )
            async with aclosing(one(cause, context)) as events:  # type: ignore[type-var]
                async for event in events:
                    await self.log.append(new_event(video, event, source=one.group, cause=cause))  # type: ignore[arg-type]

    # ------------------------------------------------------------ looks

    async def look(self, days: float = 30, *, dry_run: bool = False) -> list[Outcome]:
        """Everything that one look said."""
        return [one async for one in self.retention.look(days, dry_run=dry_run)]

    async def decided(self, days: float = 30, *, dry_run: bool = False) -> tuple[str, str]:
        """Verdict and reason, where there is one file to decide about."""
        [one] = await self.look(days, dry_run=dry_run)
        return one.verdict, one.reason

    async def facts(self, video: str) -> Copies:
        """What a video's history says."""
        return fold(await self.log.history(video))

    async def types(self, video: str) -> list[str]:
        """What happened to a video, in order, but for its chunks."""
        return [one.type for one in await self.log.history(video) if one.type != "ChunkUploaded"]

    # ------------------------------------------------------------ Replicas, straight from the log

    async def copies(
        self, *, state: str | None = None, door: str | None = None, created_before: datetime | None = None
    ) -> AsyncIterator[VideoCopies]:
        """As the catalogue tells of them, but for their copies, which retention does not take from there."""
        histories: dict[str, list[Recorded[Any]]] = {}
        for event in await all_events(self.log):
            histories.setdefault(event.subject, []).append(event)
        for video, history in histories.items():
            facts = fold(history)
            if facts.door is None or facts.path is None or (state is not None and facts.state != state):
                continue
            first = history[0]
            created = first.event.received_at if isinstance(first.event, VideoStored) else first.time
            if (door in {None, facts.door}) and (created_before is None or created < created_before):
                yield VideoCopies(
                    video, facts.door, facts.state, facts.root, facts.path, facts.filename, facts.size, created,
                    facts.revision, (),
                )  # fmt: skip

    async def copies_caught_up(self, timeout: float) -> bool:
        """It never lags; a log that is down is told of."""
        self.looks += 1
        await self.log.heads()
        return True


@asynccontextmanager
async def world(log: Log, settings: Settings) -> AsyncIterator[World]:
    """A world with whatever these settings configure."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings)) if settings.s3_configured else None
        drive = await stack.enter_async_context(open_drive(settings)) if settings.drive_configured else None
        yield World(log, settings, store, drive)
