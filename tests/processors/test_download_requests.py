"""Requests for downloads: numbered once, kept before they are taken, and back after the log lost its tail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from processors import download_door
from processors.download_requests import Requests, Wanted, numbered
from processors.request_keeping import RequestKeeper
from processors.storage.requests import RequestFiles
from streams.errors import LogUnavailableError, NotFoundError, RejectedError
from streams.events import DownloadPostponed, DownloadRequested
from streams.identity import DOWNLOADS_REGISTRY, download_subject
from streams.log import open_log
from streams.settings import Settings
from tests.processors.queueing import NOW, World, world_at
from tests.servers import RedisServer
from tests.streams.test_downloads_fold import EXTRACTED, started


@pytest.fixture
async def world(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[World]:
    """An empty log of four partitions."""
    async with world_at(make_settings(partitions=4), redis_url) as made:
        yield made


def wanted(count: int, start: int = 0, **more: Any) -> list[Wanted]:
    """Requests that have no number yet."""
    return [Wanted(f"key-{n}", f"http://site.test/{n}", "/", **more) for n in range(start, start + count)]


# ---------------------------------------------------------------- numbers


async def test_numbers_are_dense_and_a_key_keeps_its_own(world: World) -> None:
    """Also where many ask at once, and more than fit into a batch."""
    keys = [f"k{n}" for n in range(1100)]
    assert await numbered(world.log, keys) == list(range(1, 1101))
    assert await numbered(world.log, keys[::-1]) == list(range(1100, 0, -1))
    many = await asyncio.gather(*(numbered(world.log, [f"other-{n % 5}"]) for n in range(20)))
    assert sorted({number for [number] in many}) == list(range(1101, 1106))


async def test_a_request_is_kept_before_it_is_taken(world: World) -> None:
    """Its file holds the very event that the log has; a repeat changes nothing."""
    one = await world.door.request("http://site.test/a", "/work", {"audio_only": True}, "me", key="k")
    assert (one.number, one.status, one.message) == (1, "Pending", "In-Queue")
    assert (one.directory, one.options, one.client_id, one.audio_only) == ("/work", {"audio_only": True}, "me", True)
    [told] = await world.log.history(download_subject(1))
    kept = RequestFiles(world.settings.download_requests).get(1)
    assert kept is not None
    assert (kept.events[0].id, kept.events[0].event, kept.key) == (told.id, told.event, "k")
    assert not kept.events[0].time.astimezone() > told.time
    assert world.requests.files.pending() == []
    again = await world.door.request("http://site.test/a", "/work", {"audio_only": True}, "me", key="k")
    assert again.number == 1
    assert len(await world.log.history(download_subject(1))) == 1


async def test_many_are_taken_in_order_and_a_thousand_are_all_there(world: World) -> None:
    """As a long list brings them."""
    taken = await world.requests.take(wanted(1000, parent=7, entry="Site a", title="A\udcff title"))
    assert [one.number for one in taken] == list(range(1, 1001))
    assert [one.number for one in await world.table.all()] == list(range(1, 1001))
    assert world.requests.files.numbers() == list(range(1, 1001))
    assert [one.number for one in await world.requests.take(wanted(3, 998))] == [999, 1000, 1001]


async def test_with_the_log_down_nothing_is_taken_and_nothing_is_left(
    make_settings: Callable[..., Settings], own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was taken before the log went away comes into it afterwards, once."""
    monkeypatch.setattr(download_door, "APPEND_WITHIN", 0.3)
    settings = make_settings(partitions=4)
    async with world_at(settings, own_redis.url) as world:
        files, real = world.requests.files, world.requests.files.create

        def then_down(requests: Any) -> list[bool]:
            made = real(requests)
            own_redis.stop()
            return made

        files.create = then_down  # type: ignore[method-assign]
        [taken] = await world.requests.take(wanted(1), timeout=0.5)
        files.create = real  # type: ignore[method-assign]
        assert [one.number for one in files.pending()] == [1] == [taken.number]
        with pytest.raises(LogUnavailableError):
            await world.door.request("http://site.test/a")
        assert files.numbers() == [1]
        own_redis.start()
        assert await world.requests.append_pending() == 1
        assert await world.requests.append_pending() == 0
        assert (await world.door.get(1)).url == "http://site.test/0"
        assert (await world.door.request("http://site.test/b")).number == 2


