"""What happened, event by event, in words: the history that a person reads.

One row for each event, or (later, for events that come in runs, as chunks do) for a run of them:
from `ver` through `last_ver`, `events` of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Index, Integer, String, Text, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.database import Database
from projections.dialects import upsert_many
from projections.projection import Projection
from projections.summaries import summary
from projections.tables import Tables
from streams.codec import Recorded, shown
from streams.identity import REGISTRY

timeline = tables.table(
    "timeline",
    Column("subject", tables.identifier(), primary_key=True),
    Column("ver", BigInteger, primary_key=True, autoincrement=False),
    Column("last_ver", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("id", tables.identifier(), nullable=False),
    Column("time", tables.moment(), nullable=False),
    Column("type", String(64), nullable=False),
    Column("source", String(255), nullable=False),
    Column("cause", tables.identifier()),
    Column("summary", Text, nullable=False),
    # The event's fields as JSON, paths escaped.
    Column("data", tables.long_text(), nullable=False),
    Index("ix_timeline_time", "time"),
)


class TimelineProjection(Projection):
    """Writes down every event; the registry's numbers, which say nothing to a person, are left out."""

    name = "timeline"
    version = 1
    tables = (timeline,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """Everything but the registry's."""
        return recorded.subject != REGISTRY

    async def apply(self, conn: AsyncConnection, tables: Tables, events: Sequence[Recorded[Any]]) -> None:
        """One row for each."""
        # An event's data may have 64 KiB: 200 of them stay below the smallest max_allowed_packet.
        await upsert_many(conn, tables["timeline"], [_row(one) for one in events], batch=200)


def _row(recorded: Recorded[Any]) -> dict[str, Any]:
    return {
        "subject": recorded.subject,
        "ver": recorded.ver,
        "last_ver": recorded.ver,
        "events": 1,
        "partition": recorded.partition,
        "pos": recorded.pos,
        "id": recorded.id,
        "time": tables.utc(recorded.time),
        "type": recorded.type,
        "source": recorded.source[:255],
        "cause": recorded.cause,
        "summary": summary(recorded.event),
        "data": shown(recorded.event).decode(),
    }


async def history(
    database: Database, subject: str, *, after: int = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """A subject's history, oldest first, beyond version `after`: the table's columns, `time` aware, `data` decoded."""
    query = select(timeline).where(timeline.c.subject == subject, timeline.c.ver > after).order_by(timeline.c.ver)
    async with database.reading() as conn:
        found = (await conn.execute(query.limit(limit))).mappings()
        return [{**row, "time": tables.aware(row["time"]), "data": orjson.loads(row["data"])} for row in found]
