"""How fast projections are, beside one explicit multi-row upsert of the same rows in the same run."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.catalogue import catalogue
from projections.database import open_database
from projections.projection import discover
from projections.runner import Runner
from projections.tables import Tables
from streams.log import open_log
from streams.settings import Settings
from tests.projections.happenings import Happenings


@dataclass(frozen=True, slots=True)
class Speed:
    """Events or rows a second."""

    upsert: float
    """An explicit multi-row upsert with bound parameters, 500 rows each, one transaction for 2000."""
    live: float
    """The catalogue following a log that is appended to all the time."""
    rebuild: float
    """The catalogue built anew."""


async def measure(settings: Settings, redis_url: str, events: int, names: tuple[str, ...] = ("catalogue",)) -> Speed:
    """Measure on these servers."""
    async with open_log(settings, redis_url) as log, open_database(settings) as database:
        happenings = Happenings(log, random.Random(1))
        chosen = [one for one in discover(settings) if one.name in names]
        runner = Runner(log, database, chosen)
        task = asyncio.create_task(runner.run())
        try:
            assert await runner.caught_up(30)
            began = time.perf_counter()
            # Appended in one go before the follower looks: what is measured is the follower.
            await happenings.uploads_many(events)
            assert await runner.caught_up(300)
            ended = time.perf_counter()
            live = events / (ended - began)
            began = time.perf_counter()
            await runner.rebuild(names[:1])
            rebuild = events / (time.perf_counter() - began)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        explicit = Tables("baseline", [catalogue], "_baseline")
        async with database.transaction() as conn:
            await explicit.drop(conn)
            await explicit.create(conn)
            rows = [dict(row) for row in (await conn.execute(catalogue.select().limit(events))).mappings()]
        began = time.perf_counter()
        for start in range(0, len(rows), 2000):
            async with database.transaction() as conn:
                for at in range(start, start + 2000, 500):
                    await _upsert(conn, explicit["catalogue"], rows[at : at + 500])
        upsert = len(rows) / (time.perf_counter() - began)
        async with database.transaction() as conn:
            await explicit.drop(conn)
    return Speed(upsert, live, rebuild)


async def _upsert(conn: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """What one would write by hand."""
    if rows:
        names = list(rows[0])
        row = f"({', '.join(['%s'] * len(names))})"
        text = (
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * len(rows))} "
            f"ON DUPLICATE KEY UPDATE {', '.join(f'{name} = VALUES({name})' for name in names)}"
        )
        await conn.exec_driver_sql(text, tuple(chain.from_iterable(each.values() for each in rows)))
