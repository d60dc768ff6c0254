"""Where a member believes its group to stand, when it is wrong about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from streams.codec import Recorded
from streams.events import Event
from streams.keys import partition_of
from streams.log import Log, open_log
from streams.processing import Context
from streams.settings import Settings
from tests.servers import RedisServer, TcpProxy
from tests.streams.driving import answering, eventually, numbered, pending, working


async def _reads(server: Log) -> int:
    found = await server.redis.info("commandstats")
    return int(found.get("cmdstat_xreadgroup", {}).get("calls", 0))


async def test_a_lost_reply_leaves_no_member_reading_for_ever(
    settings: Settings, redis_server: RedisServer, log: Log
) -> None:
    """What a lost reply held comes from the pending entries; after that there is nothing to ask for."""
    seen: list[Recorded[Any]] = []

    async def silent(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        seen.append(event)
        for one in list[Event]():
            yield one

    async with TcpProxy("127.0.0.1", redis_server.port) as proxy, working(silent, settings, proxy.redis_url) as host:
        await eventually(lambda: len(host.consumer.owned) == 4)
        await eventually(lambda: all(owned.rescan is None for owned in host.consumer.owned.values()))
        dropped = proxy.dropped
        proxy.drop_reply(b"XREADGROUP")
        await log.append(numbered("video-0", 0))
        await eventually(lambda: proxy.dropped > dropped and len(seen) == 1)
        partition = partition_of("video-0", 4)
        await eventually(lambda: host.consumer.owned[partition].rescan is None)
        before = await _reads(log)
        await asyncio.sleep(1)
        assert await _reads(log) - before < 20


async def test_entries_deleted_from_the_end_leave_no_member_reading_for_ever(
    settings: Settings, log: Log, redis_url: str
) -> None:
    """XDEL of what was not delivered yet: there is nothing to ask for, and what comes next is handled."""
    seen: list[Recorded[Any]] = []
    async with working(answering(seen), settings, redis_url) as host:
        await eventually(lambda: len(host.consumer.owned) == 4)
        owned = host.consumer.owned[partition_of("video-0", 4)]
        owned.paused = True
        placed = await log.append_all([numbered("video-0", n) for n in range(3)])
        await log.redis.xdel(log.keys.log(owned.partition), *(f"{one.pos}-0" for one in placed))
        host.consumer.resume(owned)
        await eventually(lambda: owned.asked_until == 3)
        before = await _reads(log)
        await asyncio.sleep(1)
        assert await _reads(log) - before < 20
        await log.append(numbered("video-0", 3))
        await eventually(lambda: [int(event.event.video) for event in seen] == [3])


async def test_a_log_that_lost_its_tail_is_read_on_from_where_it_ends(
    settings: Settings, own_redis: RedisServer
) -> None:
    """Redis is back within the lease, with less than it had: what comes now is not taken for what was."""
    seen: list[int] = []
    running, go_on = asyncio.Event(), asyncio.Event()

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        number = int(event.event.video)
        if number == 50:  # at work while its entry is lost, and a new one takes its position
            running.set()
            await go_on.wait()
        seen.append(number)
        for one in list[Event]():
            yield one

    async with open_log(settings, own_redis.url) as log, working(handle, settings, own_redis.url):
        await log.append_all([numbered("video-0", n) for n in range(5)])
        await eventually(lambda: len(seen) == 5)
        await eventually(lambda: _nothing_pending(log))
        [incremental] = [path for path in own_redis.aof_files if ".incr." in path.name]
        size = incremental.stat().st_size
        await log.append_all([numbered("video-0", n) for n in range(5, 51)])
        await running.wait()
        own_redis.kill()
        with incremental.open("r+b") as file:
            file.truncate(size)
        own_redis.start()
        lasting = [numbered("video-0", n) for n in range(100, 160)]
        await log.append_all(lasting)
        await asyncio.sleep(0)
        go_on.set()
        await eventually(lambda: set(range(100, 160)) <= set(seen))
        assert [n for n in seen if n >= 100] == sorted({n for n in seen if n >= 100})
        await eventually(lambda: _nothing_pending(log))


async def _nothing_pending(log: Log) -> bool:
    return await pending(log) == 0
