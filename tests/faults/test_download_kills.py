"""Whatever step of a download or a subscription a process dies at, the next one makes good, and nothing is there twice.

The steps are found in the source (`reach("…")`): a new one is driven without being named here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from processors.download_door import DownloadDoor
from processors.subscription_requests import SubscriptionRequests
from projections.database import open_database
from projections.queries import Catalogue
from streams.downloads import Download, fold
from streams.events import DownloadExpanded, DownloadFailed, DownloadSkipped, DownloadStored, VideoStored
from streams.identity import DOWNLOADS_REGISTRY, download_subject
from streams.log import Log, open_log
from streams.settings import Settings
from tests.e2e.test_crash_points import DOWNLOADING, named_in
from tests.faults.download_worker import HOST, the_settings
from tests.streams.driving import ROOT, check_log, eventually

DOORS = ("downloads.", "subscription.numbered", "subscription.kept", "subscription.told")
"""Steps that whoever asks takes; of those that begin like the first one, workers do, too."""

NEEDS = {
    "download.put_off": "gone",
    "download.skipped": "twin",
    "download.listed": "list",
    "download.expanded": "list",
    "downloads.": "list",
    "download.former_removed": "refresh",
    "download.removed": "delete",
    "download.files_removed": "delete",
    "download.removal_told": "delete",
    "subscription.": "feed",
    "download.": "film",
    "dispatch.": "film",
}
"""What has to be asked for so that a worker gets to a step, by how its name begins; anything else: all of it."""


POINTS = sorted(name for name in named_in("processors") if name.startswith(DOWNLOADING))


@dataclass
class World:
    """A log, and what was asked for."""

    log: Log
    settings: Settings
    zygote: asyncio.subprocess.Process
    door: DownloadDoor
    subscriptions: SubscriptionRequests
    spare: list[int] = field(default_factory=list)
    """Stored downloads that something may be done to."""
    titles: Counter[str] = field(default_factory=Counter)
    """What is to lie in the media root in the end."""
    asked: int = 0

    async def ask(self, what: str) -> None:
        """Ask for something."""
        self.asked += 1
        name = f"n{self.asked}"
        match what:
            case "film":
                await self.door.request(f"{HOST}/film/{name}")
                self.titles[name] += 1
            case "twin":
                await self.door.request(f"{HOST}/twin/{name}/base")
            case "gone":
                await self.door.request(f"{HOST}/gone/{name}")
            case "list":
                await self.door.request(f"{HOST}/list/{name}")
                self.titles.update([f"{name}-1", f"{name}-2"])
            case "feed":
                await self.subscriptions.create({"url": f"{HOST}/feed/{name}", "backlog": 9})
                self.titles.update([f"{name}-1", f"{name}-2"])
            case "refresh":
                await self.door.refresh(self.spare.pop())
            case "delete":
                number = self.spare.pop()
                self.titles -= Counter([(await self.door.get(number)).title])
                await self.door.delete(number)

    async def asker_dies(self, at: str) -> None:
        """Whoever asks dies at a step, and asks again."""
        self.asked += 1
        name = f"n{self.asked}"
        if at.startswith("subscription."):
            url = f"{HOST}/feed/{name}"
            await self.dies(at, do="subscribe", url=url, key=name)
            await self.subscriptions.create({"url": url, "backlog": 9}, key=name)
            self.titles.update([f"{name}-1", f"{name}-2"])
        else:
            url = f"{HOST}/film/{name}"
            await self.dies(at, do="request", url=url, key=name)
            await self.door.request(url, key=name)
            self.titles[name] += 1

    async def works(self) -> None:
        """A worker runs until everything is done."""
        worker = await self.fork(do="work")
        await eventually(self.is_done)
        os.kill(worker, signal.SIGTERM)
        assert await self.ended() == 0

    async def dies(self, at: str, **what: Any) -> None:
        """A process does something, and dies at a step."""
        await self.fork(crash_at=at, **what)
        assert await self.ended() == -signal.SIGKILL, f"{at} was not reached"

    async def fork(self, **what: Any) -> int:
        """A process that does something; its id."""
        assert self.zygote.stdin and self.zygote.stdout
        self.zygote.stdin.write(json.dumps(what).encode() + b"\n")
        return int(await self.zygote.stdout.readline())

    async def ended(self) -> int:
        """Wait for it; its exit status."""
        assert self.zygote.stdout
        async with asyncio.timeout(60):
            return int(await self.zygote.stdout.readline())

    async def downloads(self) -> list[Download]:
        """All that have a request, as the log has them."""
        numbers = range(1, await self.log.version(DOWNLOADS_REGISTRY) + 1)
        found = [fold(await self.log.history(download_subject(number))) for number in numbers]
        return [one for one in found if one is not None]

    def files(self) -> list[Path]:
        """What lies in the media root."""
        return [path for path in self.settings.downloads.rglob("*") if not path.is_dir()]

    def shown(self) -> Counter[str]:
        """Titles of the videos in the media root, each as often as it lies there."""
        return Counter(path.name.partition(" (")[0] for path in self.settings.downloads.rglob("*.mp4"))

    async def is_done(self) -> bool:
        """Everything came to its end."""
        return (
            self.shown() == self.titles
            and not any(one.is_open for one in await self.downloads())
            and not list((self.settings.data / "unfinished").glob("[0-9]*"))
        )


def needed(name: str) -> list[str]:
    """What has to be asked for so that a worker gets there."""
    found = next((what for start, what in NEEDS.items() if name.startswith(start)), None)
    return sorted(set(NEEDS.values())) if found is None else [found]


@pytest.fixture
async def world(redis_url: str, clean_env: Path) -> AsyncIterator[World]:
    """Everything but a worker, and some downloads that are stored."""
    data = clean_env / "data"
    settings = the_settings(str(data))
    zygote = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.download_worker", redis_url, str(data),
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with open_log(settings, redis_url) as log, open_database(settings) as database:
            made = World(
                log,
                settings,
                zygote,
                DownloadDoor(log, settings),
                SubscriptionRequests(log, settings, Catalogue(database, log)),
            )
            yield made
    finally:
        assert zygote.stdin
        zygote.stdin.close()
        await zygote.wait()


@pytest.mark.timeout(600)
async def test_killed_at_any_step_everything_is_there_once(world: World) -> None:
    """Given wishes of every kind, when whoever works at them dies at each step, then each comes to its end, once."""
    assert len(POINTS) > 20
    for _ in range(5):
        await world.ask("film")
    await world.door.request(f"{HOST}/film/base")
    world.titles["base"] += 1
    world.spare = [1, 2, 3, 4, 5]
    await world.works()
    for name in POINTS:
        if name.startswith(DOORS):
            await world.asker_dies(name)
        if not name.startswith(DOORS[1:]):
            for what in needed(name):
                await world.ask(what)
            await world.dies(name, do="work")
    await world.works()

    histories = await check_log(world.log)
    for subject, history in histories.items():
        counted = Counter((type(one.event), getattr(one.event, "take", 1)) for one in history)
        for once in (DownloadStored, DownloadExpanded, DownloadSkipped, DownloadFailed, VideoStored):
            assert all(count == 1 for (kind, _), count in counted.items() if kind is once), (subject, counted)
    asked = Counter(urlsplit(one.url).path.split("/")[1] for one in await world.downloads())
    phases = Counter(one.phase for one in await world.downloads())
    assert (phases["skipped"], phases["failed"], phases["expanded"]) == (asked["twin"], asked["gone"], asked["list"])
    assert {one.parent.relative_to(world.settings.downloads).name for one in world.files()} == {
        f"{title} (2024)" for title in world.titles
    }
    for place, files in groupby(sorted(world.files()), key=lambda one: one.parent):
        assert len(list(files)) == 5, f"video, .nfo, subtitles, two posters: {list(place.iterdir())}"
