"""Plausible histories: what uploads, watched folders and processors append."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from streams.entries import Appended, NewEvent, new_event
from streams.events import (
    AttemptFailed,
    DiskSpaceLow,
    DiskSpaceRecovered,
    Event,
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    NumbersReserved,
    RootHeld,
    RowAdopted,
    VideoNumbered,
    VideoProbed,
    VideoProbeFailed,
    VideoStored,
)
from streams.identity import DISK, REGISTRY, root_subject, watched_video_id
from streams.log import Log
from streams.paths import OsPath, escape_path
from tests.projections.copying import Copied, Copying
from tests.projections.enhancing import Enhancing

ROOT = OsPath("/srv/videos")
SINCE = datetime(2024, 11, 12, 14, 30, 52, 250_000, tzinfo=UTC)
NAMES = ("clip", "Ferien äöü", "100% sure", "naïve", "a b", "bad\udcff", "back\\slash", "日本")


def stored(n: int, **changes: object) -> tuple[str, VideoStored]:
    """An upload's first event, not appended."""
    subject = f"00000000-0000-4000-8000-{n:012d}"
    name = f"{NAMES[n % 6 if n % 6 != 5 else 0]}_{n}.mp4"
    fields: dict[str, object] = {
        "door": "upload",
        "path": OsPath(f"/data/uploaded_videos/20241112_143052_{name}"),
        "stored_name": f"20241112_143052_{name}",
        "filename": name,
        "original_name": name,
        "label": "Tutorial",
        "mime": "video/mp4",
        "size": 1000 + n,
        "sha256": f"{n % 50:064x}",
        "received_at": SINCE + timedelta(seconds=n),
        "modified_at": SINCE,
        **changes,
    }
    return subject, VideoStored(**fields)  # type: ignore[arg-type]


@dataclass
class Watched:
    """A watched file as the watcher remembers it."""

    id: str
    relative: str
    number: int
    size: int
    inode: int
    revision: int = 1
    moves: int = 0
    removals: int = 0
    present: bool = True
    subjects: list[str] = field(default_factory=list)


