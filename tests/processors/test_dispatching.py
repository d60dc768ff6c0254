"""The dispatcher on a real log: order, limits, cancelling, what breaks off, and who does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from processors import dispatching, turns
from processors.download_queue import DownloadQueue
from processors.download_requests import Wanted, numbered
from streams.events import DownloadPostponed, DownloadStarted
from streams.identity import download_subject
from streams.settings import Settings
from tests.processors.queueing import World, is_down, world_at
from tests.servers import RedisServer
from tests.streams.driving import eventually
from tests.streams.test_downloads_fold import EXTRACTED


@pytest.fixture
async def world(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[World]:
    """An empty log of four partitions."""
    async with world_at(make_settings(partitions=4), redis_url) as made:
        yield made


@contextlib.asynccontextmanager
async def at_work(world: World) -> AsyncIterator[DownloadQueue]:
    """The queue at work until the body ends; no other worker is there."""
    queue = world.queue()
    task = asyncio.create_task(queue.run())
    try:
        yield queue
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_first_in_first_out_one_after_another(world: World) -> None:
    """Each is started once, with the configuration that holds for it, as soon as the one before has ended."""
    numbers = await world.request(5)
    await world.door.request("http://other.test/x", "", {"audio_only": True, "subtitles": ["en"]})
    async with at_work(world):
        times = []
        for number in [*numbers, 6]:
            times.append(await world.started(number))
            assert await world.processing() == [number]
            await world.end(number)
    assert times == sorted(times)
    [first] = [one.event for one in await world.log.history(download_subject(1)) if one.type == "DownloadStarted"]
    [last] = [one.event for one in await world.log.history(download_subject(6)) if one.type == "DownloadStarted"]
    assert (first.take, first.attempt, first.host) == (1, 1, "site.test")
    assert (first.config["audio_only"], first.config["format"]) == (False, "bv*+ba/b")
    assert (last.host, last.config["audio_only"], last.config["subtitles"]) == ("other.test", True, ["en"])
    assert world.table.asked == 1


async def test_a_request_is_started_at_once_and_no_table_is_asked_for_it(world: World) -> None:
    """The log says that it is there."""
    delays = []
    async with at_work(world):
        for _ in range(5):
            [number] = await world.request()
            at = await world.started(number)
            delays.append(at - (await world.door.get(number)).requested)
            await world.end(number)
    print("from request to start:", sorted(delays))
    assert min(delays) < timedelta(seconds=0.1)
    assert world.table.asked == 1


async def test_limits_follow_the_configuration_as_it_changes(world: World) -> None:
    """A person raises them: what waited goes."""
    await world.request(3)
    await world.request(2, "other.test")
    async with at_work(world):
        await world.started(1)
        await world.door.change_config({"concurrency": 3, "per_host": 2})
        await world.started(2)
        await world.started(4)
        assert await world.processing() == [1, 2, 4]
        await world.end(1)
        await world.started(3)
        await world.door.change_config({"concurrency": 1})
        await world.end(2)
        await world.end(3)
        await asyncio.sleep(0.1)  # nothing must come of it
        assert await world.processing() == [4]


async def test_what_was_put_off_is_started_when_its_time_has_come_and_what_failed_when_it_is_refreshed(
    world: World,
) -> None:
    """By the wall's clock, with the next attempt; under the next take."""
    [number] = await world.request()
    async with at_work(world):
        at = await world.started(number)
        until = at + timedelta(seconds=0.4)
        await world.tell(number, DownloadPostponed(take=1, attempt=1, kind="retry", reason="503", until=until))
        assert await world.started(number, attempt=2) >= until
        await world.end(number)
        await world.door.refresh(number)
        await world.started(number, take=2)


async def test_what_is_cancelled_or_deleted_makes_room(world: World) -> None:
    """And what waits and is cancelled is never started."""
    await world.request(4)
    async with at_work(world):
        await world.started(1)
        await world.door.cancel(2)
        await world.door.cancel(1)
        await world.started(3)
        await world.door.delete(3)
        await world.started(4)
    types = [one.type for one in await world.log.history(download_subject(2))]
    assert types == ["DownloadRequested", "DownloadCancelled"]


async def test_the_rest_of_a_cancelled_list_is_cancelled(world: World) -> None:
    """What is under way, what waits, and what a late hand still adds; what is over stays."""
    await world.door.change_config({"concurrency": 2})
    [number] = await world.request()
    async with at_work(world):
        await world.started(number)
        wanted = [Wanted(f"k{n}", f"http://site.test/{n}", "/", parent=number) for n in range(5)]
        children = [one.number for one in await world.requests.take(wanted[:4])]
        await world.expand(number, children)
        await world.started(children[0])
        await world.store(children[0])
        await world.started(children[1])
        await world.door.cancel(number)
        for child in children[1:]:
            await world.cancelled(child)
        [late] = await world.requests.take(wanted[4:])
        await world.cancelled(late.number)
        one = await world.door.refresh(children[2])  # a person wants this one all the same
        await world.started(one.number, take=2)
    assert [one.phase for one in await world.table.all()] == [
        "cancelled", "stored", "cancelled", "starting", "cancelled", "cancelled",
    ]  # fmt: skip


