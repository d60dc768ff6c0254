"""What the tests of subscriptions share: a log, a catalogue that follows it, and lists that a test writes itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from processors.ports import Fetcher, FetchFailure, FetchJob, Listed, ListEntry
from processors.subscription_requests import SubscriptionRequests
from processors.subscriptions import find_due, subscriptions
from projections.database import open_database
from projections.queries import Catalogue
from projections.runner import Runner
from projections.subscriptions import SubscriptionsProjection
from streams.background import running
from streams.codec import Recorded
from streams.download_config import DownloadConfig
from streams.events import DownloadRequested, SubscriptionChecked, SubscriptionCheckFailed
from streams.hosting import hosted
from streams.identity import DOWNLOADS_REGISTRY, download_subject, subscription_subject
from streams.log import Log
from streams.paths import OsPath
from streams.processing import Context, Services, bound_logger
from streams.queries import Downloads, Fetched, Subscriptions
from streams.settings import Settings
from streams.subscriptions import Subscription, fold
from tests.streams.driving import eventually

FEED = "https://example.org/feed"


def entry(name: str, title: str | None = None, key: str | None = "") -> ListEntry:
    """An entry of a list; its key is `Site <name>` unless told."""
    return ListEntry(f"https://example.org/{name}", f"Site {name}" if key == "" else key, title or f"Title of {name}")


def entries(*names: str) -> list[ListEntry]:
    """Entries, the newest first."""
    return [entry(name) for name in names]


class Lists:
    """A `Fetcher` that reads what a test wrote: `lists[url]` is what is there now, the newest first."""

    def __init__(self) -> None:
        self.lists: dict[str, list[ListEntry] | FetchFailure] = {}
        self.asked: list[tuple[str, DownloadConfig]] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.at_once = self.most_at_once = 0

    async def listed(self, url: str, config: DownloadConfig) -> Listed | FetchFailure:
        self.asked.append((url, config))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.01)  # like a site that is near
            await self.slow.wait()
        finally:
            self.at_once -= 1
        found = self.lists.get(url, FetchFailure("gone", "HTTP Error 404: Not Found"))
        if isinstance(found, FetchFailure):
            return found
        return Listed("A list", tuple(found[: config.limit]), len(found), len(found) > config.limit)

    def refusal(self, url: str) -> FetchFailure | None:
        return None

    def fetch(self, job: FetchJob) -> AsyncGenerator[Any]:
        raise NotImplementedError


class Archive:
    """`Downloads`, as far as subscriptions ask: what was fetched before."""

    def __init__(self) -> None:
        self.there: set[str] = set()

    async def fetched(self, keys: Sequence[str]) -> Mapping[str, Fetched]:
        return {key: Fetched(1, "video", OsPath("/media/there.mp4")) for key in keys if key in self.there}


@dataclass
class World:
    """A log, a table of subscriptions, and what is asked of both."""

    settings: Settings
    log: Log
    catalogue: Catalogue
    lists: Lists = field(default_factory=Lists)
    archive: Archive = field(default_factory=Archive)

    def __post_init__(self) -> None:
        self.requests = SubscriptionRequests(self.log, self.settings, self.catalogue)

    @property
    def services(self) -> Services:
        return {Log: self.log, Subscriptions: self.catalogue, Downloads: self.archive, Fetcher: self.lists}

    @asynccontextmanager
    async def working(self, member: str = "one") -> AsyncIterator[None]:
        """The processor and its timer at work."""
        async with hosted(subscriptions, self.log, self.services, self.settings, member):
            yield

    def context(self) -> Context:
        return Context(
            settings=self.settings,
            attempt=1,
            draining=asyncio.Event(),
            log=bound_logger("subscriptions", "test"),
            services=self.services,
            beats=lambda: None,
        )

    async def tick(self) -> None:
        """One run of the timer."""
        await find_due(self.context())

    async def history(self, number: int) -> list[Recorded[Any]]:
        return await self.log.history(subscription_subject(number))

    async def now(self, number: int) -> Subscription:
        """As the log has it."""
        found = fold(await self.history(number))
        assert found is not None
        return found

    async def looked(self, number: int, times: int) -> Subscription:
        """Wait until a list was looked at so often, well or not."""

        async def done() -> bool:
            history = await self.history(number)
            return sum(isinstance(one.event, SubscriptionChecked | SubscriptionCheckFailed) for one in history) >= times

        await eventually(done)
        return await self.now(number)

    async def downloads(self) -> list[DownloadRequested]:
        """What was asked for, in the order of the numbers."""
        found = []
        for number in range(1, await self.log.version(DOWNLOADS_REGISTRY) + 1):
            found += [one.event for one in await self.log.history(download_subject(number))]
        return found

    async def names(self) -> list[str]:
        return [one.url.rpartition("/")[2] for one in await self.downloads()]

    async def names_are(self, names: Sequence[str]) -> bool:
        return await self.names() == list(names)

    async def checked(self, number: int) -> bool:
        """Whether the last look went well."""
        now = await self.now(number)
        return now.checked is not None and now.error is None


@asynccontextmanager
async def world(settings: Settings, log: Log) -> AsyncIterator[World]:
    """All of it, the table following."""
    async with open_database(settings) as database:
        runner = Runner(log, database, [SubscriptionsProjection(settings)])
        async with running(runner.run()):
            made = World(settings, log, Catalogue(database, log))
            await eventually(lambda: runner.followers["subscriptions"].waiting is None)
            yield made
