"""What the tests of downloads share: a fetcher that does as it is told, a worker at work, and what the log says."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors.download import download
from processors.download_removal import removal
from processors.ports import (
    Extracted,
    Fetched,
    FetchedFile,
    Fetcher,
    FetchFailure,
    FetchJob,
    Listed,
    PartFinished,
    Received,
    Studio,
)
from streams.download_config import DownloadConfig
from streams.downloads import Download, fold
from streams.events import DownloadPostponed, DownloadRequested, DownloadStarted, Event
from streams.hosting import hosted
from streams.identity import download_subject
from streams.log import Log, new_event
from streams.paths import OsPath
from streams.progress import Publisher
from streams.queries import Downloads, Histories
from streams.queries import Fetched as Stored
from streams.settings import Settings
from tests.streams.driving import eventually

Said = Extracted | Listed | Received | PartFinished | Fetched | FetchFailure


def page(title: str = "A Film", media_id: str = "x1", **changes: Any) -> Extracted:
    """What a page says."""
    fields: dict[str, Any] = {
        "extractor": "Site", "media_id": media_id, "title": title, "uploader": "Someone", "uploader_url": None,
        "upload_date": "2024-05-06", "description": "About.", "webpage_url": f"https://example.com/{media_id}",
        "duration": 1.0, "chapters": (), "thumbnails": (), "formats": (), "live": False, "size": None,
    }  # fmt: skip
    return Extracted(**{**fields, **changes})


@dataclass(slots=True)
class FetcherDouble:
    """Keeps the protocol of a Fetcher. Each fetch gives what the next of `scripts` says, the last one for ever.

    A script is what is said of the page, and how it ends; None: with the files.
    """

    scripts: Sequence[tuple[Extracted | None, Said | None]] = ((page(), None),)
    content: bytes = b"a film that was fetched"
    hold: asyncio.Event | None = None
    """Where it is set, half of the content is there until it is."""
    jobs: list[FetchJob] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    """How many bytes of each fetch lay there before."""
    closed: int = 0

    async def fetch(self, job: FetchJob) -> AsyncGenerator[Said]:
        """Write the content into `video.mp4.part`, half by half, and subtitles and a picture."""
        said, end = self.scripts[min(len(self.jobs), len(self.scripts) - 1)]
        self.jobs.append(job)
        part, final = Path(job.folder, "video.mp4.part"), Path(job.folder, "video.mp4")
        try:
            await asyncio.sleep(0)
            if said is not None:
                yield said
            half = len(self.content) // 2
            there = final if final.exists() else part
            self.resumed.append(there.stat().st_size if there.exists() else 0)
            if said is not None and there is part:
                part.write_bytes(self.content[:half])
                yield Received("both", 0, 1, half, len(self.content), 1e6, 1.0, 50.0)
                if self.hold is not None:
                    await self.hold.wait()
                if end is None:
                    part.write_bytes(self.content)
                    os.rename(part, final)
            if end is None:
                yield PartFinished("both", "22", len(self.content))
                end = self._fetched(Path(job.folder))
            yield end
        finally:
            self.closed += 1

    def _fetched(self, folder: Path) -> Fetched:
        (folder / "thumb.webp").write_bytes(b"a picture")
        (folder / "video.en.vtt").write_text("WEBVTT\n")
        film = FetchedFile("both", OsPath(str(folder / "video.mp4")), "22", len(self.content))
        thumbnail = FetchedFile("thumbnail", OsPath(str(folder / "thumb.webp")), "", 9)
        subtitles = FetchedFile("subtitles:en", OsPath(str(folder / "video.en.vtt")), "", 7, "en")
        return Fetched((film,), (subtitles,), thumbnail, ("a warning",))

    async def listed(self, url: str, config: DownloadConfig) -> Listed | FetchFailure:
        """Nobody asks here."""
        raise NotImplementedError

    def refusal(self, url: str) -> FetchFailure | None:
        """Everything may be fetched."""
        return None


@dataclass(slots=True)
class Known:
    """What the tables know."""

    log: Log
    stored: dict[str, Stored] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)

    async def fetched(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        """Those of the keys that the test named."""
        return {key: self.stored[key] for key in keys if key in self.stored}

    async def open_downloads(self) -> tuple[list[int], list[Download]]:
        """Nobody asks here."""
        raise NotImplementedError

    async def children(self, number: int) -> list[Download]:
        """By their histories."""
        found = [fold(await self.log.history(download_subject(one))) for one in self.numbers]
        return [one for one in found if one is not None and one.parent == number]


@dataclass(slots=True)
class Desk:
    """A worker's parts, and a hand that starts downloads in the dispatcher's stead."""

    log: Log
    settings: Settings
    fetcher: Any
    """A FetcherDouble, or the real one."""
    studio: Any
    """A StudioDouble, or the real one."""
    known: Known

    async def ask(self, number: int = 1, **changes: Any) -> str:
        """Somebody asks for a download; its subject."""
        fields: dict[str, Any] = {
            "number": number, "key": str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))), "directory": "/talks",
            "url": f"https://example.com/{number}", "options": {},
        }  # fmt: skip
        self.known.numbers.append(number)
        subject = download_subject(number)
        await self.tell(subject, DownloadRequested(**{**fields, **changes}))
        return subject

    async def start(self, subject: str, **config: Any) -> None:
        """Its turn has come."""
        state = await self.state(subject)
        chosen = DownloadConfig(**config).model_dump(mode="json")
        await self.tell(
            subject, DownloadStarted(take=state.take, attempt=state.attempt + 1, host="example.com", config=chosen)
        )

    async def tell(self, subject: str, event: Event) -> None:
        """Append what happened."""
        await self.log.append(new_event(subject, event, source="test"))

    async def state(self, subject: str) -> Download:
        """How it stands."""
        state = fold(await self.log.history(subject))
        assert state is not None
        return state

    async def reaches(self, subject: str, *phases: str) -> Download:
        """Wait until it stands so."""

        async def look() -> Download | None:
            state = await self.state(subject)
            return state if state.phase in phases else None

        found: Download = await eventually(look)
        return found

    async def postponed(self, subject: str, times: int = 1) -> DownloadPostponed:
        """Wait until it was put off so often; the last time."""

        async def look() -> Any:
            found = await self.events(subject, DownloadPostponed)
            return found[times - 1] if len(found) >= times else None

        last: DownloadPostponed = await eventually(look)
        return last

    async def events(self, subject: str, kind: type[Event]) -> list[Any]:
        """Of one type, in order."""
        return [one.event for one in await self.log.history(subject) if isinstance(one.event, kind)]

    def shown(self) -> dict[str, bytes]:
        """What lies in the media root."""
        root = self.settings.downloads
        return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*") if not one.is_dir()}

    def unfinished(self) -> list[str]:
        """What lies in the folder for what comes in."""
        folder = self.settings.data / "unfinished"
        return sorted(one.name for one in folder.iterdir()) if folder.exists() else []

    @asynccontextmanager
    async def working(self, member: str = "worker-1", log: Any = None) -> AsyncIterator[Any]:
        """A worker that fetches, in this process. `log`: what its processors are given as such."""
        services: dict[type[Any], Any] = {
            Histories: self.log,
            Log: log or self.log,
            Fetcher: self.fetcher,
            Studio: self.studio,
            Downloads: self.known,
            Publisher: Publisher(self.log.redis, self.log.keys),
        }
        async with (
            hosted(download, self.log, services, self.settings, member) as host,
            hosted(removal, self.log, services, self.settings, member),
        ):
            yield host