async def test_a_list_that_was_cancelled_while_nobody_dispatched(world: World) -> None:
    """The next one sees to it."""
    [number] = await world.request()
    await world.tell(number, DownloadStarted(take=1, attempt=1, host="site.test", config={}))
    [child] = await world.requests.take([Wanted("k", "http://site.test/k", "/", parent=number)])
    await world.expand(number, [child.number])
    await world.door.cancel(number)
    async with at_work(world):
        await world.cancelled(child.number)


async def test_what_is_under_way_is_left_alone_by_the_next_dispatcher(world: World) -> None:
    """Its group delivers it again by itself; it counts."""
    await world.request(3)
    async with at_work(world):
        await world.started(1)
    async with at_work(world):
        await world.tell(1, EXTRACTED)
        await asyncio.sleep(0.1)  # nothing must come of it
        assert await world.processing() == [1]
        await world.end(1)
        await world.started(2)
    assert [one.type for one in await world.log.history(download_subject(1))].count("DownloadStarted") == 1


async def test_what_was_taken_while_the_log_was_away_keeps_its_place(world: World) -> None:
    """Its file lies there; the log hears of it before anything above it is started."""
    for n in range(3):
        [taken] = await world.requests._made([Wanted(f"early-{n}", f"http://site.test/{n}", "/")], 5.0)
        assert taken.number == n + 1
    await world.request(1)
    assert await world.table.all() == [await world.door.get(4)]
    async with at_work(world):
        for number in (1, 2, 3, 4):
            await world.started(number)
            assert await world.processing() == [number]
            await world.end(number)


async def test_a_number_that_nobody_took_holds_others_back_for_a_moment_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had it died before anything was kept."""
    for module in (turns, dispatching):
        monkeypatch.setattr(module, "GRACE", 0.5)
    async with at_work(world):
        before = time.monotonic()
        assert await numbered(world.log, ["nobody's"]) == [1]
        [number] = await world.request()
        await world.started(number)
        assert time.monotonic() - before >= 0.5
        await world.end(number)
    before = time.monotonic()
    await numbered(world.log, ["another nobody's"])  # just before the next dispatcher comes
    [number] = await world.request()
    async with at_work(world):
        await world.started(number)
        assert time.monotonic() - before >= 0.5


async def test_a_full_disk_starts_nothing_and_is_said(
    make_settings: Callable[..., Settings], redis_url: str, tmpfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits goes on by itself once there is room."""
    monkeypatch.setattr(dispatching, "ROOM_LOOK", 0.1)
    filler = tmpfs / "filler"
    filler.write_bytes(bytes(6 * 2**20))
    settings = make_settings(partitions=4, media_root=tmpfs / "media", disk_hard=4 * 2**20)
    async with world_at(settings, redis_url) as world, at_work(world) as queue:
        await world.request()
        await eventually(queue.warnings, timeout=20)
        [told] = queue.warnings()
        assert str(tmpfs) in told
        assert "SPOOLHOUSE_DISK_HARD" in told
        assert await world.processing() == []
        filler.unlink()
        await world.started(1)
        assert queue.warnings() == []


async def test_it_goes_on_after_redis_was_away(make_settings: Callable[..., Settings], own_redis: RedisServer) -> None:
    """In the same order."""
    async with world_at(make_settings(partitions=4), own_redis.url) as world, at_work(world):
        await world.request(3)
        await world.started(1)
        own_redis.stop()
        await eventually(lambda: is_down(world.log), timeout=20)
        own_redis.start()
        await eventually(world.log.ping, timeout=20)
        await world.end(1)
        await world.started(2)
        await world.end(2)
        await world.started(3)


async def test_two_dispatchers_start_nothing_twice(world: World) -> None:
    """Even where both take themselves for the only one: the log takes the first."""
    await world.request(30)
    async with at_work(world), at_work(world):
        for number in range(1, 31):
            await world.started(number)
            await world.end(number)
    for number in range(1, 31):
        types = [one.type for one in await world.log.history(download_subject(number))]
        assert types == ["DownloadRequested", "DownloadStarted", "DownloadFailed"], number


@contextlib.contextmanager
def _worker(world: World, url: str, name: str, ttl: float) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "tests.processors.dispatching_worker",
        url,
        str(world.settings.data),
        name,
        str(ttl),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait(20)


async def test_when_the_one_that_dispatches_is_killed_another_goes_on_within_its_lease(
    world: World, redis_url: str
) -> None:
    """Of two workers one dispatches at a time."""
    ttl = 1.5
    await world.request(4)
    with _worker(world, redis_url, "one", ttl) as one:
        assert one.stdout is not None
        assert "one dispatches" in await asyncio.to_thread(one.stdout.readline)
        with _worker(world, redis_url, "two", ttl) as two:
            assert two.stdout is not None
            await world.started(1)
            await world.end(1)
            await world.started(2)
            one.kill()
            killed = time.monotonic()
            await world.end(2)
            await world.started(3)
            print(f"the other went on after {time.monotonic() - killed:.2f} s with a lease of {ttl} s")
            assert "two dispatches" in await asyncio.to_thread(two.stdout.readline)
    assert await world.processing() == [3]