KILLED = """
import asyncio, sys
from processors.download_requests import Requests, Wanted
from streams.log import open_log
from streams.settings import load_settings

async def main():
    settings = load_settings(data=sys.argv[2], partitions=4)
    async with open_log(settings, sys.argv[1]) as log:
        await Requests(log, settings).take([Wanted(f"key-{n}", f"http://site.test/{n}", "/") for n in range(3)])

asyncio.run(main())
"""


@pytest.mark.parametrize(("at", "taken"), [("downloads.numbered", 0), ("downloads.accepted", 3)])
async def test_a_kill_in_the_middle_leaves_all_or_nothing(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch, at: str, taken: int
) -> None:
    """Of what was kept all comes into the log; of what was not, the numbers are nobody's, or its own when it is repeated."""
    monkeypatch.setenv("SPOOLHOUSE_CRASH_AT", at)
    script = [sys.executable, "-c", KILLED, redis_url, str(world.settings.data)]
    killed = subprocess.run(
        script,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**_env(), "SPOOLHOUSE_CRASH_AT": at},
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert await world.table.all() == []
    assert await world.requests.append_pending() == taken
    assert [one.number for one in await world.table.all()] == list(range(1, taken + 1))
    assert [one.number for one in await world.requests.take(wanted(3))] == [1, 2, 3]
    assert len(await world.table.all()) == 3


def _env() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("SPOOLHOUSE_")}


# ---------------------------------------------------------------- what a person asks


@pytest.mark.parametrize(
    ("url", "directory", "options", "told"),
    [
        ("file:///etc/passwd", "", {}, "http"),
        ("data:text/html,x", "", {}, "http"),
        ("http://", "", {}, "host"),
        ("http://a b/", "", {}, "blanks"),
        ("http://a/" + "x" * 5000, "", {}, "4096"),
        ("http://a:99999/", "", {}, "url"),
        ("http://a/", "../up", {}, "directory"),
        ("http://a/", "a\\b", {}, "directory"),
        ("http://a/", "", {"format": ""}, "format"),
        ("http://a/", "", {"colour": "red"}, "colour"),
        ("http://a/", "", {"limit": 0, "max_height": 1}, "max_height.*limit"),
    ],
)
async def test_what_can_be_told_at_once_is_refused_at_once(
    world: World, url: str, directory: str, options: dict[str, Any], told: str
) -> None:
    """With every fault, and without a number."""
    with pytest.raises(RejectedError, match=f"(?s){told}") as refused:
        await world.door.request(url, directory, options)
    assert refused.value.status == 400
    assert await world.log.version(DOWNLOADS_REGISTRY) == 0


async def test_cancel_refresh_and_delete_follow_what_stands(world: World) -> None:
    """Each is refused where it makes no sense, and is in the log where it does."""
    door = world.door
    [number] = await world.request()
    assert (await door.refresh(number)).ver == 1  # queued already
    assert (await door.cancel(number)).phase == "cancelled"
    with pytest.raises(RejectedError, match="cancelled") as refused:
        await door.cancel(number)
    assert refused.value.status == 409
    one = await door.refresh(number)
    assert (one.phase, one.take) == ("queued", 2)
    await world.tell(number, started(2))
    with pytest.raises(RejectedError, match="under way") as refused:
        await door.refresh(number)
    assert refused.value.status == 409
    put_off = DownloadPostponed(take=2, attempt=1, kind="retry", reason="503", until=NOW)
    await world.tell(number, put_off)
    one = await door.refresh(number)
    assert (one.phase, one.take, one.until) == ("queued", 3, None)
    assert (await door.delete(number, keep_file=True)).phase == "deleted"
    for wish in (door.get, door.cancel, door.refresh, door.delete):
        for unknown in (number, 99):
            with pytest.raises(NotFoundError, match=str(unknown)):
                await wish(unknown)


async def test_a_list_can_be_cancelled_while_entries_of_it_are_open(world: World) -> None:
    """Once all of them are over there is nothing to cancel."""
    [number] = await world.request()
    await world.tell(number, started())
    children = [one.number for one in await world.requests.take(wanted(2, parent=number))]
    await world.expand(number, children)
    for child in children:
        await world.tell(child, started())
        await world.end(child)
    with pytest.raises(RejectedError, match="All entries"):
        await world.door.cancel(number)
    await world.door.refresh(children[0])
    assert (await world.door.cancel(number)).phase == "cancelled"