class Happenings:
    """Appends to a log what doors and processors would."""

    def __init__(self, log: Log, rng: random.Random) -> None:
        self.log, self.rng = log, rng
        self.watched: list[Watched] = []
        self.uploads: list[str] = []
        self.copying = Copying(self.say, rng)
        self.copied: dict[str, Copied] = {}
        self.enhancing = Enhancing(self.say, rng)
        self.through = 0
        self.numbered = 0
        self.warnings = 0

    async def say(self, subject: str, event: Event, source: str = "test") -> Appended:
        """Append one event."""
        return await self.log.append(new_event(subject, event, source=source))

    def stored(self, n: int, **changes: object) -> tuple[str, VideoStored]:
        """An upload's first event, not appended."""
        return stored(n, **changes)

    async def upload(self, n: int, **changes: object) -> str:
        """Append an upload; its id."""
        subject, event = self.stored(n, **changes)
        await self.say(subject, event, "upload")
        self.uploads.append(subject)
        return subject

    async def uploads_many(self, count: int, start: int = 0) -> None:
        """Append many uploads at once."""
        made = [self.stored(n) for n in range(start, start + count)]
        news: list[NewEvent] = [new_event(subject, event, source="upload") for subject, event in made]
        for at in range(0, count, 2000):
            await self.log.append_all(news[at : at + 2000], timeout=60)

    async def reserve(self, through: int = 0) -> None:
        """The registry's first event."""
        self.through = through
        await self.say(REGISTRY, NumbersReserved(through=through))

    async def settle(self, relative: str, *, number: int | None = None, size: int = 4096) -> Watched:
        """A new file in the watched root."""
        video = watched_video_id(ROOT, relative)
        if number is None:
            await self.say(REGISTRY, VideoNumbered(video=video), "watch")
            self.numbered += 1
            number = self.through + self.numbered
        one = Watched(video, relative, number, size, 1000 + number)
        self.watched.append(one)
        await self.say(video, self._settled(one), "watch")
        return one

    async def replace(self, one: Watched, size: int) -> None:
        """Other content under the same path."""
        one.revision, one.size = one.revision + 1, size
        await self.say(one.id, self._settled(one), "watch")

    async def move(self, one: Watched, relative: str) -> None:
        """Another name in the same root."""
        former, one.relative, one.moves = one.relative, relative, one.moves + 1
        event = FileMoved(
            root=ROOT,
            relative=OsPath(relative),
            former=OsPath(former),
            move=one.moves,
            size=one.size,
            modified_ns=1_700_000_000_123_456_789,
            device=7,
            inode=one.inode,
        )
        await self.say(one.id, event, "watch")

    async def remove(self, one: Watched) -> None:
        """Gone."""
        one.present, one.removals = False, one.removals + 1
        event = FileRemoved(root=ROOT, relative=OsPath(one.relative), removal=one.removals)
        await self.say(one.id, event, "watch")

    async def bring_back(self, one: Watched) -> None:
        """Back again."""
        one.present = True
        event = FileReturned(
            root=ROOT,
            relative=OsPath(one.relative),
            removal=one.removals,
            size=one.size,
            modified_ns=1_700_000_000_123_456_789,
            device=7,
            inode=one.inode,
        )
        await self.say(one.id, event, "watch")

    async def adopt(self, number: int, path: str, *, status: int = 1, subject: str | None = None) -> str:
        """A row that was there before."""
        video = subject or watched_video_id(ROOT, path.removeprefix(ROOT + "/"))
        event = RowAdopted(
            number=number, main_dir="/old", path=path, url="http://old/x", status=status, created="2020-01-02 03:04:05"
        )
        await self.say(video, event, "adoption")
        return video

    async def probed(self, subject: str, revision: int = 1) -> None:
        """Read by the probe."""
        event = VideoProbed(
            revision=revision,
            container="mov,mp4",
            duration=self.rng.random() * 1000,
            width=1920,
            height=1080,
            video_codec="h264",
            audio_codec="aac",
            frame_rate=30000 / 1001,
            bit_rate=5_000_000,
            size=1,
        )
        await self.say(subject, event, "probe")

    async def anything(self) -> None:
        """One random thing that may happen next."""
        roll = self.rng.random()
        present = [one for one in self.watched if one.present]
        gone = [one for one in self.watched if not one.present]
        if roll < 0.2 or not (self.watched and self.uploads):
            await self.upload(len(self.uploads))
            if roll < 0.1 or not self.watched:
                name = self.rng.choice(NAMES)
                await self.settle(f"{name}/{len(self.watched)}.mkv", size=self.rng.randrange(2**40))
        elif roll < 0.35:
            await self.settle(f"sub/{self.rng.choice(NAMES)}-{len(self.watched)}.mp4", size=self.rng.randrange(10**6))
        elif roll < 0.5 and present:
            await self.move(one := self.rng.choice(present), f"moved/{one.moves}/{one.number}.mp4")
        elif roll < 0.6 and present:
            await self.remove(self.rng.choice(present))
        elif roll < 0.7 and gone:
            await self.bring_back(self.rng.choice(gone))
        elif roll < 0.8 and present:
            await self.replace(self.rng.choice(present), self.rng.randrange(10**9))
        elif roll < 0.85:
            await (self._worked_on() if self.rng.random() < 0.4 else self._enhanced())
        elif roll < 0.97:
            await self._copied()
        elif roll < 0.985:
            await self._disk()
        else:
            held = RootHeld(path=ROOT, hold=self.rng.randrange(10**9), reason="empty", missing=3)
            await self.say(root_subject(ROOT), held, "watch")

    async def _worked_on(self) -> None:
        one = self.rng.choice(self.watched)
        subject, revision = self.rng.choice([(one.id, one.revision), (self.rng.choice(self.uploads), 1)])
        roll = self.rng.random()
        if roll < 0.5:
            await self.probed(subject, revision)
        elif roll < 0.7:
            await self.say(subject, VideoProbeFailed(revision=revision, reason="moov atom not found"), "probe")
        else:
            failed = AttemptFailed(
                group="probe", position=self.rng.randrange(10**9), attempt=1, reason="busy", retry_at=SINCE
            )
            await self.say(subject, failed, "probe")

    async def _enhanced(self) -> None:
        one = self.rng.choice(self.watched)
        subject, revision = self.rng.choice([(one.id, one.revision), (self.rng.choice(self.uploads), 1)])
        # Now and then of content that was replaced since.
        await self.enhancing.anything(subject, max(1, revision - self.rng.choice([0, 0, 0, 1])))

    async def _copied(self) -> None:
        watched = self.rng.choice(self.watched)
        upload = self.rng.choice(self.uploads)
        if self.rng.random() < 0.5:
            one = self.copied.setdefault(
                watched.id, Copied(watched.id, door="watch", name=escape_path(watched.relative)[-20:])
            )
            one.revision = max(1, watched.revision - self.rng.randrange(2))
        else:
            one = self.copied.setdefault(upload, Copied(upload))
        for _ in range(self.rng.randrange(1, 5)):
            await self.copying.anything(one)

    async def _disk(self) -> None:
        self.warnings += 1
        if self.warnings % 2:
            low = DiskSpaceLow(path=ROOT, free=2**30, limit=2**31, mark="low", warning=self.warnings)
            await self.say(DISK, low, "disk")
        else:
            await self.say(DISK, DiskSpaceRecovered(path=ROOT, free=2**33, warning=self.warnings), "disk")

    def _settled(self, one: Watched) -> FileSettled:
        return FileSettled(
            root=ROOT,
            relative=OsPath(one.relative),
            number=one.number,
            revision=one.revision,
            size=one.size,
            modified_ns=1_700_000_000_123_456_789,
            device=7,
            inode=one.inode,
        )
