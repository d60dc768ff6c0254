"""Consuming: group members beside a bare loop over the same streams, and processors beside FastStream.

On both sides a handler gets a typed event and is acknowledged when it ends. The targets hold for the
Redis that the log asks for (`appendfsync always`); the other is told for comparison.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from redis.asyncio import Redis

from scripts.bench_parts import worlds
from scripts.bench_parts.happenings import stored_videos
from scripts.bench_parts.processes import in_child
from scripts.bench_parts.rows import Row, Size, in_turns, rate_row
from streams.background import running
from streams.codec import Recorded
from streams.connections import connect
from streams.entries import NewEvent
from streams.events import Event
from streams.faust.hosting import hosted_by_faust
from streams.groups import GroupConsumer
from streams.hosting import hosted
from streams.log import Log, open_log
from streams.processing import Context, First, Processor
from streams.settings import Settings

PARTITIONS = 16
COUNT = 200
"""Entries of a partition that one read asks for, on every side."""

TIMEOUT = 300.0
STREAM = "faststream:events"


def run(size: Size) -> list[Row]:
    """The peers take the same events, each side in a fresh process and in turns."""
    rows: list[Row] = []
    with worlds.folder("groups") as place:
        settings = worlds.settings(place, partitions=PARTITIONS)
        for fsync in ("always", "everysec"):
            with worlds.redis(place, fsync) as server:
                rows += _beside_peers(size, settings, server.url, fsync)
    return rows


def _beside_peers(size: Size, settings: Settings, url: str, fsync: str) -> list[Row]:
    count, few = size.of(200, 20_000, 50_000), size.of(200, 4_000, 10_000)
    rounds = size.of(1, 3, 5)
    in_child(_fill, settings, url, count)

    def rate(kind: str, number: int) -> float:
        return in_child(_measured, kind, settings, url, number)

    rows = []
    if fsync == "always":  # what the log asks for, and what is promised
        group, bare = in_turns(rounds, lambda: rate("group", count), lambda: rate("bare", count))
        what = "a group member takes and acknowledges (peer: bare XREADGROUP and XACK)"
        rows.append(rate_row(what, group, bare, "entries/s", 0.5))
    core, by_faust, peer = in_turns(
        rounds, lambda: rate("core", count), lambda: rate("faust", few), lambda: rate("faststream", few)
    )
    beside = f"`appendfsync {fsync}` (peer: FastStream's stream subscriber)"
    promised = fsync == "always"
    rows.append(rate_row(f"a processor on the core, {beside}", core, peer, "events/s", 10 if promised else None))
    rows.append(rate_row(f"a processor hosted by Faust, {beside}", by_faust, peer, "events/s", 3 if promised else None))
    return rows


async def _fill(settings: Settings, url: str, count: int) -> None:
    news = stored_videos(count)
    async with open_log(settings, url) as log:
        for start in range(0, count, 2000):
            await log.append_all(news[start : start + 2000], timeout=60)
        await _fill_plainly(log.redis, news)


async def _fill_plainly(redis: Redis, news: Sequence[NewEvent]) -> None:
    """For FastStream: one stream with the same data, in the field that it reads."""
    for start in range(0, len(news), 2000):
        pipeline = redis.pipeline(transaction=False)
        for new in news[start : start + 2000]:
            pipeline.execute_command("XADD", STREAM, "*", "__data__", new.arguments()[8])
        await pipeline.execute()


async def _measured(kind: str, settings: Settings, url: str, count: int) -> float:
    """Events a second from the first to the last of `count`; the group is new."""
    redis = connect(url)
    try:
        if kind == "faststream":
            return await _faststream(redis, url, count)
        if kind == "bare":
            return await _bare(redis, settings, count)
        async with open_log(settings, url) as log:
            group = f"bench-{time.time_ns()}"
            return await (
                _group(log, group, count) if kind == "group" else _processor(kind, log, settings, group, count)
            )
    finally:
        await redis.aclose()


class _VideoStored(BaseModel):
    """`streams.events.VideoStored` as FastStream's users write it."""

    door: str
    path: str
    stored_name: str
    filename: str
    original_name: str
    label: str
    mime: str
    size: int
    sha256: str
    received_at: datetime
    modified_at: datetime
    duration_receiving: float = 0.0
    damaged: str | None = None
    adopted: bool = False
    client_id: str | None = None
    revision: int = 1


class _Clock:
    """Measures from the first event to the last."""

    def __init__(self, count: int) -> None:
        self._left = self._count = count
        self._began = 0.0
        self.rate: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def tick(self, by: int = 1) -> None:
        if not self._began:
            self._began = time.perf_counter()
        self._left -= by
        if self._left <= 0 and not self.rate.done():
            self.rate.set_result(self._count / (time.perf_counter() - self._began))


async def _bare(redis: Redis, settings: Settings, count: int) -> float:
    """Nothing but the commands, and nothing is done with what comes."""
    group = f"bench-{time.time_ns()}"
    logs = [f"{settings.namespace}:{{{number:02d}}}:log" for number in range(PARTITIONS)]
    for log in logs:
        await redis.xgroup_create(log, group, "0")
    began, left = time.perf_counter(), count
    while left > 0:
        found: Any = await redis.xreadgroup(group, "bench", dict.fromkeys(logs, ">"), count=COUNT)
        pipeline = redis.pipeline(transaction=False)
        for log, entries in found:
            pipeline.xack(log, group, *[entry_id for entry_id, _ in entries])
            left -= len(entries)
        await pipeline.execute()
    return count / (time.perf_counter() - began)


async def _group(log: Log, group: str, count: int) -> float:
    consumer = GroupConsumer(log.redis, log.keys, log.reader, log.partitions, group, "bench", ttl=10)
    async with running(consumer.run()):
        while len(consumer.owned) < log.partitions:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        clock = _Clock(count)
        clock.tick(0)
        while not clock.rate.done():
            deliveries = await consumer.fetch(COUNT, 5.0)
            for delivery in deliveries:
                consumer.ack(delivery)
            clock.tick(len(deliveries))
        await consumer.flush()
        await consumer.stop()
        return await clock.rate


async def _processor(kind: str, log: Log, settings: Settings, group: str, count: int) -> float:
    clock = _Clock(count)

    async def handle(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:  # noqa: ARG001
        clock.tick()
        return
        yield

    processor = Processor(group, frozenset({"VideoStored"}), handle)
    async with (hosted_by_faust if kind == "faust" else hosted)(processor, log, {}, settings, "bench"):
        async with asyncio.timeout(TIMEOUT):
            return await clock.rate


async def _faststream(redis: Redis, url: str, count: int) -> float:
    from faststream.redis import RedisBroker, StreamSub

    group = f"bench-{time.time_ns()}"
    await redis.xgroup_create(STREAM, group, "0")
    clock = _Clock(count)
    broker = RedisBroker(url, logger=logging.getLogger("faststream"), log_level=logging.DEBUG)

    @broker.subscriber(stream=StreamSub(STREAM, group=group, consumer="bench", max_records=COUNT, last_id=">"))
    async def handle(body: _VideoStored) -> None:  # noqa: ARG001
        clock.tick()

    async with broker:
        await broker.start()
        async with asyncio.timeout(TIMEOUT):
            return await clock.rate
