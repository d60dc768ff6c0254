"""Workers that download, for tests that kill them: `python -m tests.faults.download_worker URL DATA`.

Everything is imported once; each line of JSON on its standard input makes it fork a process that does what the line
says, with the crash point that it names. It prints that process's id, and how it ended. What is outside (sites, the
studio) is a double in that process: what is killed here are our own steps.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import structlog

from processors import turns
from processors.download import download
from processors.download_door import DownloadDoor
from processors.download_queue import DownloadQueue
from processors.download_removal import removal
from processors.ports import Fetcher, FetchFailure, FetchJob, Listed, ListEntry, Studio
from processors.reconciling import Reconciler
from processors.subscription_requests import SubscriptionRequests
from processors.subscriptions import subscriptions
from projections.database import Database, open_database
from projections.downloads import DownloadsProjection
from projections.queries import Catalogue
from projections.runner import Runner
from projections.subscriptions import SubscriptionsProjection
from streams import crashpoints
from streams.background import running
from streams.download_config import DownloadConfig
from streams.exclusive import run_exclusively
from streams.hosting import hosted
from streams.log import Log, open_log
from streams.progress import Publisher
from streams.queries import Downloads, Histories, Subscriptions
from streams.settings import Settings, load_settings
from tests.processors.downloading import FetcherDouble, Said, page
from tests.processors.enhancing import StudioDouble

HOST = "https://site.invalid"
MEMBER = "the-only-one"
PARTITIONS = 4
TTL = 1.0


def the_settings(data: str) -> Settings:
    """What all of them, and the test, work with."""
    return load_settings(
        data=data, partitions=PARTITIONS, lease_ttl=TTL, subscription_min_interval=0.4, subscription_interval=3600.0
    )


class ByUrl(FetcherDouble):
    """A site: `/film/<id>`, `/twin/<n>/<id>` (the same film elsewhere), `/gone/<n>`, `/list/<id>` of two films."""

    async def fetch(self, job: FetchJob) -> AsyncGenerator[Said]:
        """What lies behind the URL."""
        kind, *names = urlsplit(job.url).path.split("/")[1:]
        script: tuple[Any, Any] = (page(title=names[-1], media_id=names[-1]), None)
        if kind == "gone":
            script = (None, FetchFailure("gone", "it is gone"))
        elif kind == "list":
            script = (None, listed(names[-1]))
        self.scripts = (*self.scripts[: len(self.jobs)], *[script] * (1 + max(0, len(self.jobs) - len(self.scripts))))
        async for said in super().fetch(job):
            yield said

    async def listed(self, url: str, config: DownloadConfig) -> Listed | FetchFailure:
        """Of `/feed/<id>`."""
        return listed(url.rpartition("/")[2])


def listed(name: str) -> Listed:
    """A list of two films."""
    entries = [ListEntry(f"{HOST}/film/{name}-{n}", f"Site {name}-{n}", f"{name}-{n}") for n in (2, 1)]
    return Listed(f"List {name}", tuple(entries), total=2, more=False)


async def work(log: Log, settings: Settings, database: Database) -> None:
    """All that a worker does for downloads, until it is told to end."""
    catalogue = Catalogue(database, log)
    tables = Runner(log, database, [DownloadsProjection(settings), SubscriptionsProjection(settings)])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    services: dict[type[Any], Any] = {
        Log: log,
        Histories: log,
        Fetcher: ByUrl(),
        Studio: StudioDouble(),
        Downloads: catalogue,
        Subscriptions: catalogue,
        Publisher: Publisher(log.redis, log.keys),
    }
    queue = DownloadQueue(log, settings, catalogue)
    async with (
        hosted(download, log, services, settings, MEMBER),
        hosted(removal, log, services, settings, MEMBER),
        hosted(subscriptions, log, services, settings, MEMBER),
        running(
            tables.run(),
            run_exclusively(log, "downloads", MEMBER, TTL, queue.run),
            Reconciler(log, settings).run(),
        ),
    ):
        await stop.wait()


async def do(url: str, data: str, asked: dict[str, Any]) -> None:
    """What one line asks for: `{"do": "work"}`, `{"do": "request" | "subscribe", "url": …, "key": …}`."""
    settings = the_settings(data)
    async with open_log(settings, url) as log, open_database(settings) as database:
        match asked["do"]:
            case "work":
                await work(log, settings, database)
            case "request":
                await DownloadDoor(log, settings).request(asked["url"], key=asked["key"])
            case "subscribe":
                requests = SubscriptionRequests(log, settings, Catalogue(database, log))
                await requests.create({"url": asked["url"], "backlog": 9}, key=asked["key"])


def main(url: str, data: str) -> None:
    """Fork for each line."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    turns.GRACE = 0.3  # a number whose owner died before it said for what
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            crashpoints._at, crashpoints._left = asked.get("crash_at", ""), 1
            status = 1
            with suppress(KeyboardInterrupt):
                asyncio.run(do(url, data, asked))
                status = 0
            os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
