"""What the tests of the queue of downloads share: log, tables, door and dispatcher, on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from processors.download_door import DownloadDoor
from processors.download_queue import DownloadQueue
from processors.download_requests import Requests
from streams.downloads import Download, fold
from streams.errors import LogUnavailableError
from streams.events import DownloadCancelled, DownloadExpanded, DownloadFailed, DownloadStarted, DownloadStored, Event
from streams.identity import download_subject
from streams.log import Log, new_event, open_log
from streams.paths import OsPath
from streams.settings import Settings


class Table:
    """The table of downloads as it is where the projections have applied all that the log holds.

    The real one lives in `projections`, which nothing here may import; tests/projections has the two agree.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.asked = 0

    async def fetched(self, keys: Any) -> dict[str, Any]:
        """Nothing is asked for that here."""
        return {}

    async def open_downloads(self) -> tuple[list[int], list[Download]]:
        """Folded from the log."""
        self.asked += 1
        heads = await self._log.heads()
        return heads, [one for one in await self.all() if one.is_open]

    async def children(self, number: int) -> list[Download]:
        """The entries of a list."""
        return [one for one in await self.all() if one.parent == number and one.phase != "deleted"]

    async def all(self) -> list[Download]:
        """Every download, by number."""
        subjects = sorted(await self._log.subjects("download:"), key=lambda one: int(one.partition(":")[2]))
        folded = [fold(await self._log.history(subject)) for subject in subjects]
        return [one for one in folded if one is not None]


@dataclass
class World:
    """One log, and what the queue is made of."""

    settings: Settings
    log: Log
    table: Table
    door: DownloadDoor
    requests: Requests

    def queue(self) -> DownloadQueue:
        """The source, as a worker has it."""
        return DownloadQueue(self.log, self.settings, self.table)

    async def request(self, count: int = 1, host: str = "site.test", **more: Any) -> list[int]:
        """Requests by the door, one after the other; their numbers."""
        return [(await self.door.request(f"http://{host}/{n}", **more)).number for n in range(count)]

    async def tell(self, number: int, event: Event) -> int:
        """What a processor would write; its version."""
        new = new_event(download_subject(number), event, source="download", expected=None)
        return (await self.log.append(new)).ver

    async def end(self, number: int) -> None:
        """It fails, say."""
        one = await self.door.get(number)
        await self.tell(number, DownloadFailed(take=one.take, attempt=one.attempt, kind="gone", reason="It is gone."))

    async def store(self, number: int) -> None:
        """It is stored."""
        one = await self.door.get(number)
        path = OsPath(f"/media/{number}.mp4")
        await self.tell(number, DownloadStored(take=one.take, video=f"video-{number}", path=path, size=1, files=()))

    async def expand(self, number: int, numbers: list[int]) -> None:
        """It is a list."""
        one = await self.door.get(number)
        event = DownloadExpanded(take=one.take, title="A list", entries=len(numbers), more=False, limit=100,
                                 numbers=tuple(numbers), skipped=())  # fmt: skip
        await self.tell(number, event)

    async def started(self, number: int, *, take: int = 1, attempt: int = 1, timeout: float = 20.0) -> datetime:
        """When an attempt was started; waits for it."""
        after = 0
        while True:
            told = await self.log.wait_for(download_subject(number), {"DownloadStarted"}, after=after, timeout=timeout)
            assert told is not None, f"download {number} was not started"
            assert isinstance(told.event, DownloadStarted)
            if (told.event.take, told.event.attempt) == (take, attempt):
                return told.time
            after = told.ver

    async def cancelled(self, number: int) -> None:
        """Wait until it is."""
        assert await self.log.wait_for(download_subject(number), {DownloadCancelled.__name__}, timeout=20)

    async def processing(self) -> list[int]:
        """What is under way."""
        return [one.number for one in await self.table.all() if one.status == "Processing"]


@asynccontextmanager
async def world_at(settings: Settings, redis_url: str) -> AsyncIterator[World]:
    """A world on this log."""
    async with open_log(settings, redis_url) as log:
        table = Table(log)
        yield World(settings, log, table, DownloadDoor(log, settings, known=table), Requests(log, settings))


async def is_down(log: Log) -> bool:
    """Whether the log cannot be reached."""
    try:
        await log.heads()
    except LogUnavailableError:
        return True
    return False


NOW = datetime(2026, 1, 2, tzinfo=UTC)
