"""The next version of a projection: built beside the live one from the whole log, compared, swapped.

There are no migrations: change the code, raise the version, and at the next start this runs by
itself while the former tables go on serving. A build that was interrupted starts over.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Table, inspect, select, tuple_

from projections import checkpoints, versions
from projections.checkpoints import Place
from projections.database import Database
from projections.dialects import rename_tables
from projections.feed import Step, Unreadable, decode, step_id
from projections.projection import Projection
from projections.tables import NEXT, OLD, Tables
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import InapplicableError, UnsupportedCatalogueError
from streams.log import Log

log = structlog.get_logger(__name__)

BATCH = 2000
"""Events of one transaction."""

CACHED = 20_000
"""Rows that a build remembers, so that it need not read them again."""

Differences = list[str]


async def prepare(database: Database, source: Log, projection: Projection, live: Tables) -> bool:
    """Make the live tables where the log is still empty; say whether they have to be built from it.

    To be called under the projection's lock.
    """
    build = versions.build_of(projection)
    names = set(live_names(live))
    async with database.transaction() as conn:
        await conn.run_sync(versions.projections_table.create, checkfirst=True)
        known = projection.name in await versions.versions(conn)
        there = names & set(await conn.run_sync(lambda sync: inspect(sync).get_table_names()))
        if there and not known:
            raise UnsupportedCatalogueError(
                f"the database {database.shown} has tables of ours by name ({', '.join(sorted(there))}) that Spoolhouse did "
                "not make. Rename them, or give Spoolhouse a database of its own."
            )
        if live.checkpoint.name in there:
            stored = (await conn.execute(select(live.checkpoint.c.build).limit(1))).scalar()
            if stored is not None:
                return stored != build or names != there
    epoch = await source.epoch()
    async with database.transaction() as conn:
        await versions.note(conn, projection)
    if any(await source.heads()):
        return True  # a build is faster than following, and shows nothing half-way
    async with database.transaction() as conn:
        if live.checkpoint.name not in there:
            await live.drop(conn)  # what an interrupted first start left behind
        await live.create(conn)
        await checkpoints.begin(conn, live.checkpoint, source.partitions, epoch, build)
    return False


def live_names(tables: Tables) -> list[str]:
    """The names of a version's tables in the database."""
    return [table.name for table in tables.values()]


@dataclass(slots=True)
class Built:
    """What a build did."""

    events: int = 0
    seconds: float = 0.0