async def test_many_wishes_at_once_are_decided_one_after_the_other(world: World) -> None:
    """Whoever comes second decides anew."""
    [number] = await world.request()
    answers = await asyncio.gather(*(world.door.cancel(number) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, RejectedError) for one in answers) <= 4
    assert any(not isinstance(one, Exception) for one in answers)
    assert [one.type for one in await world.log.history(download_subject(number))] == [
        "DownloadRequested",
        "DownloadCancelled",
    ]


# ---------------------------------------------------------------- after a lost tail


async def test_all_of_it_comes_back_into_an_empty_log(world: World, redis_url: str) -> None:
    """Numbers, requests, how they ended; what was deleted stays deleted; a second time nothing is lacking."""
    numbers = await world.request(6)
    for number in numbers[:3]:
        await world.tell(number, started())
        await world.tell(number, EXTRACTED)
    await world.store(1)
    await world.end(2)
    await world.door.cancel(3)
    await world.door.refresh(2)
    await world.door.delete(5)
    await world.door.change_config({"concurrency": 3}, {"colour": "red"})
    await RequestKeeper(world.log, world.requests).keep_up()
    before = {one.number: one for one in await world.table.all()}
    await world.log.redis.flushall()
    async with open_log(world.settings, redis_url) as log:
        requests = Requests(log, world.settings)
        assert await requests.restore() == 6 + 6 + 3 + 1 + 3 + 1 + 1
        assert await requests.restore() == 0
    after = {one.number: one for one in await world.table.all()}
    for number in numbers:
        kept = ["key", "url", "phase", "take", "path", "video", "requested"]
        kept += [] if after[number].is_open else ["title", "archive_key"]  # it is read anew
        assert [getattr(after[number], name) for name in kept] == [getattr(before[number], name) for name in kept]
    assert [one.phase for one in after.values()] == ["stored", "queued", "cancelled", "queued", "deleted", "queued"]
    current = await world.door.config()
    assert (current.config.concurrency, current.preferences) == (3, {"colour": "red"})
    assert (await world.request())[0] == 7


async def test_what_is_taken_before_the_rest_is_back_gets_numbers_that_nobody_has(world: World) -> None:
    """The log begins at 1 again; files say which numbers are gone."""
    await world.requests.take(wanted(30))
    await world.log.redis.flushall()
    await world.log.prepare()
    assert (await world.door.request("http://site.test/new")).number == 31
    assert [one.number for one in await world.requests.take(wanted(2, 100))] == [32, 33]
    assert await world.requests.restore() > 0
    by_number = {one.number: one.key for one in await world.table.all()}
    assert sorted(by_number) == list(range(1, 34))
    assert [by_number[n + 1] for n in range(30)] == [f"key-{n}" for n in range(30)]
    # Whoever asks again for what it asked for before has the number that it had.
    assert [one.number for one in await world.requests.take(wanted(29, 1))] == list(range(2, 31))


async def test_how_a_download_ended_is_kept_also_where_nobody_followed_then(world: World) -> None:
    """Whoever follows next goes on where the last one stood."""
    await world.request(2)
    keeper = RequestKeeper(world.log, world.requests)
    await world.store(1)
    assert await keeper.keep_up() == 1
    await world.store(2)
    again = RequestKeeper(world.log, world.requests)
    assert await again.keep_up() == 1
    assert await again.keep_up() == 0
    for number in (1, 2):
        kept = world.requests.files.get(number)
        assert kept is not None
        assert [type(one.event).__name__ for one in kept.events] == ["DownloadRequested", "DownloadStored"]


async def test_a_file_never_tells_of_an_earlier_moment_than_before(world: World) -> None:
    """Two write it at once: the later one stays, in whichever order they come."""
    [number] = await world.request()
    await world.door.cancel(number)
    files = world.requests.files
    early = files.get(number)
    await world.door.delete(number)
    late = files.get(number)
    assert early is not None
    assert late is not None
    files.keep(early)
    assert files.get(number) == late
    assert [type(one.event).__name__ for one in late.events][-1] == "DownloadDeleted"


async def test_a_file_that_cannot_be_read_is_said_and_its_number_stays_taken(world: World) -> None:
    """Nobody else gets it."""
    await world.request(2)
    path = world.settings.download_requests / "0000" / "1.json"
    path.write_bytes(b"{")
    assert [one.number for one in world.requests.files.all()] == [2]
    assert world.requests.files.numbers() == [1, 2]
    await world.log.redis.flushall()
    await world.log.prepare()
    assert (await world.request())[0] == 3
    [told] = await world.log.history(download_subject(3))
    assert isinstance(told.event, DownloadRequested)
