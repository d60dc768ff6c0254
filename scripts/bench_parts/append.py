"""Appending: batches through `Log.append_all` beside pipelines of plain XADD with the same fields."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from scripts.bench_parts import worlds
from scripts.bench_parts.happenings import stored_videos
from scripts.bench_parts.processes import run_loop
from scripts.bench_parts.rows import Row, Size, rate_row
from streams.entries import NewEvent
from streams.keys import partition_of
from streams.log import open_log
from streams.settings import Settings

BATCH = 2000
PARTITIONS = 16
NAMES = (b"id", b"type", b"subject", b"time", b"source", b"cause", b"corr", b"sv", b"data")


def run(size: Size) -> list[Row]:
    """One row for each way in which Redis makes its file durable."""
    news = stored_videos(size.of(200, 10_000, 20_000))
    rounds = size.of(1, 5, 7)
    rows = []
    with worlds.folder("append") as place:
        settings = worlds.settings(place, partitions=PARTITIONS)
        for fsync in ("always", "everysec"):
            with worlds.redis(place, fsync) as server:
                ours, peer = run_loop(_measured, settings, server.url, news, rounds)
            what = f"append in batches, `appendfsync {fsync}` (peer: the same fields by pipelined XADD)"
            rows.append(rate_row(what, ours, peer, "events/s", 0.5))
    return rows


async def _measured(
    settings: Settings, url: str, news: Sequence[NewEvent], rounds: int
) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    peer: list[float] = []
    plain = Redis.from_url(url)
    fields = [_flat(new) for new in news]
    try:
        for _ in range(rounds):
            await plain.flushall()
            async with open_log(settings, url) as log:
                began = time.perf_counter()
                for start in range(0, len(news), BATCH):
                    await log.append_all(news[start : start + BATCH])
                ours.append(len(news) / (time.perf_counter() - began))
            await plain.flushall()
            peer.append(await _plainly(plain, fields))
    finally:
        await plain.aclose()
    return ours, peer


async def _plainly(plain: Redis, fields: Sequence[tuple[str, list[Any]]]) -> float:
    """The peer: everything is encoded beforehand, only the sending counts."""
    began = time.perf_counter()
    for start in range(0, len(fields), BATCH):
        pipeline = plain.pipeline(transaction=False)
        for key, flat in fields[start : start + BATCH]:
            pipeline.execute_command("XADD", key, "*", *flat)
        await pipeline.execute()
    return len(fields) / (time.perf_counter() - began)


def _flat(new: NewEvent) -> tuple[str, list[Any]]:
    """The key and the fields of an entry as the log writes them."""
    flat: list[Any] = [b"ver", b"1"]
    for name, value in zip(NAMES, new.arguments(), strict=False):
        flat += (name, value)
    return f"plain:{{{partition_of(new.subject, PARTITIONS):02d}}}", flat
