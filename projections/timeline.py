"""What happened, event by event, in words: the history that a person reads.

One row for each event or, where events come in runs, as chunks do, for a run of them: from `ver`
through `last_ver`, `events` of them, told by the newest. Whether an event goes on with a run is
decided by the event before it in its subject alone: so it does not matter how batches were cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Index, Integer, String, Text, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.database import Database
from projections.dialects import upsert_many
from projections.projection import Projection
from projections.summaries import run_key, run_summary, summary
from projections.tables import Tables
from streams.codec import Recorded, shown
from streams.identity import DOWNLOADS_REGISTRY, REGISTRY, SUBSCRIPTIONS_REGISTRY

Row = dict[str, Any]

_REGISTRIES = frozenset({REGISTRY, DOWNLOADS_REGISTRY, SUBSCRIPTIONS_REGISTRY})

timeline = tables.table(
    "timeline",
    Column("subject", tables.identifier(), primary_key=True),
    Column("ver", BigInteger, primary_key=True, autoincrement=False),
    Column("last_ver", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),
    # Place, id, time and cause are those of the first event of a run.
    Column("partition", Integer, nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("id", tables.identifier(), nullable=False),
    Column("time", tables.moment(), nullable=False),
    Column("last_time", tables.moment(), nullable=False),
    Column("type", String(64), nullable=False),
    # What tells its run from others; null where such events come singly.
    Column("run", String(255)),
    Column("source", String(255), nullable=False),
    Column("cause", tables.identifier()),
    Column("summary", Text, nullable=False),
    # The (newest) event's fields as JSON, paths escaped, without what is private.
    Column("data", tables.long_text(), nullable=False),
    Index("ix_timeline_time", "time"),
)


class TimelineProjection(Projection):
    """Writes down every event; the registries' numbers, which say nothing to a person, are left out."""

    name = "timeline"
    version = 2
    tables = (timeline,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """Everything but the registries'."""
        return recorded.subject not in _REGISTRIES

    async def apply(self, conn: AsyncConnection, tables: Tables, events: Sequence[Recorded[Any]]) -> None:
        """One row for each event or run."""
        last = await _last_rows(conn, tables, events)
        rows: dict[tuple[str, int], Row] = {}
        for one in events:
            row = _row(one, last.get(one.subject))
            rows[row["subject"], row["ver"]] = last[one.subject] = row
        # An event's data may have 64 KiB: 200 of them stay below the smallest max_allowed_packet.
        await upsert_many(conn, tables["timeline"], list(rows.values()), batch=200)
        for subject, newest in last.items():
            # What no event can go on with need not be remembered, only that it is so.
            tables.cache.put(subject, None if newest is None or newest["run"] is None else newest)


async def _last_rows(conn: AsyncConnection, tables: Tables, events: Sequence[Recorded[Any]]) -> dict[str, Row | None]:
    """The newest row of each subject whose first event here may go on with a run."""
    rows: dict[str, Row | None] = {}
    missing: list[str] = []
    for one in events:
        if one.subject in rows:
            continue
        known, rows[one.subject] = tables.cache.get(one.subject)
        if not known and one.ver > 1 and run_key(one.event) is not None:
            missing.append(one.subject)
    target = tables["timeline"]
    for start in range(0, len(missing), 500):
        newest = (
            select(target.c.subject, func.max(target.c.ver).label("ver"))
            .where(target.c.subject.in_(missing[start : start + 500]))
            .group_by(target.c.subject)
            .subquery()
        )
        both = (target.c.subject == newest.c.subject) & (target.c.ver == newest.c.ver)
        for found in (await conn.execute(select(target).join(newest, both))).mappings():
            rows[found["subject"]] = dict(found)
    return rows


def _row(recorded: Recorded[Any], before: Row | None) -> Row:
    """The event's row: the one before it, where the event goes on with its run, else its own."""
    event, run = recorded.event, run_key(recorded.event)
    told = {
        "last_ver": recorded.ver,
        "last_time": tables.utc(recorded.time),
        "type": recorded.type,
        "data": shown(event).decode(),
    }
    if run is not None and before is not None and (before["run"], before["last_ver"]) == (run, recorded.ver - 1):
        return {**before, **told, "events": before["events"] + 1, "summary": run_summary(event)}
    return {
        "subject": recorded.subject,
        "ver": recorded.ver,
        "events": 1,
        "partition": recorded.partition,
        "pos": recorded.pos,
        "id": recorded.id,
        "time": told["last_time"],
        "run": run,
        "source": recorded.source[:255],
        "cause": recorded.cause,
        "summary": summary(event),
        **told,
    }


async def history(
    database: Database, subject: str, *, after: int = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """A subject's history, oldest first, beyond version `after`: the table's columns, times aware, `data` decoded.

    A run that went on beyond `after` is among them, whole.
    """
    query = select(timeline).where(timeline.c.subject == subject, timeline.c.last_ver > after).order_by(timeline.c.ver)
    async with database.reading() as conn:
        found = (await conn.execute(query.limit(limit))).mappings()
        return [
            {
                **row,
                "time": tables.aware(row["time"]),
                "last_time": tables.aware(row["last_time"]),
                "data": orjson.loads(row["data"]),
            }
            for row in found
        ]
