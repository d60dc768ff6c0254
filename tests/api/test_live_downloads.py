"""`WS /ws/{client_id}` tells of downloads, too: the state first, every change once, and how far they are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from api.live import LIVE
from streams.events import (
    DownloadDeleted,
    DownloadExpanded,
    DownloadExtracted,
    DownloadFailed,
    DownloadPartFinished,
    DownloadPostponed,
)
from streams.progress import Progress, Publisher
from streams.settings import Settings
from tests.api.running import Api, running_api, until
from tests.api.test_downloads import ask_for, happen, started, stored
from tests.api.watching import Message, Watcher, watching


def extracted(title: str = "A <b>film</b>") -> DownloadExtracted:
    """Its page was read."""
    return DownloadExtracted(
        take=1, attempt=1, extractor="Generic", media_id="film", title=title, uploader="Someone", uploader_url=None,
        upload_date=None, description=None, webpage_url=None, duration=12.5, chapters=(), thumbnails=(), formats=(),
        live=False, size=1000,
    )  # fmt: skip


def of_downloads(watcher: Watcher) -> list[Message]:
    """What was told of downloads."""
    return [one for one in watcher.told if one["type"] == "download"]


async def heard(watcher: Watcher, number: int, status: str) -> Message:
    """Read up to a status of a download."""
    return await watcher.until(lambda one: one["type"] == "download" and (one["id"], one["status"]) == (number, status))


@pytest.fixture
async def api(api: Api) -> Api:
    """With its tables made."""
    await api.settled()
    return api


async def test_who_asked_hears_of_it_from_the_request_to_the_file(api: Api) -> None:
    """Each change, with the object's fields; hostile titles are text like any other."""
    async with watching(api) as me, watching(api, "other") as other, watching(api, path="/ws/page?all=1") as page:
        number = (await ask_for(api, client_id="me"))["id"]
        first = await me.read()
        assert (first["type"], first["kind"], first["id"], first["deleted"]) == ("download", "video", number, False)
        assert (first["status"], first["status_message"], first["progress"]["percent"]) == ("Pending", "In-Queue", 0)
        await happen(api, number, started(), extracted(), stored())
        last = await heard(me, number, "Downloaded")
        assert (last["title"], last["file_path"][:6]) == ("A <b>film</b>", "/media")
        assert [one["status"] for one in me.told] == ["Pending", "Processing", "Processing", "Downloaded"]
        same = (await api.get(f"/videos/{number}")).body
        assert {name: value for name, value in last.items() if name in same and name != "type"} == {
            name: value for name, value in same.items() if name != "type"
        }
        yours = (await ask_for(api, client_id="other"))["id"]
        await heard(page, yours, "Pending")
        assert {one["id"] for one in of_downloads(page)} == {number, yours}
        await other.read()
        assert {one["id"] for one in other.told} == {yours}
        await happen(api, number, DownloadDeleted(keep_file=True))
        assert (await me.read())["deleted"] is True


async def test_a_new_connection_gets_the_state_first(api: Api) -> None:
    """What stands there, what was deleted left out; a client its own only."""
    for number in range(1, 5):
        await ask_for(api, client_id="me" if number % 2 else "other")
    await happen(api, 1, started(), DownloadFailed(take=1, attempt=1, kind="gone", reason="It is gone."))
    await happen(api, 3, DownloadDeleted(keep_file=False))
    for _ in range(2):  # before the table knows, and then
        async with watching(api) as me:
            told = await me.read()
            assert (told["id"], told["status"], told["status_message"]) == (1, "Error", "It is gone.")
        async with watching(api, path="/ws/page?all=1") as page:
            assert {(await page.read())["id"] for _ in range(3)} == {1, 2, 4}
        await api.settled()


async def test_lists_tell_of_their_entries(api: Api) -> None:
    """One message for the list that it has become one."""
    number = (await ask_for(api, client_id="me"))["id"]
    async with watching(api) as me:
        expanded = DownloadExpanded(
            take=1, title="All of it", entries=3, more=True, limit=2, numbers=(2, 3), skipped=()
        )
        await happen(api, number, started(), expanded)
        told = await heard(me, number, "Downloaded")
        assert (told["kind"], told["entries"], told["title"]) == ("list", [2, 3], "All of it")
        assert "the limit" in told["status_message"]