class Rebuild:
    """Builds `<table>__next` for one projection, then swaps. To be used under the projection's lock."""

    def __init__(self, source: Log, database: Database, projection: Projection) -> None:
        self._log, self._database, self._projection = source, database, projection
        self.tables = Tables(projection.name, projection.tables, NEXT, CACHED)
        self.built = Built()
        self._places = [Place(0)] * source.partitions
        self._epoch = 0

    async def build(self) -> Built:
        """Make the next version's tables anew and fill them up to the end of the log.

        Raises InapplicableError where an event cannot be applied.
        """
        self._epoch = await self._log.epoch()
        async with self._database.transaction() as conn:
            await self.tables.drop(conn)
            await self.tables.create(conn)
            build = versions.build_of(self._projection)
            await checkpoints.begin(conn, self.tables.checkpoint, self._log.partitions, self._epoch, build)
        async with self._database.transaction() as conn:
            await self._projection.opened(conn, self.tables)
        log.info("rebuild began", projection=self._projection.name, version=self._projection.version)
        while await self.catch_up() > BATCH:
            pass
        log.info("rebuild caught up", projection=self._projection.name, events=self.built.events)
        return self.built

    @property
    def positions(self) -> list[int]:
        """Applied up to here, for each partition."""
        return [place.pos for place in self._places]

    async def catch_up(self, heads: Sequence[int] | None = None) -> int:
        """Apply what the log holds (up to `heads`) beyond what was applied; how many events that were."""
        began, before = time.monotonic(), self.built.events
        heads = heads or await self._log.heads()
        batches = self._by_time(heads) if self._projection.ordered else self._by_partition(heads)
        # The next batch is fetched and decoded while the database works on this one.
        following = asyncio.ensure_future(anext(batches, None))
        try:
            while (steps := await following) is not None:
                following = asyncio.ensure_future(anext(batches, None))
                await self._apply(steps)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await batches.aclose()
        self.built.seconds += time.monotonic() - began
        return self.built.events - before

    async def swap(self, live: Tables) -> None:
        """Take the live tables' place, in one step; theirs are kept as `…__old` until the next rebuild.

        Nothing may be applied to the live tables in the meantime.
        """
        await self.catch_up()
        await self._projection.before_swap(self._database, live, self.tables)
        reach("rebuild.before_swap")
        async with self._database.transaction() as conn:
            # Asked first: an SQLite connection whose idea of the schema is stale refuses names that are free.
            there = set(await conn.run_sync(lambda sync: inspect(sync).get_table_names()))
            await Tables(self._projection.name, self._projection.tables, OLD).drop(conn)
            away = [(name, name + OLD) for name in live_names(live) if name in there]
            in_place = [(table.name, name) for name, table in self.tables.items()]
            await rename_tables(conn, [*away, *in_place])
        reach("rebuild.swapped")
        async with self._database.transaction() as conn:
            await versions.note(conn, self._projection)
        live.cache.clear()
        log.info("rebuild swapped in", projection=self._projection.name, events=self.built.events)

    async def _apply(self, steps: Sequence[Step]) -> None:
        places = list(self._places)
        events: list[Recorded[Any]] = []
        for step in steps:
            if isinstance(step, Unreadable):
                if step.ours:
                    raise InapplicableError(
                        f"entry {step.pos} of partition {step.partition:02d} is ours but cannot be read: {step.reason}"
                    )
            elif self._projection.wants(step):
                events.append(step)
            places[step.partition] = Place(step.pos, step_id(step))
        moves = {
            partition: (last, place)
            for partition, (last, place) in enumerate(zip(self._places, places, strict=True))
            if last != place
        }
        build = versions.build_of(self._projection)
        async with self._database.transaction() as conn:
            await checkpoints.advance(conn, self.tables.checkpoint, self._epoch, build, moves)
            if events:
                await self._projection.apply(conn, self.tables, events)
        reach("rebuild.batch")
        self._places = places
        self.built.events += len(steps)

    async def _by_partition(self, heads: Sequence[int]) -> AsyncGenerator[list[Step], None]:
        for partition, head in enumerate(heads):
            after = self._places[partition].pos
            while after < head and (steps := await self._fetch(partition, after, head, BATCH)):
                after = steps[-1].pos
                yield steps

    async def _by_time(self, heads: Sequence[int]) -> AsyncGenerator[list[Step], None]:
        streams = [self._steps(partition, head) for partition, head in enumerate(heads)]
        waiting: list[tuple[str, int, Step]] = []

        async def pull(partition: int) -> None:
            if (step := await anext(streams[partition], None)) is not None:
                at = "" if isinstance(step, Unreadable) else step.time.isoformat(timespec="microseconds")
                heapq.heappush(waiting, (at, partition, step))

        for partition in range(len(streams)):
            await pull(partition)
        batch: list[Step] = []
        while waiting:
            _, partition, step = heapq.heappop(waiting)
            batch.append(step)
            if len(batch) == BATCH:
                yield batch
                batch = []
            await pull(partition)
        if batch:
            yield batch

    async def _steps(self, partition: int, head: int) -> AsyncGenerator[Step, None]:
        after = self._places[partition].pos
        while after < head and (steps := await self._fetch(partition, after, head, 200)):
            for step in steps:
                yield step
            after = steps[-1].pos

    async def _fetch(self, partition: int, after: int, head: int, count: int) -> list[Step]:
        entries = await self._log.read(partition, after=after, count=count)
        return [await decode(self._log, entry) for entry in entries if entry.pos <= head]


async def compare(database: Database, live: Table, following: Table, limit: int = 100) -> Differences:
    """What differs between two tables, row for row, in words; at most `limit` differences."""
    differences: Differences = []
    keys = [column.name for column in live.primary_key]
    ours, theirs = _rows(database, live), _rows(database, following)
    left, right = await anext(ours, None), await anext(theirs, None)
    while (left is not None or right is not None) and len(differences) < limit:
        left_key = None if left is None else tuple(left[key] for key in keys)
        right_key = None if right is None else tuple(right[key] for key in keys)
        if right_key is None or (left_key is not None and left_key < right_key):
            differences.append(f"{live.name}: {left_key} is only in the live table")
            left = await anext(ours, None)
        elif left_key is None or right_key < left_key:
            differences.append(f"{live.name}: {right_key} is only in the rebuilt table")
            right = await anext(theirs, None)
        else:
            assert left is not None
            assert right is not None
            for name in left:
                if left[name] != right[name]:
                    differences.append(f"{live.name}: {left_key}: {name} is {left[name]!r}, rebuilt {right[name]!r}")
            left, right = await anext(ours, None), await anext(theirs, None)
    await ours.aclose()
    await theirs.aclose()
    return differences


async def _rows(database: Database, table: Table) -> AsyncGenerator[dict[str, Any], None]:
    """A table's rows by primary key, a thousand at a time."""
    keys = list(table.primary_key)
    last: tuple[Any, ...] | None = None
    while True:
        query = select(table).order_by(*keys).limit(1000)
        if last is not None:
            query = query.where(tuple_(*keys) > tuple_(*last))
        async with database.reading() as conn:
            rows = (await conn.execute(query)).mappings().all()
        for row in rows:
            yield dict(row)
        if not rows:
            return
        last = tuple(rows[-1][column.name] for column in keys)