async def test_how_far_it_is(api: Api) -> None:
    """Bytes, speed and time left, at most twice a second; answers show it, too. None of it is kept."""
    log = api.services.log
    publisher = Publisher(log.redis, log.keys)
    number = (await ask_for(api, client_id="me"))["id"]
    await happen(api, number, started(), extracted())
    async with watching(api) as me:
        await heard(me, number, "Processing")

        async def tell() -> None:
            for percent in range(1, 100):
                details = {"bytes": percent * 10, "total": 1000, "speed": 123.4, "eta": 100 - percent}
                await publisher.tell(Progress(f"download:{number}", "download", percent, "10 bytes", details))
                await asyncio.sleep(0.05)

        telling = asyncio.create_task(tell())
        began = asyncio.get_running_loop().time()
        moving = [await me.until(lambda one: one["progress"]["percent"] > 0) for _ in range(3)]
        assert asyncio.get_running_loop().time() - began > 0.9
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        told = moving[-1]["progress"]
        assert told == {"percent": told["bytes"] / 10, "bytes": told["bytes"], "total": 1000, "speed": 123.4,
                        "eta": 100 - told["percent"]}  # fmt: skip
        assert (moving[-1]["status"], moving[-1]["status_message"]) == ("Processing", "10 bytes")
        assert (await api.get(f"/videos/{number}")).body["progress"] == told
        # A part that is there does not set it back to nothing; the end does not show half of it.
        await happen(api, number, DownloadPartFinished(take=1, attempt=1, part="video", format="1", size=10))
        assert (
            await me.until(lambda one: "video is there" in one["status_message"] or one["progress"]["percent"] > 0)
        )["progress"]["percent"] > 0
        at = datetime.now(UTC) + timedelta(seconds=60)
        await happen(api, number, DownloadPostponed(take=1, attempt=1, kind="retry", reason="HTTP 503", until=at))
        put_off = await heard(me, number, "Pending")
        assert put_off["progress"]["percent"] == 0
        assert put_off["retry_at"] is not None


async def test_nothing_is_lost_or_doubled_around_a_connection(api: Api, rng: random.Random) -> None:
    """Clients come at any moment while things happen: each hears every change from its state on, once."""
    numbers = [(await ask_for(api))["id"] for _ in range(3)]
    count, heard_by = 60, []

    async def listen() -> None:
        await asyncio.sleep(rng.random())
        attempts: dict[int, list[int]] = {number: [] for number in numbers}
        async with watching(api, path="/ws/page?all=1") as me:
            while not all(seen and seen[-1] == count for seen in attempts.values()):
                told = await me.read()
                attempts[told["id"]].append(told["attempt"])
        heard_by.append(attempts)

    async def go_on(number: int) -> None:
        for attempt in range(1, count + 1):
            await happen(api, number, started(attempt=attempt))
            await asyncio.sleep(rng.random() * 0.02)

    async with asyncio.timeout(60):
        await asyncio.gather(*(listen() for _ in range(8)), *(go_on(number) for number in numbers))
    for attempts in heard_by:
        for seen in attempts.values():
            assert seen == list(range(seen[0], count + 1))


async def test_nothing_is_followed_while_no_one_listens(
    make_settings: Callable[..., Settings], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a WebSocket no history of a download is read for one; with one, they are told without tables, too."""
    async with running_api(make_settings(redis_url=redis_url), projections=False) as api:
        log, read = api.services.log, []
        history = log.history

        async def counted(subject: str) -> object:
            read.append(subject)
            return await history(subject)

        monkeypatch.setattr(log, "history", counted)
        number = (await ask_for(api, client_id="me"))["id"]
        await happen(api, number, started(), extracted())
        publisher = Publisher(log.redis, log.keys)
        percentages = api.app[LIVE]._percentages

        async def known() -> bool:
            await publisher.tell(Progress(f"download:{number}", "download", 50, ""))
            return percentages.heard(f"download:{number}", "download", datetime.now(UTC)) is not None

        await until(known)
        assert read == []
        async with watching(api) as me:
            assert (await heard(me, number, "Processing"))["title"] == "A <b>film</b>"
